"""Progress: lines now and then, JSON lines, bars; never in the way of the work or the result."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from rich.console import Console

from sendense import clock, log
from sendense.cli.progress import ProgressStyle, as_line, show_progress
from sendense.model.progress import Progress
from tests.support.builders import a_point

MIB = 1 << 20


@pytest.fixture
def moment(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    return now


def at(done: int, subject: str = "vda") -> Progress:
    return Progress("backup", subject, done * MIB, 100 * MIB, 10.0)


def console() -> Console:
    return Console(file=sys.stderr)


def test_lines_come_now_and_then_and_at_the_end(capsys, moment):
    with show_progress(ProgressStyle.AUTO, console(), title="web1") as listen:
        for second in range(25):
            moment[0] = second
            listen(at(second))
        listen(at(100))
        listen(at(100))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["web1"] * 3
    assert "10.0 MiB of 100.0 MiB (10%), 1.0 MiB/s" in lines[0]
    assert "(100%)" in lines[2]


def test_the_same_disk_of_the_next_point(capsys, moment):
    with show_progress(ProgressStyle.LINES, console(), title="verify") as listen:
        for done in (50, 100, 100, 50, 100):
            listen(at(done))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_json_lines(capsys, moment):
    with show_progress(ProgressStyle.JSON, console(), title="web1") as listen:
        moment[0] = 5
        listen(at(50))
        listen(at(51))
        listen(at(100, "vdb"))
    lines = [json.loads(line)["progress"] for line in capsys.readouterr().err.splitlines()]
    assert [(line["subject"], line["done"]) for line in lines] == [
        ("vda", 50 * MIB),
        ("vdb", 100 * MIB),
    ]
    assert lines[0]["bytes_per_s"] == 5 * MIB
    assert lines[0]["remaining_s"] == 10.0


def test_nothing_where_it_is_off(capsys):
    with show_progress(ProgressStyle.OFF, console(), title="web1") as listen:
        listen(at(100))
    assert capsys.readouterr().err == ""


def test_a_reader_that_went_away_does_not_end_the_work(monkeypatch, moment):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    with show_progress(ProgressStyle.LINES, Console(file=io.StringIO()), title="x") as listen:
        moment[0] = 20
        listen(at(50))


def test_log_lines_go_above_the_bars(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    log.configure(level=logging.WARNING)
    shown = Console(file=terminal, force_terminal=True, width=100)
    with show_progress(ProgressStyle.BAR, shown, title="web1") as listen:
        listen(at(50))
        logging.getLogger("sendense.x").warning("look at this")
    (handler,) = logging.getLogger("sendense").handlers
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is terminal
    assert "look at this" in terminal.getvalue()
    assert "web1 vda" in terminal.getvalue()


def test_a_total_that_is_not_known():
    assert "0 B of 0 B" in as_line(Progress("merge", "vda", 0, 0, 0.0))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), True),
        (("--quiet",), False),
        (("--json",), False),
        (("--json", "--progress=json"), True),
        (("--quiet", "--progress=lines"), False),
    ],
)
def test_who_asks_for_progress_gets_it(stage, capsys, options, shown):
    stage.add(a_point())
    assert stage.run("verify", "--all", "-r", "mem", *options) == 0
    assert ("vda" in capsys.readouterr().err) is shown
