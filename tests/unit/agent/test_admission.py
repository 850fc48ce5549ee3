"""Which work begins: limits are kept, nothing waits without need, each wait has its reason."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.agent.admission import Claim, HostLimits, admit, ensure_possible
from sendense.agent.window import Window, parse_window
from sendense.errors import Rejected

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NIGHT = Window(time(22), time(6))

claims = st.builds(
    Claim,
    id=st.uuids().map(str),
    exports=st.integers(1, 6),
    machine=st.none() | st.sampled_from(["a", "b", "c", "d"]),
    windowed=st.booleans(),
)
queues = st.lists(claims, max_size=12, unique_by=lambda item: item.id)
limits = st.builds(
    HostLimits,
    vms=st.integers(1, 5),
    exports=st.integers(1, 10),
    window=st.none() | st.just(NIGHT),
)
moments = st.integers(0, 24 * 60 - 1).map(lambda minutes: NOON + timedelta(minutes=minutes))


@given(queues, limits, moments)
def test_limits_are_kept_and_each_wait_has_a_reason(queue, host, moment):
    found = admit(queue, [], host, moment)
    began = [item for item in queue if item.id in found.begin]
    assert len(began) <= host.vms
    assert sum(item.exports for item in began) <= host.exports or len(began) == 1
    machines = [item.machine for item in began if item.machine]
    assert len(machines) == len(set(machines))
    if host.window is not None and not host.window.is_open(moment):
        assert not any(item.windowed for item in began)
    assert set(found.waiting) == {item.id for item in queue} - set(found.begin)
    assert all(found.waiting.values())
    # In the order in which they came.
    assert list(found.begin) == [item.id for item in began]


@given(queues, limits, moments)
def test_nothing_waits_on_a_host_that_does_nothing(queue, host, moment):
    found = admit(queue, [], host, moment)
    held = host.window is not None and not host.window.is_open(moment)
    free = [item for item in queue if not (held and item.windowed)]
    assert bool(found.begin) == bool(free)


@given(queues, queues, limits, moments)
def test_everything_begins_in_the_end(queue, running, host, moment):
    moment = moment.replace(hour=23)
    waiting, busy = list(queue), list(running)
    for _ in range(len(queue) + len(running) + 1):
        found = admit(waiting, busy, host, moment)
        # The oldest ends before the next look.
        busy = (busy + [item for item in waiting if item.id in found.begin])[1:]
        waiting = [item for item in waiting if item.id not in found.begin]
    assert waiting == []


@given(queues, queues, limits, moments)
def test_no_work_that_waits_for_room_is_passed(queue, running, host, moment):
    found = admit(queue, running, host, moment)
    full = next(
        (place for place, item in enumerate(queue) if "limit of" in found.waiting.get(item.id, "")),
        len(queue),
    )
    assert not any(item.id in found.begin for item in queue[full:])


def test_the_reason_says_what_to_wait_for():
    host = HostLimits(vms=1, exports=4, window=NIGHT)
    running = [Claim("r", 2, "a", windowed=False)]
    queue = [
        Claim("night", 1, "b"),
        Claim("same", 1, "a", windowed=False),
        Claim("full", 1, "c", windowed=False),
    ]
    waiting = admit(queue, running, host, NOON).waiting
    assert "opens at 2026-03-01 22:00" in waiting["night"]
    assert "same machine" in waiting["same"]
    assert "max_concurrent_vms" in waiting["full"]
    more = admit([Claim("big", 3, "b", windowed=False)], running, HostLimits(5, 4), NOON)
    assert "of which 2 are free" in more.waiting["big"]


def test_a_restore_does_not_wait_for_the_window_behind_a_capture():
    queue = [Claim("capture", 1, "a"), Claim("restore", 1, "a", windowed=False)]
    assert admit(queue, [], HostLimits(5, 5, NIGHT), NOON).begin == ("restore",)


def test_what_could_never_begin_is_refused():
    with pytest.raises(Rejected, match="10 exports at once"):
        ensure_possible(Claim("x", 11, None), HostLimits(1, 10))


@pytest.mark.parametrize(
    ("window", "hour", "is_open"),
    [
        ("22:00-06:00", 23, True),
        ("22:00-06:00", 5, True),
        ("22:00-06:00", 6, False),
        ("22:00-06:00", 12, False),
        ("08:00-17:30", 8, True),
        ("08:00-17:30", 17, True),
        ("08:00-17:30", 18, False),
        ("0:00-23:59", 12, True),
    ],
)
def test_window(window, hour, is_open):
    assert parse_window(window).is_open(NOON.replace(hour=hour)) is is_open


@given(st.integers(0, 1439), st.integers(0, 1439), moments)
def test_a_window_is_open_when_it_says_it_opens(begins, ends, moment):
    if begins == ends:
        return
    window = Window(time(*divmod(begins, 60)), time(*divmod(ends, 60)))
    opens = window.opens_at(moment)
    assert window.is_open(opens)
    assert moment <= opens <= moment + timedelta(days=1)
    assert parse_window(str(window)) == window
