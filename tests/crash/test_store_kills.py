"""A process that is killed while it writes leaves an object whole, or none; never half of one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sendense import steps
from sendense.errors import NotFound
from sendense.storage.local import LocalStore
from tests.crash.repository_site import killed_at

OLD, NEW = b"old" * 100_000, b"new" * 200_000
STEPS = ["store:written", "store:named", "store:durable"]


def seen_or_none(store, name):
    try:
        return store.get(name)
    except NotFound:
        return None


def test_the_steps(tmp_path):
    seen: list[str] = []
    steps.listen(seen.append)
    try:
        LocalStore(tmp_path).put("a", b"x")
    finally:
        steps.unlisten()
    assert seen == STEPS


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_a_killed_write(tmp_path, number, create):
    parts = [NEW[:1000], NEW[1000:]]
    assert killed_at(number, lambda: LocalStore(tmp_path).put("packs/3f/a", parts, create=create))
    store = LocalStore(tmp_path)
    assert seen_or_none(store, "packs/3f/a") == (None if number == 1 else NEW)
    listed = {item.name: item.size for item in store.list("")}
    assert listed == ({} if number == 1 else {"packs/3f/a": len(NEW)})
    if number == 1:
        store.put("packs/3f/a", NEW, create=create)
    store.sweep_temporary(timedelta(seconds=-1))
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert files == ["a"]


@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_a_killed_replacement(tmp_path, number):
    LocalStore(tmp_path).put("a", OLD)
    assert killed_at(number, lambda: LocalStore(tmp_path).put("a", NEW))
    assert LocalStore(tmp_path).get("a") == (OLD if number == 1 else NEW)
