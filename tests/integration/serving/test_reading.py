"""What clients read of a point that is served is what was stored, byte by byte."""

from __future__ import annotations

import json
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nbd
import pytest

from sendense.repository.dedup.collecting.running import collect
from sendense.serving import mounting
from sendense.storage.urls import open_store
from sendense.units import MIB
from tests.integration.serving.site import (
    FULL_A,
    SIZE,
    VDA,
    Site,
    connected,
    over,
    run,
    uri,
)
from tests.support.collecting import AT_ONCE
from tests.support.dedup import copied
from tests.support.points import BLOCK, Write, data, noise, store
from tests.support.s3_servers import CREDENTIALS, moto_server

ZERO = 3
"""Hole and zero, in an answer about extents."""


def test_programs_read_it(site):
    contents = site.fill()
    target = site.folder / "copy.raw"
    for point in ("p1", "p2"):
        with site.served(point) as server:
            for item in server.mount.disks:
                expected = contents[point, item.target]
                facts = json.loads(run("qemu-img", "info", "--output=json", item.uri))
                assert facts["virtual-size"] == item.size == len(expected)
                run("qemu-img", "convert", "-O", "raw", item.uri, str(target))
                assert target.read_bytes()[: item.size] == expected
                run("nbdcopy", item.uri, str(target))
                assert target.read_bytes() == expected
                target.unlink()


def test_random_reads_on_four_connections(either):
    contents = either.fill()
    expected = contents["p2", "vda"]

    def read(seed):
        rng = random.Random(seed)
        with connected(address) as client:
            for _ in range(150):
                offset = rng.randrange(SIZE)
                length = min(rng.choice([1, 512, 4096, BLOCK, 300_000]), SIZE - offset)
                assert client.pread(length, offset) == expected[offset : offset + length]
        return True

    with either.served("p2") as server, ThreadPoolExecutor(4) as pool:
        address = uri(server)
        assert all(pool.map(read, range(4)))


def test_exports_are_named_by_their_targets(dedup):
    contents = dedup.fill()
    with dedup.served("p1") as server:
        listed = json.loads(run("nbdinfo", "--list", "--json", uri(server)))["exports"]
        assert [(item["export-name"], item["export-size"]) for item in listed] == [
            ("vda", SIZE),
            ("vdb", 3 * MIB),
        ]
        assert listed[0]["is_read_only"]
        assert listed[0]["can_multi_conn"]
        assert listed[0]["description"] == VDA.path
        with connected(uri(server).replace("/vda?", "?")) as client:
            assert client.get_size() == SIZE
            assert client.pread(100, 0) == contents["p1", "vda"][:100]
        with pytest.raises(nbd.Error):
            nbd.NBD().connect_uri(uri(server).replace("/vda?", "/vdz?"))


def test_one_disk_of_several(dedup):
    dedup.fill()
    order = dedup.order("p1")
    with mounting.start(replace(order, disks=order.disks[1:])) as server:
        assert [item.target for item in server.mount.disks] == ["vdb"]
        with connected(uri(server, "vdb").replace("/vdb?", "?")) as client:
            assert client.get_size() == 3 * MIB


def test_what_is_zero_is_said(either):
    either.fill()
    with either.served("p2") as server:
        found = json.loads(run("qemu-img", "map", "--output=json", uri(server)))
        expected = over(FULL_A)
        zero = [item for item in found if item["zero"]]
        assert sum(item["length"] for item in found) >= SIZE
        assert {(MIB, MIB)} <= {(item["start"], item["length"]) for item in zero}
        for item in zero:
            if item["start"] >= 4 * MIB:
                assert not any(expected[item["start"] : item["start"] + item["length"]][: 2 * MIB])


@pytest.mark.parametrize("kind", ["dedup", "chain"])
def test_a_tebibyte_with_little_in_it(tmp_path, kind):
    size, place = 1 << 40, (1 << 40) - 5 * MIB
    with Site(tmp_path, kind) as site:
        chunks = (data(0, noise(BLOCK)), data(place, noise(MIB, 1)))
        store(site.repository, "p1", Write(VDA, size, chunks))
        with site.served("p1") as server:
            began = time.monotonic()
            found = json.loads(run("nbdinfo", "--map", "--json", uri(server)))
            filled = [(item["offset"], item["length"]) for item in found if item["type"] != ZERO]
            assert filled == [(0, BLOCK), (place, MIB)]
            target = tmp_path / "copy.raw"
            run("nbdcopy", uri(server), str(target))
            assert time.monotonic() - began < 120
            assert target.stat().st_size == size
            assert target.stat().st_blocks * 512 < 8 * MIB
            with target.open("rb") as file:
                file.seek(place)
                assert file.read(MIB) == noise(MIB, 1)


def test_several_servers_of_one_point(dedup):
    expected = dedup.fill()["p1", "vda"]
    with dedup.served("p1") as first, dedup.served("p1") as second:
        assert first.mount.address != second.mount.address
        for server in (first, second):
            with connected(uri(server)) as client:
                assert client.pread(4096, 0) == expected[:4096]


def test_a_collection_of_garbage_meanwhile_takes_nothing_away(dedup):
    expected = dedup.fill()["p2", "vda"]
    other = dedup.reopen()
    with dedup.served("p2") as server, connected(uri(server)) as client:
        assert client.pread(BLOCK, 0) == expected[:BLOCK]
        other.delete(["p1"])
        for _ in range(2):
            collect(other, AT_ONCE)
        for offset in range(0, SIZE, BLOCK):
            length = min(BLOCK, SIZE - offset)
            assert client.pread(length, offset) == expected[offset : offset + length]
    other.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dedup", "chain"])
def test_memory_is_bounded(tmp_path, kind):
    size = 1 << 30
    with Site(tmp_path, kind) as site:
        chunks = tuple(data(at, noise(MIB, at >> 20)) for at in range(0, size, MIB))
        store(site.repository, "p1", Write(VDA, size, chunks))
        with site.served("p1") as server:
            run("nbdcopy", uri(server), "null:")
            status = Path(f"/proc/{server.mount.process.pid}/status").read_text()
            most = re.search(r"VmHWM:\s+(\d+) kB", status)
            assert most is not None
            assert int(most.group(1)) < 256 * 1024


def test_a_point_in_a_bucket(tmp_path):
    with moto_server() as server, Site(tmp_path, "dedup") as source:
        contents = source.fill()
        server.make_bucket("backup")
        access = replace(source.access, credentials=CREDENTIALS)
        url = server.url("backup", "here", path_style="true")
        bucket = open_store(url, CREDENTIALS)
        copied(open_store(str(source.place)), bucket)
        bucket.close()
        order = replace(source.order("p2"), url=url, access=access)
        with mounting.start(order) as served:
            target = tmp_path / "copy.raw"
            run("nbdcopy", uri(served), str(target))
            assert target.read_bytes() == contents["p2", "vda"]
