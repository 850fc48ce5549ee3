"""One piece of managed work, as the use cases see it; the job engine provides it."""

from __future__ import annotations

from typing import Any, Protocol

from sendense.model.job import Job, Json
from sendense.model.progress import Progress


class Task(Protocol):
    """A job under way."""

    @property
    def job(self) -> Job:
        """Give what is wanted."""

    @property
    def facts(self) -> tuple[Json, ...]:
        """Give what earlier tries remembered, also those whose process died; oldest first."""

    def remember(self, fact: Json) -> None:
        """Make a fact durable before what it speaks of begins."""

    def report(self, progress: Progress, /) -> None:
        """Take progress; quickly, and from any thread."""

    def waiting(self, reason: str | None) -> None:
        """Say why nothing moves; raises where the work must end."""

    def check(self) -> None:
        """Raise where the work must end: somebody cancelled it, or another process has it now."""


def text(content: Json, name: str, default: str | None = None) -> str:
    """Give a text of a request."""
    value = content.get(name, default)
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def texts(content: Json, name: str) -> tuple[str, ...]:
    """Give a list of texts of a request."""
    return tuple(str(item) for item in content.get(name) or ())


def optional(content: Json, name: str) -> Any:  # noqa: ANN401 - what the request holds
    """Give what a request has of a name, or none."""
    return content.get(name)
