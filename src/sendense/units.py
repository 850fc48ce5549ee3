"""Sizes and spans of time, and how they are written for people and read from them."""

from __future__ import annotations

import re
from datetime import timedelta

from sendense.errors import Rejected

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

_SUFFIXES = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SPAN = re.compile(r"(\d{1,6})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 168}
_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*$", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Read ``"64K"``, ``"1.5 GiB"`` or ``"65536"`` as bytes (powers of 1024)."""
    match = _SIZE.match(text)
    if match is None:
        raise Rejected(
            f"{text!r} is not a size",
            hint="write a number with K, M, G or T, for example 64K or 1.5G",
        )
    return int(float(match.group(1)) * _SUFFIXES[match.group(2).upper()])


def format_size(size: float) -> str:
    """Write bytes for people: ``"1.5 GiB"``."""
    for suffix, unit in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(size) >= unit:
            return f"{size / unit:.1f} {suffix}"
    return f"{int(size)} B"


def format_seconds(seconds: float) -> str:
    """Write a duration for people: ``"85 ms"``, ``"12.3 s"``, ``"1 h 02 min"``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    if minutes < 100:
        return f"{minutes} min {int(seconds % 60):02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def parse_span(text: str) -> timedelta:
    """Read ``"36h"``, ``"14d"`` or ``"8w"``."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise Rejected(f"{text!r} is not a time span", hint="write 36h, 14d or 8w")
    return timedelta(hours=int(match.group(1)) * _HOURS[match.group(2)])


def format_span(span: timedelta) -> str:
    """Write a span of time for people: ``"14 days"``, ``"36 hours"``."""
    hours = int(span.total_seconds() // 3600)
    number, unit = (hours // 24, "day") if hours and hours % 24 == 0 else (hours, "hour")
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def round_down(number: int, step: int) -> int:
    """Give the largest multiple of ``step`` that is not above ``number``."""
    return number - number % step


def round_up(number: int, step: int) -> int:
    """Give the smallest multiple of ``step`` that is not below ``number``."""
    return -(-number // step) * step
