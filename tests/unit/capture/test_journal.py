"""The journal: a claim per machine that dies with its holder, facts that do not."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sendense.capture.journal import claim, stale_machines
from sendense.errors import Busy


def test_facts_survive_their_writer(tmp_path: Path) -> None:
    entry = claim(tmp_path, "m1", operation="backup")
    entry.update(checkpoint="sendense-1")
    entry.update(may_be_frozen=True)
    entry.release()
    again = claim(tmp_path, "m1", operation="backup")
    assert again.facts == {"checkpoint": "sendense-1", "may_be_frozen": True}
    assert stale_machines(tmp_path) == ("m1",)
    again.clear()
    again.release()
    assert stale_machines(tmp_path) == ()


def test_two_threads_may_note_facts(tmp_path: Path) -> None:
    entry = claim(tmp_path, "m1", operation="backup")

    def note(name: str) -> None:
        for number in range(100):
            entry.update(**{f"{name}{number}": True})

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(note, "step"), pool.submit(note, "thaw")]:
            done.result()
    assert len(entry.facts) == 200
    entry.release()
    again = claim(tmp_path, "m1", operation="backup")
    assert len(again.facts) == 200
    again.release()


def test_second_claim_says_who_holds_it(tmp_path: Path) -> None:
    entry = claim(tmp_path, "m1", operation="backup of i-2-10-VM")
    with pytest.raises(Busy, match=rf"backup of i-2-10-VM \(process {os.getpid()}"):
        claim(tmp_path, "m1", operation="restore")
    entry.release()


def test_other_machines_are_free(tmp_path: Path) -> None:
    first = claim(tmp_path, "m1", operation="backup")
    second = claim(tmp_path, "m2", operation="backup")
    first.release()
    second.release()


def _hold(folder: Path, ready: Connection) -> None:
    entry = claim(folder, "m1", operation="backup")
    entry.update(step=1)
    ready.send(True)
    signal.pause()


def test_killed_holder_frees_the_claim_and_leaves_its_facts(tmp_path: Path) -> None:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, sender))
    process.start()
    assert receiver.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    entry = claim(tmp_path, "m1", operation="backup", wait_s=60)
    assert entry.facts == {"step": 1}
    entry.release()


def test_torn_file_is_told_apart_from_none(tmp_path: Path) -> None:
    claim(tmp_path, "m1", operation="backup").release()
    (tmp_path / "journal" / "m1.json").write_text("{")
    entry = claim(tmp_path, "m1", operation="backup")
    assert entry.facts == {"unreadable": True}
    entry.release()
