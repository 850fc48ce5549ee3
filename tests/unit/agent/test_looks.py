"""What a status of a capture says is true when it is asked for, whatever was decided meanwhile."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from sendense import clock
from sendense.agent.captures import CaptureWork
from sendense.agent.counting import PlainMetrics
from sendense.agent.gate import Gate
from sendense.agent.ledger import Ledger
from sendense.agent.settings import AgentSettings
from sendense.agent.work import Means, Verdict
from sendense.capture.host import Host
from sendense.errors import SourceChanged
from sendense.model.agent_status import CaptureStatus, WorkState
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.point import Consistency
from sendense.model.ticket import Action, CaptureOrder, Ticket
from tests.support.builders import MACHINE_UUID


class Capture(CaptureWork):
    """A capture of nothing, whose source a test breaks."""

    def __init__(self, folder: Path) -> None:
        settings = AgentSettings("h1", transport="ssh")
        decision = DiskDecision("vda", Mode.FULL, Method.EVERYTHING, Reason.NO_BASE)
        order = CaptureOrder(MACHINE_UUID, "p1", (decision,), Consistency.CRASH)
        until = clock.now() + timedelta(minutes=1)
        ticket = Ticket("t1", "h1", Action.CAPTURE, until, capture=order)
        means = Means(
            lambda: settings, Host(settings.host()), Ledger(folder), Gate(), PlainMetrics()
        )
        super().__init__(ticket, order, means)
        self.broken = False
        self.ready = threading.Event()
        self.closing = threading.Event()
        self.may_end = threading.Event()

    def _carry_out(self) -> None:
        self._change(state=WorkState.READY)
        self.ready.set()
        self._await_verdict(self._look_at_source)
        self.closing.set()
        self.may_end.wait(20)
        self._change(state=WorkState.PARKED)

    def _look_at_source(self) -> None:
        if self.broken:
            raise SourceChanged("it did not stay off")

    def asked(self) -> CaptureStatus:
        """Give the status as a request does."""
        self.touch()
        self.look()
        return self.status()


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    made = Capture(tmp_path)
    made.start()
    assert made.ready.wait(20)
    return made


def test_a_source_that_broke_right_now_is_told_at_once(capture: Capture) -> None:
    assert capture.asked().state is WorkState.READY
    capture.broken = True
    assert capture.asked().state is WorkState.FAILED


def test_nothing_is_called_ready_that_nobody_looks_at_any_more(capture: Capture) -> None:
    capture.decide(Verdict.PARK, wait_s=0)
    assert capture.closing.wait(20)
    assert capture.state is WorkState.READY
    threading.Timer(0.3, capture.may_end.set).start()
    assert capture.asked().state is WorkState.PARKED
