"""Work that a signal must not break off: taking a capture back, and ending it well.

Such work takes seconds.  Broken off, it would leave a job, a checkpoint or even a
frozen guest for the next run to find.  The entry point that turns signals into
exceptions asks :func:`active` first, and waits while it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_depth: list[None] = []


@contextmanager
def shielded() -> Iterator[None]:
    """Keep signals from raising inside."""
    _depth.append(None)
    try:
        yield
    finally:
        _depth.pop()


def active() -> bool:
    """Tell whether shielded work is under way."""
    return bool(_depth)
