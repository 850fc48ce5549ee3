"""What the service manager hears."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sendense.agent.service import SystemdNotifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield listener


def notifier_of(listener: socket.socket, **more: str) -> SystemdNotifier:
    return SystemdNotifier({"NOTIFY_SOCKET": listener.getsockname(), **more})


def heard(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().splitlines()


def silent(listener: socket.socket) -> bool:
    listener.setblocking(False)
    try:
        listener.recv(4096)
    except BlockingIOError:
        return True
    return False


def test_the_life_of_a_service(manager: socket.socket):
    notifier = notifier_of(manager)
    notifier.ready()
    assert heard(manager) == ["READY=1"]
    notifier.reloading()
    first, second = heard(manager)
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    notifier.stopping()
    assert heard(manager)[0] == "STOPPING=1"


def test_the_watchdog_hears_as_often_as_it_wants(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
):
    moment = 100.0
    monkeypatch.setattr("sendense.clock.monotonic", lambda: moment)
    notifier = notifier_of(manager, WATCHDOG_USEC="30000000")
    notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]
    moment = 109.0
    notifier.alive()
    moment = 110.0
    notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]
    assert silent(manager)


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}])
def test_a_watchdog_that_is_for_another_hears_nothing(manager: socket.socket, environment):
    notifier_of(manager, **environment).alive()
    assert silent(manager)


def test_a_status_is_one_line_and_sent_once(manager: socket.socket):
    notifier = notifier_of(manager)
    notifier.status("two\nlines")
    notifier.status("two lines")
    assert heard(manager) == ["STATUS=two lines"]
    assert silent(manager)


def test_a_name_without_a_file():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"sendense-test-{os.getpid()}"
        listener.bind(f"\0{name}")
        SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert listener.recv(100) == b"READY=1"


def test_without_a_manager_nothing_happens():
    notifier = SystemdNotifier({})
    notifier.ready()
    notifier.alive()
    assert not notifier.wanted


def test_a_manager_that_is_gone_hurts_nobody(tmp_path: Path):
    SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_programs_that_are_started_do_not_have_the_socket(manager: socket.socket):
    environment = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1", "PATH": "/bin"}
    SystemdNotifier(environment)
    shown = subprocess.run(
        [sys.executable, "-c", "import os; print(sorted(os.environ))"],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "NOTIFY_SOCKET" not in shown.stdout
    assert "WATCHDOG" not in shown.stdout
