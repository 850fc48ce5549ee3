"""How values of the server look in tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sendense.cli import text
from sendense.cli.remote.answers import Doc, age_s
from sendense.units import format_seconds, format_size


def when(moment: datetime | None) -> str:
    """Write a moment, or that there was none."""
    return text.NONE if moment is None else text.when(moment)


def ago(moment: datetime | None) -> str:
    """Write how long ago something was."""
    if moment is None:
        return "never"
    seconds = age_s(moment)
    if seconds >= 48 * 3600:
        return f"{int(seconds // 86400)} days ago"
    return f"{format_seconds(max(1, int(seconds)))} ago".replace(".0 s", " s")


def size(value: object) -> str:
    """Write a number of bytes."""
    return format_size(value) if isinstance(value, (int, float)) else text.NONE


def some(value: object) -> str:
    """Write a value that may be missing."""
    return text.NONE if value in (None, "") else str(value)


def count_line(counts: Doc, always: Iterable[str] = ()) -> str:
    """Write counts side by side: ``protected 2  late 1``; a zero only of those named."""
    first = list(always)
    named = [*(name for name in first if name in counts), *(n for n in counts if n not in first)]
    return "  ".join(f"{name} {counts[name]}" for name in named if counts[name] or name in first)
