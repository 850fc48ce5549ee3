"""The order in which an agent starts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sendense import clock, log
from sendense.agent import daemon, leftovers
from sendense.agent.daemon import Daemon, Parts
from sendense.agent.faces import NoNotifier
from sendense.agent.heartbeat import LibvirtHealth
from sendense.agent.ledger import Ledger, Record
from sendense.agent.work import Means
from sendense.model.agent_status import WorkState
from sendense.model.ticket import Action


@pytest.fixture
def signals() -> Iterator[None]:
    """Put back what an agent in this process catches."""
    caught = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in caught}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("s" * 64)
    (tmp_path / "secret").chmod(0o600)
    file = tmp_path / "agent.yaml"
    file.write_text(
        "kvm_agent:\n"
        "  id: h1\n"
        "  transport: local\n"
        "  libvirt_uri: test:///default\n"
        f"  listen: {tmp_path}/api.sock\n"
        f"  state_dir: {tmp_path}/state\n"
        f"  socket_dir: {tmp_path}\n"
        f"  scratch_dir: {tmp_path}\n"
        f"  secret_file: {tmp_path}/secret\n"
    )
    return file


@pytest.mark.usefixtures("signals")
def test_work_that_began_during_a_slow_first_sweep_lives(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def restore(name: str) -> Record:
        return Record(name, Action.RESTORE, clock.now() + timedelta(hours=1), WorkState.READY)

    ledger = Ledger(tmp_path / "state" / "agent")
    ledger.put(restore("dead"))
    serving, settled = threading.Event(), threading.Event()
    settle = leftovers.close_orphans

    def slow_sweep(means: Means) -> tuple[str, ...]:
        assert serving.wait(20)
        means.ledger.put(restore("live"))
        return ()

    def close_orphans(means: Means, orphans: tuple[str, ...]) -> tuple[str, ...]:
        left = settle(means, orphans)
        settled.set()
        return left

    class Serves(NoNotifier):
        def ready(self) -> None:
            """Serve: somebody begins a restore, then the sweep returns."""
            serving.set()
            assert settled.wait(20)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(log, "configure", lambda **_: None)
    monkeypatch.setattr(LibvirtHealth, "reached", lambda _self, within_s: within_s > 0)
    monkeypatch.setattr(daemon, "sweep", slow_sweep)
    monkeypatch.setattr(daemon, "close_orphans", close_orphans)
    monkeypatch.setattr(daemon, "_FIRST_SWEEP_S", 0.1)
    Daemon(file, Parts(notifier=Serves())).run()
    states = {record.id: record.state for record in ledger.records()}
    assert states == {"dead": WorkState.FAILED, "live": WorkState.READY}
