"""What is damaged gives an error, at its place and there only; never wrong bytes."""

from __future__ import annotations

import errno

import nbd
import pytest

from sendense.errors import Damaged
from sendense.units import MIB
from tests.contract.repository_content import damage
from tests.integration.serving.site import SIZE, Site, connected, uri
from tests.support.points import BLOCK


@pytest.mark.parametrize("kind", ["dedup", "chain"])
def test_damage_is_an_error_of_its_range_alone(tmp_path, kind, capfd):
    with Site(tmp_path, kind) as site:
        expected = site.fill()["p1", "vda"]
        bad = damage(site.repository, "p1", 2 * BLOCK)
        good = bad + (MIB if kind == "dedup" else BLOCK)
        with site.served("p1") as server:
            with connected(uri(server)) as client:
                for offset, length in ((bad, 512), (bad, BLOCK), (bad, 2 * MIB)):
                    with pytest.raises(nbd.Error) as caught:
                        client.pread(length, offset)
                    assert caught.value.errnum == errno.EIO
                if bad:
                    assert client.pread(bad, 0) == expected[:bad]
                assert client.pread(MIB, good) == expected[good : good + MIB]
                assert client.pread(SIZE - 4 * MIB, 4 * MIB) == expected[4 * MIB :]
            trouble = server.end()
    assert [(item.disk, item.offset) for item in trouble.damaged] == [("vda", bad)]
    error = trouble.error("p1")
    assert isinstance(error, Damaged)
    log = capfd.readouterr().err
    assert f"point p1, disk vda, offset {bad}" in log
    assert "Traceback" not in log


def test_a_pack_that_is_gone(dedup):
    expected = dedup.fill()
    packs = sorted((dedup.place / "packs").rglob("*"))
    for path in packs:
        if path.is_file() and path.stat().st_size > MIB:
            path.unlink()
    with dedup.served("p1") as server:
        with connected(uri(server)) as client:
            with pytest.raises(nbd.Error):
                client.pread(BLOCK, 0)
            # A range of zeroes needs no pack.
            assert client.pread(BLOCK, 5 * MIB) == expected["p1", "vda"][5 * MIB : 5 * MIB + BLOCK]
        assert server.end().damaged
