"""Named step boundaries of the product, where tests stop, fail or kill it.

``reached`` does nothing in production.  The crash tests replace the listener
and kill the process at every name, then prove that the guest runs, is thawed,
and that nothing of ours is left.
"""

from __future__ import annotations

from typing import Callable

_listener: list[Callable[[str], None]] = []


def reached(step: str) -> None:
    """Say that the step ``step`` is done."""
    for listener in _listener:
        listener(step)


def listen(listener: Callable[[str], None]) -> None:
    """Call ``listener`` at each step from now on; for tests."""
    _listener.append(listener)


def unlisten() -> None:
    """Forget all listeners."""
    _listener.clear()
