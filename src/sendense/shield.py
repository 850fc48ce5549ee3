"""Work that a signal must not break off: taking a capture back, and ending it well.

Such work takes seconds.  Broken off, it would leave a job, a checkpoint or even a
frozen guest for the next run to find.  The entry point that turns signals into
exceptions asks :func:`active` first, and postpones a signal while it is.  A postponed
one is obeyed where the run may end next: :func:`obey` raises what was held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_depth: list[None] = []
_postponed: list[None] = []


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


def postpone() -> None:
    """Remember a signal that came during shielded work."""
    _postponed.append(None)


def postponed() -> bool:
    """Tell whether a signal waits to be obeyed."""
    return bool(_postponed)


def forget() -> None:
    """Drop what was postponed: whoever turned signals into exceptions is done."""
    _postponed.clear()


def obey() -> None:
    """Raise what a postponed signal would have raised; does nothing where there is none."""
    if _postponed:
        _postponed.clear()
        raise KeyboardInterrupt
