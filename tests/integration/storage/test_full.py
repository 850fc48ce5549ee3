"""A file system without room, in memory: what fits is whole, what does not leaves nothing."""

from __future__ import annotations

import subprocess

import pytest

from sendense.errors import OutOfSpace
from sendense.storage.local import LocalStore

MIB = 1 << 20


@pytest.fixture
def small(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_full_file_system(small):
    store = LocalStore(small)
    store.put("packs/1", bytes(3 * MIB))
    with pytest.raises(OutOfSpace) as caught:
        store.put("packs/2", [bytes(MIB)] * 2)
    assert "earlier points" in str(caught.value.hint)
    assert [path.name for path in small.rglob("*") if path.is_file()] == ["1"]
    assert store.free_bytes() == pytest.approx(MIB, abs=64 * 1024)
    store.delete(["packs/1"])
    store.put("packs/2", [bytes(MIB)] * 2)
    assert store.info("packs/2").size == 2 * MIB


def test_it_stays_mounted_while_it_is_open(small):
    store = LocalStore(small)
    store.put("a", b"x")
    assert subprocess.run(["umount", small], check=False, capture_output=True).returncode
    assert store.get("a") == b"x"
    store.close()
