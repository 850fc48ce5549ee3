"""Dates and spans of time as people type them.

A date is ISO 8601, with or without a time: ``2027-01-31``, ``2027-01-31T12:00``.  Alone it
means its beginning.  Without a zone behind it, it is of the time zone in the settings.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer

from sendense.errors import Rejected
from sendense.model.periods import find_zone
from sendense.units import format_span, parse_span


def span(text: str) -> timedelta:
    """Read the value of an option that is a span of time."""
    try:
        return parse_span(text)
    except Rejected as error:
        raise typer.BadParameter(f"{error.message}: {error.hint}") from error


def date(text: str) -> datetime:
    """Read the value of an option that is a date; its zone may still be open."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a date: write 2027-01-31, or 2027-01-31T12:00"
        ) from error


def moment_of(typed: datetime, zone: str) -> datetime:
    """Give the moment that a date means, in the zone of the settings where none was typed."""
    whole = typed if typed.tzinfo else typed.replace(tzinfo=find_zone(zone))
    try:
        return whole.astimezone(UTC)
    except OverflowError as error:
        raise _beyond(str(typed)) from error


def moment_after(now: datetime, length: timedelta) -> datetime:
    """Give the moment that comes so much later."""
    try:
        return now + length
    except OverflowError as error:
        raise _beyond(format_span(length)) from error


def _beyond(what: str) -> Rejected:
    return Rejected(f"{what} leads out of the calendar", hint="give a nearer date")
