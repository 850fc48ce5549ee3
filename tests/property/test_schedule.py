"""Schedules on the nights when clocks are changed, held against counting minute by minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise, takewhile

from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.model.cron import Cron
from sendense.model.periods import find_zone
from sendense.model.schedule import GRACE, LOOK_BACK, Timetable, Window, due_run, next_run, spread

MINUTE = timedelta(minutes=1)
CHANGES = [
    # A zone, and a moment shortly before its clocks are changed.
    ("UTC", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 24, 23, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, 5, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 4, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 3, 14, 2, tzinfo=UTC)),  # at one minute past midnight
    ("America/St_Johns", datetime(2010, 11, 7, 1, tzinfo=UTC)),  # back into the day before
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 13, tzinfo=UTC)),  # by half an hour
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 14, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 1, tzinfo=UTC)),  # at midnight
    ("Pacific/Apia", datetime(2011, 12, 30, 8, tzinfo=UTC)),  # a day that never was
]
changes = st.sampled_from(CHANGES)
offsets = st.integers(-30 * 60, 6 * 60).map(lambda minutes: timedelta(minutes=minutes))


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    """A field that names numbers."""
    some = st.lists(st.integers(low, high), min_size=1, max_size=3, unique=True)
    steps = st.integers(2, max(2, high // 2)).map(lambda step: f"*/{step}")
    return some.map(lambda each: ",".join(map(str, each))) | steps


days = st.sampled_from(["*", "*", "1-15", "28,29,30,31", "*/3"])
weekdays = st.sampled_from(["*", "*", "mon-fri", "sun", "0,6"])
minutes = numbers(0, 59) | st.just("*/15")
hours_given = numbers(0, 23) | st.just("0,1,2,3") | st.just("23,0,1")
schedules = st.builds(
    lambda *fields: " ".join(fields),
    minutes,
    hours_given | st.just("*"),
    days,
    st.just("*"),
    weekdays,
)
begins = st.integers(0, 90 * 365).map(
    lambda days: datetime(2000, 1, 1, 5, 7, tzinfo=UTC) + timedelta(days=days)
)
texts_of_windows = st.builds(
    lambda first, second: f"{first:%H:%M}-{second:%H:%M}",
    st.times().map(lambda each: each.replace(minute=each.minute // 15 * 15)),
    st.times(),
).filter(lambda text: text[:5] != text[6:])


# Counting minutes takes its time where the machine is busy.
@settings(deadline=None, max_examples=60)
@given(schedules, changes, offsets, st.integers(1, 3))
def test_moments_are_those_of_the_clocks(text, change, offset, length):
    name, around = change
    zone, cron = find_zone(name), Cron.parse(text)
    begin = around + offset
    end = begin + timedelta(days=length)
    got = list(takewhile(lambda moment: moment <= end, cron.moments(begin, zone)))
    assert all(a < b for a, b in pairwise(got))
    assert all(begin < moment for moment in got)
    assert got == sorted(each for each in _counted(cron, zone, begin, end) if begin < each <= end)


def _counted(cron, zone, begin, end):
    """Look at the clock each minute; what it never shows counts when it is past."""
    shown: dict[datetime, list[datetime]] = {}
    moment = (begin - timedelta(days=3)).replace(second=0, microsecond=0)
    while moment <= end + timedelta(days=3):
        shown.setdefault(moment.astimezone(zone).replace(tzinfo=None, fold=0), []).append(moment)
        moment += MINUTE
    walls = sorted(shown)
    found = set()
    wall = walls[0]
    while wall <= walls[-1]:
        if cron.fits_day(wall.date()) and wall.hour in cron.hours and wall.minute in cron.minutes:
            if wall in shown:
                found.update(shown[wall] if cron.every_hour else shown[wall][:1])
            elif not cron.every_hour:
                found.add(min(shown[each][0] for each in walls if each > wall))
        wall += MINUTE
    return found


@settings(deadline=None)
@given(schedules, begins)
def test_in_utc_it_is_what_cron_does(text, begin):
    ours = list(islice(Cron.parse(text).moments(begin, UTC), 20))
    assert ours == list(islice(CronSim(text, begin), 20))


@settings(deadline=None)
@given(texts_of_windows, changes, offsets, st.sets(st.integers(-1, 2), max_size=3))
def test_what_may_begin_may_not_begin_sooner(text, change, offset, blackouts):
    name, around = change
    moment = (around + offset).replace(second=0)
    dates = [(around.date() + timedelta(days=number)).isoformat() for number in blackouts]
    times = Timetable.read("@daily", name, text, dates)
    begins = times.allowed_from(moment)
    assert begins is not None
    assert begins >= moment
    assert times.forbids(begins) is None
    for number in range(int((begins - moment) / MINUTE)):
        assert times.forbids(moment + number * MINUTE) is not None


@given(st.times(), st.times(), st.times())
def test_a_window_over_midnight_is_the_rest_of_the_one_within_the_day(opens, closes, moment):
    if opens != closes:
        assert Window(opens, closes).open_at(moment) != Window(closes, opens).open_at(moment)


@settings(deadline=None)
@given(schedules, changes, offsets, st.timedeltas(timedelta(0), timedelta(days=40)))
def test_after_a_standstill_one_run_is_made_up(text, change, offset, standstill):
    name, around = change
    times = Timetable.read(text, name)
    seen = around + offset
    now = seen + standstill
    every = list(takewhile(lambda each: each <= now, times.due_after(max(seen, now - LOOK_BACK))))
    run = due_run(times, seen, now)
    if run is None:
        assert every == []
        return
    assert [*run.missed, run.due] == every
    assert run.late == (now - run.due > GRACE)
    assert due_run(times, run.due, now) is None


@given(st.timedeltas(timedelta(0), timedelta(hours=8)), st.text(), st.text())
def test_jitter_is_the_same_every_time_and_inside_its_span(span, policy, instance):
    part = spread(span, policy, instance)
    assert part == spread(span, policy, instance)
    assert timedelta(0) <= part < max(span, timedelta(seconds=1))


def test_jitter_spreads():
    parts = {spread(timedelta(hours=1), "nightly", str(number)) for number in range(1000)}
    assert len(parts) > 800


@settings(deadline=None)
@given(schedules, changes, offsets)
def test_the_next_run_says_why(text, change, offset):
    name, around = change
    blackout = around.date().isoformat()
    times = Timetable.read(text, name, "22:00-06:00", [blackout], timedelta(hours=1))
    run = next_run(times, around + offset, "policy", "instance")
    assert run.due is not None
    assert run.begins is not None
    assert run.begins >= run.due
    assert repr(text) in run.reason
    assert ("begins" in run.reason) == (
        times.forbids(run.due + spread(times.jitter, "policy", "instance")) is not None
    )


def test_dates_without_end():
    assert (
        date(2096, 2, 29)
        == next(Cron.parse("0 0 29 2 *").moments(datetime(2092, 3, 1, tzinfo=UTC), UTC)).date()
    )
    # 2100 is no leap year.
    assert (
        date(2104, 2, 29)
        == next(Cron.parse("0 0 29 2 *").moments(datetime(2096, 3, 1, tzinfo=UTC), UTC)).date()
    )
    assert list(Cron.parse("@daily").moments(datetime(9999, 12, 30, tzinfo=UTC), UTC)) == []
