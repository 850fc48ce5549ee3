"""A capture on an agent's host, as the run that stores it sees it: what it must never believe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sendense import clock
from sendense.errors import Cancelled, SendenseError, SourceChanged, Stalled, Unavailable
from sendense.fleet.address import AgentAddress
from sendense.fleet.remote_host import CaptureTerms, RemoteCapture, order_of
from sendense.model.agent_status import AgentError, CaptureStatus, GateExport, WorkState
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.plan import CapturePlan, DiskPlan
from sendense.model.point import Consistency
from sendense.model.secret import Secret
from sendense.model.survey import DiskSurvey
from sendense.model.ticket import Limits
from tests.support.builders import a_disk, a_machine, a_machine_survey, a_survey

READY = CaptureStatus(
    "work-1",
    WorkState.READY,
    machine=a_machine(),
    taken_at=clock.now(),
    consistency=Consistency.CRASH,
    exports=(GateExport("vda", "gate-1", "s", "vda", 1 << 30),),
)
TOUCHED = CaptureStatus(
    "work-1",
    WorkState.FAILED,
    error=AgentError("source-changed", "the machine did not stay off", retryable=True),
)


class FakeWork:
    """Gives what the agent would answer; an error is raised."""

    def __init__(self, answer: CaptureStatus | SendenseError = READY) -> None:
        self.answer = answer
        self.asked = 0
        self.aborted = False

    def begin(self) -> CaptureStatus:
        return self.status()

    def status(self) -> CaptureStatus:
        self.asked += 1
        if isinstance(self.answer, SendenseError):
            raise self.answer
        return self.answer

    def commit(self, drop: tuple[str, ...]) -> CaptureStatus:
        return replace(READY, state=WorkState.COMMITTED)

    def abort(self) -> CaptureStatus:
        self.aborted = True
        return replace(READY, state=WorkState.ABORTED)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have time pass only when told, or slept for."""
    now = [1000.0]

    def passes(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "sleep", passes)
    return passes


def capture(work: Any, **terms: Any) -> RemoteCapture:
    address = AgentAddress("a", "kvm1", Secret("s"), data=(("127.0.0.1", 1),))
    known = CaptureTerms("work-1", **terms)
    return RemoteCapture(work, address, known, a_plan(a_survey()), begun=lambda _status: None)


def a_plan(*surveys: DiskSurvey) -> CapturePlan:
    survey = a_machine_survey(*surveys)
    disks = tuple(
        DiskPlan(item, DiskDecision(item.disk.target, Mode.FULL, Method.EVERYTHING, Reason.NO_BASE))
        for item in survey.disks
    )
    return CapturePlan("p1", survey, disks, Consistency.CRASH, strict=False, granularity=65536)


@pytest.mark.parametrize(
    ("disks", "words"),
    [
        ((a_disk(serial="other"),), "serial:other"),
        ((a_disk(path="/mnt/pool/other"),), "/mnt/pool/other"),
        ((a_disk(format="raw"),), "raw"),
        ((a_disk(), a_disk("vdb")), "vdb was added"),
        ((a_disk("vdb"),), "vda is not there"),
    ],
)
def test_other_disks_than_planned_are_not_read(time, disks, words):
    work = FakeWork(replace(READY, machine=a_machine(*disks)))
    with pytest.raises(SourceChanged, match=words) as raised, capture(work):
        pass
    assert raised.value.retryable
    assert work.aborted


@pytest.mark.parametrize(
    "changes",
    [{"machine": None}, {"taken_at": None}, {"exports": ()}],
)
def test_an_agent_that_does_not_say_what_it_captured(time, changes):
    work = FakeWork(replace(READY, **changes))
    with pytest.raises(Unavailable), capture(work):
        pass
    assert work.aborted


def test_the_order_names_all_disks_of_the_machine():
    plan = a_plan(a_survey(), a_survey(a_disk("vdb")))
    plan = replace(plan, disks=plan.disks[:1])
    order = order_of(plan, (), Limits())
    assert [item.target for item in order.disks] == ["vda"]
    assert [item.target for item in order.expected] == ["vda", "vdb"]


def test_between_chunks_the_agent_is_asked_once_a_second_and_waited_for(time):
    work = FakeWork()
    with capture(work) as session:
        work.answer = TOUCHED
        session.check()  # it was asked right now
        work.answer = Unavailable("the tunnel is restored")
        time(2)
        session.check()
        work.answer = TOUCHED
        time(2)
        with pytest.raises(SourceChanged):
            session.check()


def test_the_last_word_before_the_point_is_a_new_one(time):
    work = FakeWork()
    with capture(work) as session:
        session.check()
        work.answer = TOUCHED  # the machine was started within the second
        session.check()
        with pytest.raises(SourceChanged, match="stay off"):
            session.confirm()
    assert work.aborted


def test_no_point_is_confirmed_by_silence(time):
    work = FakeWork()
    with capture(work) as session:
        work.answer = Stalled("the agent does not answer")
        with pytest.raises(Stalled):
            session.confirm()
    assert work.asked > 10  # a tunnel that is restored in time is no failure


def test_a_parked_capture_is_no_confirmation(time):
    work = FakeWork()
    with capture(work) as session:
        work.answer = replace(READY, state=WorkState.PARKED)
        with pytest.raises(SourceChanged, match="free"):
            session.confirm()


def test_confirmed_after_an_answer_that_was_late(time):
    work = FakeWork()

    def back(_reason: str | None) -> None:
        work.answer = READY

    with capture(work, waiting=back) as session:
        work.answer = Unavailable("the tunnel is restored")
        session.confirm()
        session.commit(drop=())
    assert not work.aborted


def test_a_run_that_was_cancelled_confirms_nothing(time):
    def cancelled() -> None:
        raise Cancelled("somebody asked for it")

    with pytest.raises(Cancelled), capture(FakeWork(), check=cancelled) as session:
        session.confirm()
