"""What a crash may not overtake: data before header, everything before the point's name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sendense.model.decision import Method
from sendense.repository.opening import create_repository
from tests.support.points import BLOCK, Write, data, disk, noise, store


def name_of(fd):
    return Path(f"/proc/self/fd/{fd}").readlink().name


@pytest.fixture
def events(monkeypatch):
    seen: list[tuple[str, ...]] = []
    sync, replace, write = os.fsync, Path.replace, os.pwrite

    def record_sync(fd):
        sync(fd)
        seen.append(("sync", name_of(fd)))

    def record_replace(self, target):
        seen.append(("rename", self.name, Path(target).name))
        return replace(self, target)

    def record_write(fd, content, offset):
        name = name_of(fd)
        if offset == 0 and name.endswith(".qcow2"):
            seen.append(("header", name))
        return write(fd, content, offset)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_replace)
    monkeypatch.setattr(os, "pwrite", record_write)
    return seen


def test_a_commit(tmp_path, events):
    repository = create_repository(f"qcow2:{tmp_path}")
    events.clear()
    write = Write(disk(), 4 * BLOCK, (data(0, noise(BLOCK)),))
    store(repository, "p1", write, attachments={"domain.xml": b"x"})
    wanted = [
        ("sync", "vda.map"),
        ("sync", "vda.qcow2"),
        ("header", "vda.qcow2"),
        ("sync", "vda.qcow2"),
        ("sync", "domain.xml"),
        ("rename", "..machine.json.new", ".machine.json"),
        ("sync", ".partial-p1"),
        ("sync", ".manifest.json.new"),
        ("rename", ".manifest.json.new", "manifest.json"),
        ("sync", ".partial-p1"),
        ("rename", ".partial-p1", "p1"),
        ("sync", "6f2d3f4e-0000-4000-8000-000000000001"),
    ]
    rest = iter(events)
    for item in wanted:
        assert item in rest, f"{item} is missing or too early in {events}"


def test_a_merge(tmp_path, events):
    repository = create_repository(f"qcow2:{tmp_path}")
    write = Write(disk(), 4 * BLOCK, (data(0, noise(BLOCK)),))
    store(repository, "p1", write)
    change = Write(disk(), 4 * BLOCK, (data(BLOCK, noise(BLOCK)),), Method.BITMAP)
    store(repository, "p2", change)
    events.clear()
    repository.delete(["p1"])
    wanted = [
        ("rename", "manifest.json", "manifest.deleted"),
        ("sync", ".vda.map.merged"),
        ("sync", "p2"),
        ("sync", "..merge.json.new"),
        ("rename", "..merge.json.new", ".merge.json"),
        ("sync", "vda.qcow2"),
        ("rename", "vda.qcow2", "vda.qcow2"),
        ("sync", "p2"),
        ("rename", ".vda.map.merged", "vda.map"),
        ("sync", "p2"),
        ("rename", ".manifest.json.new", "manifest.json"),
        ("sync", "p2"),
        ("rename", "p1", ".trash-p1"),
    ]
    rest = iter(events)
    for item in wanted:
        assert item in rest, f"{item} is missing or too early in {events}"
