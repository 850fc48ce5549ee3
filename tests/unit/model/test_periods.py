"""Hours, days and weeks as the clocks and calendars of a zone have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sendense.model.periods import PeriodKind, find_zone, local_time, period_name, written


def names(kind: PeriodKind, zone: str, start: datetime, step: timedelta, count: int) -> list[str]:
    """Name the periods of moments that follow each other; those in a row only once."""
    found: list[str] = []
    for number in range(count):
        name = period_name(kind, local_time(start + number * step, find_zone(zone)))
        if not found or found[-1] != name:
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("zone", "start", "day", "hours"),
    [
        # Autumn: the clocks go back, and one hour comes twice.
        ("Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), "2026-10-25", 25),
        ("America/New_York", datetime(2026, 11, 1, 4, tzinfo=UTC), "2026-11-01", 25),
        # Spring: one hour is left out.
        ("Europe/Berlin", datetime(2026, 3, 28, 23, tzinfo=UTC), "2026-03-29", 23),
        ("America/New_York", datetime(2026, 3, 8, 5, tzinfo=UTC), "2026-03-08", 23),
        ("Europe/Berlin", datetime(2026, 6, 30, 22, tzinfo=UTC), "2026-07-01", 24),
    ],
)
def test_a_day_has_the_hours_that_its_clocks_showed(zone, start, day, hours):
    quarter = timedelta(minutes=15)
    found = names(PeriodKind.HOUR, zone, start, quarter, hours * 4)
    assert len(found) == len(set(found)) == hours
    assert names(PeriodKind.DAY, zone, start, quarter, hours * 4) == [day]
    around = names(PeriodKind.DAY, zone, start - quarter, quarter, hours * 4 + 2)
    assert len(around) == 3


def test_the_hour_that_comes_twice_is_two():
    first, second = (
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    )
    zone = find_zone("Europe/Berlin")
    locals_ = [local_time(moment, zone) for moment in (first, second)]
    assert {f"{local:%H:%M}" for local in locals_} == {"02:30"}
    assert [period_name(PeriodKind.HOUR, local) for local in locals_] == [
        "2026-10-25T02+02:00",
        "2026-10-25T02+01:00",
    ]


def test_half_an_hour_of_summer_time():
    """Lord Howe goes back from 02:00 to 01:30, and forward from 02:00 to 02:30."""
    ten_minutes = timedelta(minutes=10)
    autumn = datetime(2026, 4, 4, 14, tzinfo=UTC)  # 01:00 at +11:00
    assert names(PeriodKind.HOUR, "Australia/Lord_Howe", autumn, ten_minutes, 12) == [
        "2026-04-05T01+11:00",
        "2026-04-05T01+10:30",
        "2026-04-05T02+10:30",
    ]
    spring = datetime(2026, 10, 3, 14, 30, tzinfo=UTC)  # 01:00 at +10:30
    assert names(PeriodKind.HOUR, "Australia/Lord_Howe", spring, ten_minutes, 12) == [
        "2026-10-04T01+10:30",
        "2026-10-04T02+11:00",
        "2026-10-04T03+11:00",
    ]


def test_a_day_that_was_left_out():
    """Apia went from Thursday, 29 December 2011, to Saturday."""
    start = datetime(2011, 12, 29, 10, tzinfo=UTC)
    hour = timedelta(hours=1)
    assert names(PeriodKind.DAY, "Pacific/Apia", start, hour, 49) == [
        "2011-12-29",
        "2011-12-31",
        "2012-01-01",
    ]
    assert names(PeriodKind.WEEK, "Pacific/Apia", start, hour, 49) == ["2011-W52"]


@pytest.mark.parametrize(
    ("date", "week"),
    [
        ("2020-12-31", "2020-W53"),
        ("2021-01-03", "2020-W53"),
        ("2021-01-04", "2021-W01"),
        ("2024-12-30", "2025-W01"),
        ("2027-01-01", "2026-W53"),
        ("0001-01-01", "0001-W01"),
        ("9999-12-31", "9999-W52"),
    ],
)
def test_weeks_are_those_of_iso(date, week):
    assert period_name(PeriodKind.WEEK, datetime.fromisoformat(date)) == week


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
@pytest.mark.parametrize(
    "moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
@pytest.mark.parametrize("kind", PeriodKind)
def test_the_ends_of_the_calendar(kind, moment, zone):
    local = local_time(moment, find_zone(zone))
    assert period_name(kind, local)[:4] in ("0001", "9999")


def test_written():
    berlin = find_zone("Europe/Berlin")
    assert written(datetime(2027, 1, 30, 23, tzinfo=UTC), berlin) == "2027-01-31"
    assert written(datetime(2027, 7, 1, 10, tzinfo=UTC), berlin) == "2027-07-01 12:00:00 CEST"
