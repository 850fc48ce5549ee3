"""Progress on standard error: bars on a terminal, a line now and then elsewhere, or JSON lines."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)

from sendense import clock
from sendense.model.progress import Progress, ProgressListener, silent
from sendense.units import format_seconds, format_size

LINE_INTERVAL_S = 10.0
JSON_INTERVAL_S = 1.0


class ProgressStyle(str, Enum):
    """How progress is shown."""

    AUTO = "auto"
    BAR = "bar"
    LINES = "lines"
    JSON = "json"
    OFF = "off"


@contextmanager
def show_progress(
    style: ProgressStyle, console: Console, *, title: str
) -> Iterator[ProgressListener]:
    """Give the listener that shows progress in this style."""
    if style is ProgressStyle.AUTO:
        style = ProgressStyle.BAR if console.is_terminal else ProgressStyle.LINES
    if style is ProgressStyle.OFF:
        yield silent
    elif style is ProgressStyle.BAR:
        with _bars(console, title) as listener:
            yield listener
    elif style is ProgressStyle.JSON:
        yield _Seldom(console, title, interval_s=JSON_INTERVAL_S, as_json=True)
    else:
        yield _Seldom(console, title, interval_s=LINE_INTERVAL_S, as_json=False)


@dataclass(frozen=True)
class _Line:
    """What was last told of a subject."""

    moment: float
    """When a line was written."""
    done: int = 0
    ended: bool = False


class _Seldom:
    """Writes a line per subject at most every so often, and one at its end."""

    def __init__(self, console: Console, title: str, *, interval_s: float, as_json: bool) -> None:
        self._console = console
        self._title = title
        self._interval_s = interval_s
        self._as_json = as_json
        self._lock = threading.Lock()
        self._last: dict[tuple[str, str], _Line] = {}
        self._began = clock.monotonic()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            if self._due(progress):
                self._write(progress)

    def _due(self, progress: Progress) -> bool:
        now, key = clock.monotonic(), (progress.phase, progress.subject)
        ends = progress.total > 0 and progress.done >= progress.total
        last = self._last.get(key, _Line(self._began))
        # Fewer bytes than before: the same disk of the next point.
        told = last.ended and progress.done >= last.done
        due = (ends and not told) or now - last.moment >= self._interval_s
        self._last[key] = _Line(
            moment=now if due else last.moment, done=progress.done, ended=ends and (due or told)
        )
        return due

    def _write(self, progress: Progress) -> None:
        line = (
            json.dumps(as_document(progress, self._title))
            if self._as_json
            else (f"{self._title}: {as_line(progress)}")
        )
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except OSError:
            # Nobody reads any more: progress must never end the work.
            return


def as_document(progress: Progress, title: str) -> dict[str, Any]:
    """Give a report as the object of a JSON line."""
    return {
        "progress": {
            "title": title,
            "phase": progress.phase,
            "subject": progress.subject,
            "done": progress.done,
            "total": progress.total,
            "elapsed_s": round(progress.elapsed_s, 3),
            "bytes_per_s": round(progress.rate),
            "remaining_s": progress.remaining_s,
        }
    }


def as_line(progress: Progress) -> str:
    """Write a report for people: ``backup vda: 1.0 GiB of 4.0 GiB (25%), 200.0 MiB/s, ...``."""
    share = f" ({100 * progress.done // progress.total}%)" if progress.total else ""
    left = progress.remaining_s
    return (
        f"{f'{progress.phase} {progress.subject}'.rstrip()}: {format_size(progress.done)} of "
        f"{format_size(progress.total)}{share}, {format_size(progress.rate)}/s"
        + (f", {format_seconds(left)} left" if left else "")
    )


def _amount(progress: Progress) -> str:
    """Write what is done, of what, and how fast since the beginning; nothing of an empty start."""
    if not progress.done:
        return ""
    of = f"{format_size(progress.done)} of {format_size(progress.total)}"
    return f"{of}, {format_size(progress.rate)}/s"


@contextmanager
def _bars(console: Console, title: str) -> Iterator[ProgressListener]:
    """Show a bar per subject; log lines go above the bars."""
    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
    )
    tasks: dict[tuple[str, str], TaskID] = {}
    lock = threading.Lock()

    def listen(progress: Progress) -> None:
        key = (progress.phase, progress.subject)
        with lock:
            if key not in tasks:
                tasks[key] = bars.add_task(f"{title} {progress.subject}", total=None, told="")
            bars.update(
                tasks[key],
                completed=progress.done,
                total=progress.total or None,
                told=_amount(progress),
            )

    with bars, _log_above():
        yield listen


@contextmanager
def _log_above() -> Iterator[None]:
    """Send log lines to where standard error goes now: while bars stand, above them."""
    moved = [
        (handler, handler.setStream(sys.stderr))
        for handler in logging.getLogger("sendense").handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    try:
        yield
    finally:
        for handler, stream in moved:
            if stream is not None:
                handler.setStream(stream)
