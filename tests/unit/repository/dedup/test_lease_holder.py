"""Whether a process still lives, as the kernel tells."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from sendense.repository.dedup import lease_holder
from sendense.repository.dedup.lease_holder import Fate, fate_of, this_process
from tests.unit.repository.dedup.lease_stage import eventually, here, on_another_host


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def like(pid: int):
    """Describe another process of this host."""
    status = lease_holder._status(str(pid))
    assert status is not None
    return here(pid=pid, started=status[2])


def test_this_process():
    me = this_process()
    assert me.pid == os.getpid()
    assert me.boot
    assert me.started > 0
    assert me == this_process()
    assert fate_of(me) is Fate.ALIVE


def test_another_process_that_lives(sleeper):
    assert fate_of(like(sleeper.pid)) is Fate.ALIVE


def test_a_number_that_is_used_again(sleeper):
    before = like(sleeper.pid)
    assert fate_of(here(pid=before.pid, started=before.started - 1)) is Fate.GONE
    assert fate_of(here(started=1)) is Fate.GONE


def test_a_killed_process_is_gone_before_its_parent_knows(sleeper):
    holder = like(sleeper.pid)
    sleeper.send_signal(signal.SIGKILL)
    eventually(lambda: fate_of(holder) is Fate.GONE)
    assert os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT) is not None
    sleeper.wait()
    assert fate_of(holder) is Fate.GONE


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (("Z", 1, 7), Fate.GONE),
        (("X", 0, 7), Fate.GONE),
        (("Z", 2, 7), Fate.ALIVE),
        (("D", 1, 7), Fate.ALIVE),
        (("T", 1, 7), Fate.ALIVE),
        (("S", 1, 8), Fate.GONE),
        (None, Fate.UNKNOWN),
    ],
    ids=str,
)
def test_states(monkeypatch, status, fate):
    holder = here(started=7)
    monkeypatch.setattr(lease_holder, "_status", lambda process: status)
    monkeypatch.setattr(lease_holder, "this_process", lambda: holder)
    assert fate_of(holder) is fate


def test_a_process_that_may_not_be_signalled_is_there(monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert fate_of(this_process()) is Fate.ALIVE


@pytest.mark.parametrize("pid", [0, -1, 1 << 80])
def test_a_number_that_no_process_has(pid):
    assert fate_of(here(pid=pid)) is Fate.UNKNOWN


@pytest.mark.parametrize(
    "holder",
    [
        on_another_host(),
        on_another_host(pid=os.getpid()),
        here(pid=1 << 21, pid_namespace=1),
        on_another_host(boot=""),
    ],
    ids=["host", "same number", "namespace", "nothing known"],
)
def test_of_others_nothing_is_known(holder):
    assert fate_of(holder) is Fate.UNKNOWN


def test_where_proc_shows_other_processes(monkeypatch, tmp_path):
    (tmp_path / "self").symlink_to("1234567")
    monkeypatch.setattr(lease_holder, "_PROC", tmp_path)
    me = this_process()
    assert (me.boot, me.pid_namespace, me.started) == ("", 0, 0)
    assert fate_of(me) is Fate.UNKNOWN


def test_where_there_is_no_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(lease_holder, "_PROC", tmp_path / "none")
    assert fate_of(this_process()) is Fate.UNKNOWN


def test_a_name_with_parentheses(monkeypatch, tmp_path):
    line = b"7 (a) S 1 2)) R " + b" ".join(b"%d" % number for number in range(4, 53))
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_bytes(line)
    monkeypatch.setattr(lease_holder, "_PROC", tmp_path)
    assert lease_holder._status("7") == ("R", 20, 22)


def test_a_user_without_a_name(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)
    assert this_process().user == "user 4000000000"
