"""What the agent says of its host: words that tell what to do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sendense.agent.health import (
    MEMORY_MOST,
    ClockHealth,
    Pressure,
    Watch,
    judge_clock,
    judge_load,
    judge_memory,
    judge_scratch,
    read_pressure,
    resident_bytes,
    told,
    worst_of_each,
)
from sendense.model.agent_status import HealthCheck, Level
from sendense.model.finding import Finding
from sendense.model.finding import Level as FindingLevel
from sendense.units import GIB, MIB

NOW = datetime(2026, 1, 31, 12, 0, 0, 400_000, tzinfo=UTC)
MINUTE = timedelta(seconds=60)


@pytest.mark.parametrize(
    ("free", "level", "word"),
    [(20 * GIB, Level.OK, "free"), (5 * GIB, Level.WARNING, "may end"), (1, Level.FAILED, "no ")],
)
def test_scratch(free: int, level: Level, word: str):
    check = judge_scratch(free, GIB, Path("/scratch"))
    assert check.level is level
    assert word in check.message
    assert "/scratch" in check.message
    assert (check.hint is None) == (level is Level.OK)


@pytest.mark.parametrize(
    ("pressure", "level"),
    [
        (Pressure(3.9, 2, 10.0), Level.OK),
        (Pressure(4.1, 2, None), Level.WARNING),
        (Pressure(0.1, 2, 55.0), Level.WARNING),
    ],
)
def test_load(pressure: Pressure, level: Level):
    assert judge_load(pressure).level is level


def test_memory():
    assert judge_memory(60 * MIB, MEMORY_MOST).level is Level.OK
    assert judge_memory(230 * MIB, MEMORY_MOST).level is Level.WARNING


@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (None, Level.OK, "not told"),
        (1, Level.OK, "the same"),
        (-20, Level.OK, "20 s ahead of"),
        (40, Level.WARNING, "40 s behind"),
        (90, Level.FAILED, "60 s are tolerated"),
        (-3600, Level.FAILED, "3600 s ahead of"),
    ],
)
def test_clocks(seconds: int | None, level: Level, words: str):
    check = judge_clock(None if seconds is None else timedelta(seconds=seconds), MINUTE)
    assert check.level is level
    assert words in check.message


def test_a_slow_request_does_not_make_the_clock_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sendense.clock.now", lambda: NOW)
    health = ClockHealth()
    health.told("Sat, 31 Jan 2026 11:59:10 GMT")
    assert health.offset() == timedelta(seconds=-50.4)
    health.told("Sat, 31 Jan 2026 12:00:00 GMT")
    assert health.offset() == timedelta(seconds=-0.4)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Sat, 31 Jan 2026 11:59:10 -0000"])
def test_a_request_need_not_tell_the_time(date: str | None):
    health = ClockHealth()
    health.told(date)
    assert health.offset() is None


def test_old_times_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sendense.clock.now", lambda: NOW)
    health = ClockHealth(kept=2)
    for seconds in (9, 1, 2):
        health.saw(NOW + timedelta(seconds=seconds))
    assert health.offset() == timedelta(seconds=2)


def test_what_a_probe_found():
    findings = [
        Finding("tools", FindingLevel.OK, "qemu-img 7.2"),
        Finding("incremental", FindingLevel.WARNING, "every backup is a full", "upgrade"),
        Finding("rights", FindingLevel.OK, "running as root"),
    ]
    checks = worst_of_each(told("qemu", findings))
    assert checks == (HealthCheck("qemu", Level.WARNING, "every backup is a full", "upgrade"),)
    assert worst_of_each(told("qemu", findings[::2])) == (
        HealthCheck("qemu", Level.OK, "qemu-img 7.2; running as root"),
    )


def test_a_look_that_never_comes_back_is_an_answer(monkeypatch: pytest.MonkeyPatch):
    moment = 1000.0
    monkeypatch.setattr("sendense.clock.boottime", lambda: moment)
    release = threading.Event()
    begun = threading.Event()

    def hang() -> tuple[HealthCheck, ...]:
        begun.set()
        release.wait(200)
        return ()

    watch = Watch("scratch", hang, every_s=10)
    watch.start()
    assert begun.wait(90)
    assert watch.checks() == ()
    moment = 1041.0
    (check,) = watch.checks()
    assert check.level is Level.FAILED
    assert "41 s" in check.message
    watch.stop()
    release.set()


def test_a_look_that_fails_is_an_answer():
    def fail() -> tuple[HealthCheck, ...]:
        raise OSError("stale file handle")

    watch = Watch("scratch", fail, every_s=10)
    watch.start()
    assert watch.wait_first(90)
    watch.stop()
    (check,) = watch.checks()
    assert check.level is Level.FAILED
    assert "stale file handle" in check.message


def test_measuring(tmp_path: Path):
    (tmp_path / "pressure").mkdir()
    (tmp_path / "loadavg").write_text("2.50 1.00 0.50 1/99 4242\n")
    assert read_pressure(tmp_path).stalled_percent is None
    (tmp_path / "pressure/io").write_text(
        "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n"
        "full avg10=5.00 avg60=6.50 avg300=7.00 total=8\n"
    )
    pressure = read_pressure(tmp_path)
    assert (pressure.load, pressure.stalled_percent) == (2.5, 6.5)
    assert 5 * MIB < resident_bytes() < 10 * GIB
