"""A disk that is served writable: what clients write is theirs until the end, and then gone."""

from __future__ import annotations

import json
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbd
import pytest

from sendense.errors import NotFound
from sendense.serving import mounting
from sendense.units import MIB
from tests.integration.serving.site import SIZE, connected, run, uri
from tests.support.points import BLOCK, noise


def test_without_an_overlay_nobody_writes(dedup):
    expected = dedup.fill()["p1", "vda"]
    with dedup.served("p1") as server, connected(uri(server)) as client:
        assert client.is_read_only()
        with pytest.raises(nbd.Error):
            client.pwrite(b"x", 0)
        assert client.pread(1, 0) == expected[:1]


def test_what_is_written_is_read_and_then_gone(either):
    contents = either.fill()
    before = either.objects()
    expected = bytearray(contents["p2", "vda"])
    with either.served("p2", overlay_dir=either.overlays) as server:
        assert server.mount.writable
        address = uri(server)
        with connected(address) as first, connected(address) as second:
            first.pwrite(noise(3 * BLOCK, 30), 2 * BLOCK + 4096)
            second.zero(MIB, 5 * MIB + 10)
            first.trim(BLOCK, 9 * MIB)
            second.pwrite(b"end", SIZE - 3, flags=nbd.CMD_FLAG_FUA)
            first.flush()
            expected[2 * BLOCK + 4096 : 5 * BLOCK + 4096] = noise(3 * BLOCK, 30)
            expected[5 * MIB : 6 * MIB + 10] = bytes(MIB + 10)
            expected[9 * MIB : 9 * MIB + BLOCK] = bytes(BLOCK)
            expected[-3:] = b"end"
            assert second.pread(BLOCK, 3 * BLOCK) == expected[3 * BLOCK : 4 * BLOCK]
        target = either.folder / "copy.raw"
        run("nbdcopy", address, str(target))
        assert target.read_bytes() == expected
        assert list(either.overlays.iterdir()) == []
    with either.served("p2") as server:
        run("nbdcopy", uri(server), str(target))
        assert target.read_bytes() == contents["p2", "vda"]
    assert either.objects() == before


def test_overlays_of_disks_do_not_mix(dedup):
    contents = dedup.fill()
    with (
        dedup.served("p1", overlay_dir=dedup.overlays) as server,
        connected(uri(server)) as vda,
        connected(uri(server, "vdb")) as vdb,
    ):
        vda.pwrite(b"only in vda", 0)
        assert vdb.pread(11, 0) == contents["p1", "vdb"][:11]
        assert vda.pread(11, 0) == b"only in vda"


def test_two_mounts_do_not_see_each_other(dedup):
    contents = dedup.fill()
    with (
        dedup.served("p1", overlay_dir=dedup.overlays) as first,
        dedup.served("p1", overlay_dir=dedup.overlays) as second,
        connected(uri(first)) as writer,
        connected(uri(second)) as reader,
    ):
        writer.pwrite(bytes(100), 0)
        assert reader.pread(100, 0) == contents["p1", "vda"][:100]


def test_many_write_at_once(dedup):
    expected = bytearray(dedup.fill()["p1", "vda"])
    share = 4096
    with dedup.served("p1", overlay_dir=dedup.overlays) as server:
        address = uri(server)

        def write(number):
            rng = random.Random(number)
            mine = [at for at in range(0, SIZE - share, share) if at // share % 4 == number]
            with connected(address) as client:
                written = {at: rng.randbytes(share) for at in rng.sample(mine, 100)}
                for at, content in written.items():
                    client.pwrite(content, at)
            return written

        with ThreadPoolExecutor(4) as pool:
            for written in pool.map(write, range(4)):
                for at, content in written.items():
                    expected[at : at + share] = content
        target = dedup.folder / "copy.raw"
        run("nbdcopy", address, str(target))
        assert target.read_bytes() == expected


def test_extents_follow_what_is_written(dedup):
    dedup.fill()
    with dedup.served("p1", overlay_dir=dedup.overlays) as server:
        with connected(uri(server, "vdb")) as client:
            client.pwrite(b"x", 2 * MIB + BLOCK)
            client.zero(MIB, MIB)
        found = json.loads(run("nbdinfo", "--map", "--json", uri(server, "vdb")))
        filled = [(item["offset"], item["length"]) for item in found if not item["type"]]
        assert filled == [(2 * MIB + BLOCK, BLOCK)]


def test_a_file_system_is_made_and_used(dedup):
    """As a guest would: with QEMU's own client."""
    dedup.fill()
    with dedup.served("p1", overlay_dir=dedup.overlays) as server:
        commands = ["write -P 7 1M 200k", "discard 0 1M", "read -P 7 1M 200k", "read -P 0 0 1M"]
        words = [word for item in commands for word in ("-c", item)]
        said = run("qemu-io", "-f", "raw", *words, uri(server))
        assert "Pattern verification failed" not in said
        assert said.count("ops;") == len(commands)


def test_a_folder_for_overlays_that_is_not_there(dedup):
    dedup.fill()
    with pytest.raises(NotFound):
        mounting.start(dedup.order("p1", overlay_dir=dedup.folder / "gone"))
    assert list(dedup.root.iterdir()) == []


def test_a_full_file_system_is_an_error_of_the_client_alone(dedup):
    expected = dedup.fill()["p1", "vda"]
    small = dedup.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", str(small)], check=True)
    try:
        with dedup.served("p1", overlay_dir=small) as server, connected(uri(server)) as client:
            with pytest.raises(nbd.Error, match="ENOSPC"):
                client.pwrite(noise(2 * MIB), 4 * MIB)
            assert client.pread(BLOCK, 0) == expected[:BLOCK]
            error = server.end().error("p1")
            assert error is not None
            assert "No space left" in error.message
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert Path(small).is_dir()
