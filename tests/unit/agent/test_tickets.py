"""Tickets and orders: believed as far as needed, and no further."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sendense import clock
from sendense.agent.ledger import Intent, Ledger, Record
from sendense.agent.orders import ensure_capture_order, plan_of
from sendense.agent.restores import ensure_restore_order
from sendense.agent.tickets import TicketDesk
from sendense.errors import NotAllowed, Rejected, SourceChanged
from sendense.model.agent_status import CaptureStatus, GateExport, WorkState
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.model.expectation import expected_disk
from sendense.model.machine import Disk, Machine, PowerState, SourceKind
from sendense.model.point import Consistency
from sendense.model.secret import Secret
from sendense.model.survey import Bitmap, DiskSurvey, Survey
from sendense.model.ticket import (
    Action,
    CaptureOrder,
    PlaceKind,
    RestoreOrder,
    RestorePlace,
    Ticket,
    sign,
)

SECRET = Secret(b"k" * 40)
MACHINE = "c3f2a1de-0000-4000-8000-000000000001"
SKEW = timedelta(seconds=60)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    moment = datetime(2026, 1, 2, 3, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: moment)
    return moment


@pytest.fixture
def desk() -> TicketDesk:
    return TicketDesk("h1", SECRET, skew=SKEW)


def header(ticket: Ticket) -> str:
    return f"Sendense {sign(ticket, SECRET)}"


def test_expiry_with_its_tolerance(desk, now):
    ticket = Ticket("1", "h1", Action.LOOK, now)
    for late_s, accepted in ((0, True), (60, True), (61, False)):
        checked = replace(ticket, expires_at=now - timedelta(seconds=late_s))
        if accepted:
            assert desk.to_look(header(checked)) == checked
        else:
            with pytest.raises(NotAllowed, match="60 s are tolerated"):
                desk.to_look(header(checked))


@pytest.mark.parametrize("text", [None, "", "Bearer x", "Sendense", "Sendense x", "Sendense a.b"])
def test_no_ticket(desk, text):
    with pytest.raises(NotAllowed):
        desk.to_look(text)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a" * 65, ".x", "a\n"])
def test_an_id_that_could_not_name_a_file(desk, now, name):
    ticket = Ticket(name, "h1", Action.RELEASE, now, release=MACHINE)
    with pytest.raises(Rejected):
        desk.to_act(header(ticket), Action.RELEASE)


def test_a_look_does_not_act_and_an_act_does_not_look(desk, now):
    look = Ticket("1", "h1", Action.LOOK, now)
    release = Ticket("1", "h1", Action.RELEASE, now, release=MACHINE)
    with pytest.raises(NotAllowed):
        desk.to_act(header(look), Action.RELEASE)
    with pytest.raises(NotAllowed):
        desk.to_look(header(release))


# -- the ledger --------------------------------------------------------------------------------


def record(name: str, now: datetime, **changes: object) -> Record:
    return replace(Record(name, Action.CAPTURE, now, WorkState.QUEUED), **changes)  # type: ignore[arg-type]


def test_a_ticket_is_used_once_also_by_many_at_once(tmp_path, now):
    ledger = Ledger(tmp_path)
    wins: list[bool] = []
    threads = [
        threading.Thread(target=lambda: wins.append(ledger.use(record("one", now))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False] * 7 + [True]
    assert not Ledger(tmp_path).use(record("one", now))


def test_no_secret_and_nothing_large_is_kept(tmp_path, now):
    export = GateExport("vda", "n", "very-secret", "vda", 1)
    status = CaptureStatus(
        "one", WorkState.READY, exports=(export,), domain_xml="<domain/>", nvram=b"x"
    )
    ledger = Ledger(tmp_path)
    ledger.put(record("one", now, capture=status, intent=Intent.COMMIT, drop=("sendense-1",)))
    assert "very-secret" not in (tmp_path / "one.json").read_text()
    found = ledger.get("one")
    assert found is not None
    assert found.capture == replace(status, exports=(), domain_xml="", nvram=None)
    assert (found.intent, found.drop) == (Intent.COMMIT, ("sendense-1",))
    assert ledger.get("../one") is None


def test_what_is_over_is_forgotten_when_its_ticket_could_begin_nothing(tmp_path, now):
    ledger = Ledger(tmp_path)
    ledger.put(record("over", now, state=WorkState.COMMITTED))
    ledger.put(record("open", now, state=WorkState.PARKED))
    assert ledger.open_ids() == ("open",)
    ledger.forget_old(now + timedelta(hours=23), skew=SKEW)
    assert ledger.get("over") is not None
    ledger.forget_old(now + timedelta(hours=25), skew=SKEW)
    assert ledger.get("over") is None
    assert ledger.get("open") is not None
    assert Ledger(tmp_path).open_ids() == ("open",)


def test_a_record_that_cannot_be_read_keeps_its_ticket_used(tmp_path: Path, now):
    ledger = Ledger(tmp_path)
    (tmp_path / "one.json").write_text("{")
    assert ledger.get("one") is None
    assert not ledger.use(record("one", now))


# -- orders ------------------------------------------------------------------------------------

FULL = DiskDecision("vda", Mode.FULL, Method.EVERYTHING, Reason.NO_BASE)
BY_BITMAP = DiskDecision(
    "vda", Mode.INCREMENTAL, Method.BITMAP, Reason.USABLE, base="1", bitmap="sendense-1"
)
ORDER = CaptureOrder(MACHINE, "2", (FULL,), Consistency.CRASH)


@pytest.mark.parametrize(
    "changes",
    [
        {"machine": "../../etc"},
        {"machine": MACHINE.upper()},
        {"point_id": "../x"},
        {"point_id": ""},
        {"disks": ()},
        {"disks": (FULL, FULL)},
        {"granularity": 1000},
        {"granularity": -1},
        {"disks": (replace(FULL, bitmap="sendense-1"),)},
        {"disks": (replace(BY_BITMAP, bitmap=None),)},
        {"disks": (replace(BY_BITMAP, bitmap="libvirt-1"),)},
    ],
)
def test_an_order_that_makes_no_sense(changes):
    with pytest.raises(Rejected):
        ensure_capture_order(replace(ORDER, **changes))


DISK = Disk("vda", "/pool/a", "qcow2", SourceKind.FILE)
BITMAP = Bitmap("sendense-1", 65536, 0, recording=True, persistent=True, inconsistent=False)
SEEN = DiskSurvey(DISK, 1 << 20, 0, ("/pool/a",), (BITMAP,), memory_snapshot=False)


def survey(seen: DiskSurvey = SEEN, *, incremental: bool = True) -> Survey:
    machine = Machine(MACHINE, "m", PowerState.RUNNING, False, (seen.disk,), 1, 1)
    return Survey(machine, (seen,), (), incremental)


def with_bitmap(**changes: Any) -> DiskSurvey:
    return replace(SEEN, bitmaps=(replace(BITMAP, **changes),))


@pytest.mark.parametrize("decision", [FULL, BY_BITMAP])
def test_decisions_that_hold(decision):
    plan = plan_of(replace(ORDER, disks=(decision,)), survey(), granularity=4096)
    assert plan.disks[0].decision == decision
    assert plan.granularity == 4096
    asked = plan_of(replace(ORDER, granularity=512), survey(), granularity=4096)
    assert asked.granularity == 512


@pytest.mark.parametrize(
    ("decision", "found"),
    [
        (replace(FULL, target="vdb"), survey()),
        (FULL, survey(replace(SEEN, disk=replace(DISK, format="raw")))),
        (FULL, survey(replace(SEEN, disk=replace(DISK, read_only=True)))),
        (FULL, survey(incremental=False)),
        (FULL, survey(replace(SEEN, memory_snapshot=True))),
        (BY_BITMAP, survey(replace(SEEN, bitmaps=()))),
        (BY_BITMAP, survey(with_bitmap(inconsistent=True))),
        (BY_BITMAP, survey(with_bitmap(recording=False))),
        (BY_BITMAP, survey(with_bitmap(persistent=False))),
        (replace(BY_BITMAP, tracked=False), survey(incremental=False)),
        (replace(BY_BITMAP, tracked=False), survey(replace(SEEN, memory_snapshot=True))),
    ],
)
def test_a_decision_that_does_not_hold_is_decided_again(decision, found):
    with pytest.raises(SourceChanged) as raised:
        plan_of(replace(ORDER, disks=(decision,)), found, granularity=65536)
    assert raised.value.retryable


OTHER = replace(SEEN, disk=replace(DISK, target="vdb", path="/pool/b"), chain=("/pool/b",))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (survey(replace(SEEN, disk=replace(DISK, serial="s2"))), "serial:s2"),
        (survey(replace(SEEN, disk=replace(DISK, path="/pool/c"))), "/pool/c"),
        (survey(replace(SEEN, chain=("/pool/a", "/pool/t"))), "backing"),
        (survey(replace(SEEN, size=2 << 20)), "bytes"),
        (replace(survey(), disks=(SEEN, OTHER)), "vdb was added"),
    ],
)
def test_a_disk_that_changed_while_the_order_waited(found, words):
    order = replace(ORDER, expected=(expected_disk(SEEN),))
    assert plan_of(order, survey(), granularity=65536).disks[0].survey == SEEN
    with pytest.raises(SourceChanged, match=words) as raised:
        plan_of(order, found, granularity=65536)
    assert raised.value.retryable


def test_a_disk_that_is_left_out_is_expected_too():
    order = replace(ORDER, expected=(expected_disk(SEEN), expected_disk(OTHER)))
    plan = plan_of(order, replace(survey(), disks=(SEEN, OTHER)), granularity=65536)
    assert [item.target for item in plan.disks] == ["vda"]
    with pytest.raises(SourceChanged, match="vdb is not there"):
        plan_of(order, survey(), granularity=65536)


PLACE = RestorePlace("vda", "/pool/a", "qcow2", 1, PlaceKind.NEW_FILE)


@pytest.mark.parametrize(
    "order",
    [
        RestoreOrder(()),
        RestoreOrder((PLACE, PLACE)),
        RestoreOrder((PLACE, replace(PLACE, target="vdb"))),
        RestoreOrder((replace(PLACE, format="vmdk"),)),
        RestoreOrder((replace(PLACE, path="a"),)),
        RestoreOrder((replace(PLACE, target="../a"),)),
        RestoreOrder((replace(PLACE, size=0),)),
        RestoreOrder((replace(PLACE, kind=PlaceKind.EXISTING),)),
        RestoreOrder((PLACE,), machine="x"),
        RestoreOrder((PLACE,), start=True),
    ],
)
def test_a_restore_that_makes_no_sense(order):
    with pytest.raises(Rejected):
        ensure_restore_order(order)
