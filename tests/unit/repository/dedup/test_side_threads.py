"""Threads that step back: they alone, and wherever the system lets them."""

from __future__ import annotations

import os
import threading

import pytest

from sendense.repository.dedup.side_threads import side_threads


def priority():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_they_step_back_and_nobody_else():
    before = priority()
    with side_threads(2, "side") as pool:
        seen = pool.submit(lambda: (priority(), threading.current_thread().name)).result()
    assert seen == (min(19, before + 5), "side_0")
    assert priority() == before


@pytest.mark.parametrize("call", ["getpriority", "setpriority"])
def test_where_it_is_forbidden_they_work_as_they_are(monkeypatch, call):
    before = priority()
    original = getattr(os, call)

    def forbidden(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, call, forbidden)
    with side_threads(1, "side") as pool:
        thread = pool.submit(threading.get_native_id).result()
        monkeypatch.setattr(os, call, original)
        assert os.getpriority(os.PRIO_PROCESS, thread) == before
