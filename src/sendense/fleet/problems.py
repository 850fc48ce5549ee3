"""Errors that crossed the wire, as what they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sendense.errors import SendenseError, Unavailable
from sendense.model.agent_status import AgentError


def _kinds(kind: type[SendenseError]) -> Iterator[type[SendenseError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def error_of(code: str, message: str, *, hint: str | None, **data: Any) -> SendenseError:
    """Give the error with this code; one that a newer agent knows is :class:`Unavailable`."""
    known: Mapping[str, type[SendenseError]] = {
        kind.code: kind
        for kind in _kinds(SendenseError)
        if kind.__module__ == SendenseError.__module__
    }
    return known.get(code, Unavailable)(message, hint=hint, **data)


def raised(error: AgentError, host: str) -> SendenseError:
    """Give the error that an agent reports of its work."""
    return error_of(error.code, error.message, hint=error.hint, host=host)
