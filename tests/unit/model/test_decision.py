"""Per disk: full or incremental, and the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.model.decision import (
    EXPLANATIONS,
    Base,
    CapturePolicy,
    DiskDecision,
    Method,
    Mode,
    Reason,
    RequestedMode,
    decide,
)
from sendense.model.survey import DiskSurvey
from tests.support.builders import GIB, a_bitmap, a_disk, a_survey

SOUND = Base(
    point="p1",
    checkpoint="sendense-p1",
    size=GIB,
    path="/mnt/pool/vda",
    chain=("/mnt/pool/vda", "/mnt/pool/template"),
    damaged=False,
    length=3,
)


def decided(
    survey: DiskSurvey | None = None,
    base: Base | None = SOUND,
    policy: CapturePolicy | None = None,
    *,
    machine_known: bool = True,
    host_incremental: bool = True,
) -> DiskDecision:
    return decide(
        survey or a_survey(),
        base,
        policy or CapturePolicy(),
        machine_known=machine_known,
        host_incremental=host_incremental,
    )


def test_sound_bitmap_of_last_point_is_used() -> None:
    decision = decided()
    assert decision == DiskDecision(
        "vda", Mode.INCREMENTAL, Method.BITMAP, Reason.USABLE, base="p1", bitmap="sendense-p1"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bitmaps": ()}, Reason.BITMAP_MISSING),
        ({"bitmaps": (a_bitmap("sendense-p0"),)}, Reason.BITMAP_MISSING),
        ({"bitmaps": (a_bitmap(inconsistent=True),)}, Reason.BITMAP_INCONSISTENT),
        ({"bitmaps": (a_bitmap(recording=False),)}, Reason.BITMAP_DISABLED),
        ({"bitmaps": (a_bitmap(persistent=False),)}, Reason.BITMAP_NOT_PERSISTENT),
        ({"size": GIB - 512}, Reason.DISK_SHRUNK),
        ({"chain": ("/mnt/pool/snap", "/mnt/pool/vda")}, Reason.CHAIN_CHANGED),
        ({"memory_snapshot": True}, Reason.MEMORY_SNAPSHOT_PRESENT),
    ],
)
def test_any_doubt_about_the_disk_is_a_full(change: dict[str, object], reason: Reason) -> None:
    decision = decided(replace(a_survey(), **change))  # type: ignore[arg-type]
    assert (decision.mode, decision.method, decision.reason, decision.base) == (
        Mode.FULL,
        Method.EVERYTHING,
        reason,
        None,
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"damaged": True}, Reason.BASE_DAMAGED),
        ({"path": "/mnt/pool/other"}, Reason.DISK_REPLACED),
        ({"checkpoint": None}, Reason.BITMAP_MISSING),
    ],
)
def test_any_doubt_about_the_base_is_a_full(change: dict[str, object], reason: Reason) -> None:
    decision = decided(base=replace(SOUND, **change))  # type: ignore[arg-type]
    assert (decision.mode, decision.reason) == (Mode.FULL, reason)


def test_grown_disk_stays_incremental() -> None:
    assert decided(a_survey(size=2 * GIB)).reason is Reason.USABLE


def test_first_point_of_machine_and_first_of_disk_are_told_apart() -> None:
    assert decided(base=None, machine_known=False).reason is Reason.NO_BASE
    assert decided(base=None, machine_known=True).reason is Reason.NEW_DISK


def test_full_on_request_wins_over_everything() -> None:
    assert decided(policy=CapturePolicy(RequestedMode.FULL)).reason is Reason.REQUESTED


@pytest.mark.parametrize(("every", "reason"), [(3, Reason.FULL_DUE), (4, Reason.USABLE)])
def test_full_is_due_by_the_length_of_the_chain(every: int, reason: Reason) -> None:
    assert decided(policy=CapturePolicy(full_every=every)).reason is reason


def test_incremental_on_request_puts_off_a_full_that_is_merely_due() -> None:
    policy = CapturePolicy(RequestedMode.INCREMENTAL, full_every=3)
    assert decided(policy=policy).reason is Reason.USABLE
    assert decided(a_survey(bitmaps=()), policy=policy).reason is Reason.BITMAP_MISSING


def test_old_host_reads_in_full_and_leaves_no_bitmap() -> None:
    decision = decided(host_incremental=False)
    assert decision.reason is Reason.HOST_CANNOT
    assert not decision.tracked


def test_no_bitmap_is_left_beside_a_memory_snapshot() -> None:
    assert not decided(a_survey(memory_snapshot=True)).tracked


def test_raw_disk_is_compared_with_its_parent() -> None:
    raw = a_survey(a_disk(format="raw"), bitmaps=())
    decision = decided(raw)
    assert (decision.mode, decision.method, decision.reason, decision.base, decision.tracked) == (
        Mode.INCREMENTAL,
        Method.COMPARE,
        Reason.NO_BITMAP_SUPPORT,
        "p1",
        False,
    )


def test_first_point_of_raw_disk_is_a_full() -> None:
    raw = a_survey(a_disk(format="raw"), bitmaps=())
    assert decided(raw, base=None).method is Method.EVERYTHING


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Reason)


def test_read_only_disk_is_compared_since_libvirt_makes_no_checkpoint_of_it() -> None:
    survey = replace(a_survey(), disk=replace(a_disk(), read_only=True))
    first, later = decided(survey, base=None), decided(survey)
    assert not first.tracked
    assert (later.method, later.reason) == (Method.COMPARE, Reason.NO_BITMAP_SUPPORT)


def test_unwanted_bitmaps_are_neither_used_nor_left() -> None:
    policy = CapturePolicy(keep_bitmaps=False)
    decision = decided(policy=policy)
    assert (decision.mode, decision.method, decision.reason) == (
        Mode.INCREMENTAL,
        Method.COMPARE,
        Reason.BITMAPS_UNWANTED,
    )
    assert not decision.tracked
    first = decided(base=None, policy=policy)
    assert (first.method, first.tracked) == (Method.EVERYTHING, False)
