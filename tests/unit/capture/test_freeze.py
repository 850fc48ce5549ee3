"""The freeze's time limit: a guest is thawed though the capture has not begun yet."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import libvirt_qemu
import pytest

from sendense.capture import freeze
from sendense.capture.freeze import Freezer
from sendense.capture.journal import JournalEntry, claim
from sendense.capture.link import DomainLink
from sendense_lab.commands import wait_until

SHORT_S = 0.05


class Guest:
    """A guest whose agent may be told not to answer."""

    def __init__(self) -> None:
        self.frozen = 0
        self.thaws = 0
        self.thawed = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def agentSetResponseTimeout(self, _timeout: int, _flags: int) -> None:  # noqa: N802
        """Take it."""

    def fsFreeze(self, _mountpoints: Any, _flags: int) -> int:  # noqa: N802
        self.frozen = 2
        return 2

    def fsThaw(self, _mountpoints: Any, _flags: int) -> int:  # noqa: N802
        self.thaws += 1
        assert self.answers.wait(90)
        undone, self.frozen = self.frozen, 0
        self.thawed.set()
        return undone

    def status(self) -> str:
        return json.dumps({"return": "frozen" if self.frozen else "thawed"})


class Link:
    """A link to it that never breaks."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def another(self) -> Link:
        return self

    def close(self) -> None:
        """Hold on."""

    def call(self, _doing: str, action: Callable[[Any], Any]) -> Any:
        return action(self._guest)


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Guest:
    guest = Guest()
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", lambda *_: guest.status())
    monkeypatch.setattr(freeze, "FROZEN_MOST_S", SHORT_S)
    return guest


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[JournalEntry]:
    entry = claim(tmp_path, "m1", operation="backup")
    yield entry
    entry.release()


def freezer_of(guest: Guest, entry: JournalEntry) -> Freezer:
    return Freezer(cast("DomainLink", Link(guest)), entry, timeout_s=1)


def test_guest_is_thawed_when_the_capture_does_not_begin(guest: Guest, entry: JournalEntry) -> None:
    freezer = freezer_of(guest, entry)
    freezer.freeze(())
    assert guest.thawed.wait(90)  # while the begin blocks in another thread
    assert freezer.thaw()
    assert freezer.lapsed is not None
    assert "longer than" in freezer.lapsed
    assert guest.thaws == 1
    assert freezer.close(wait_s=90)
    assert entry.facts["may_be_frozen"] is False


def test_freeze_that_was_short_enough_holds(
    guest: Guest, entry: JournalEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "FROZEN_MOST_S", 600)
    freezer = freezer_of(guest, entry)
    before = set(threading.enumerate())
    freezer.freeze(())
    assert guest.frozen
    assert freezer.thaw()
    assert freezer.lapsed is None
    assert freezer.close(wait_s=90)
    # Nothing waits for the rest of the minute; what was there before may have ended.
    assert set(threading.enumerate()) <= before


def test_freeze_given_up_is_not_held_though_its_thaw_is_late(
    guest: Guest, entry: JournalEntry
) -> None:
    guest.answers.clear()
    freezer = freezer_of(guest, entry)
    freezer.freeze(())
    wait_until(lambda: guest.thaws > 0, "the timer", timeout_s=120)
    # The begin returns now, and nobody knows whether the agent thawed before or after it.
    threading.Timer(SHORT_S, guest.answers.set).start()
    assert freezer.thaw()
    assert freezer.lapsed is not None
    assert guest.thaws == 1


def test_next_freeze_begins_anew(
    guest: Guest, entry: JournalEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    freezer = freezer_of(guest, entry)
    freezer.freeze(())
    assert guest.thawed.wait(90)
    assert freezer.thaw()
    assert freezer.lapsed is not None
    monkeypatch.setattr(freeze, "FROZEN_MOST_S", 600)
    freezer.freeze(())
    assert freezer.thaw()
    assert freezer.lapsed is None
