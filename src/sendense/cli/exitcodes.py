"""How the program ends: one number per class of outcome, stable for scripts.

``docs/exit-codes.md`` explains them; ``sendense --help`` lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from sendense.errors import (
    Busy,
    Cancelled,
    Damaged,
    NotAllowed,
    NotFound,
    OutOfSpace,
    Rejected,
    StrictWarning,
    Unavailable,
    Unsupported,
)


class ExitCode(IntEnum):
    """What the program says to its caller."""

    OK = 0
    FAILED = 1
    REJECTED = 2
    NOT_FOUND = 3
    BUSY = 4
    UNAVAILABLE = 5
    DAMAGED = 6
    OUT_OF_SPACE = 7
    STRICT_WARNING = 8
    UNSUPPORTED = 9
    NOT_ALLOWED = 10
    CANCELLED = 130
    READER_GONE = 141


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed for a reason without a code of its own",
    ExitCode.REJECTED: "usage, settings or request are wrong",
    ExitCode.NOT_FOUND: "what was named does not exist",
    ExitCode.BUSY: "somebody else holds it, try later",
    ExitCode.UNAVAILABLE: "a service cannot be reached or stalled, try later",
    ExitCode.DAMAGED: "data failed its check, or doctor or status found a problem",
    ExitCode.OUT_OF_SPACE: "scratch or repository is full",
    ExitCode.STRICT_WARNING: "done, but with warnings, under --strict",
    ExitCode.UNSUPPORTED: "this host, disk or version cannot do it",
    ExitCode.NOT_ALLOWED: "the operating system, libvirt, a key, a pin or a lock refuses",
    ExitCode.CANCELLED: "cancelled by a signal, everything was taken back",
    ExitCode.READER_GONE: "whoever read the output went away",
}

_CLASSES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    # Subclasses stand before the class that they refine.
    (NotFound, ExitCode.NOT_FOUND),
    (NotAllowed, ExitCode.NOT_ALLOWED),
    (Unsupported, ExitCode.UNSUPPORTED),
    (Rejected, ExitCode.REJECTED),
    (Busy, ExitCode.BUSY),
    (Unavailable, ExitCode.UNAVAILABLE),
    (Damaged, ExitCode.DAMAGED),
    (OutOfSpace, ExitCode.OUT_OF_SPACE),
    (Cancelled, ExitCode.CANCELLED),
    (StrictWarning, ExitCode.STRICT_WARNING),
    (KeyboardInterrupt, ExitCode.CANCELLED),
    (BrokenPipeError, ExitCode.READER_GONE),
)

_WORST_FIRST = (
    ExitCode.CANCELLED,
    ExitCode.FAILED,
    ExitCode.DAMAGED,
    ExitCode.OUT_OF_SPACE,
    ExitCode.NOT_ALLOWED,
    ExitCode.UNSUPPORTED,
    ExitCode.REJECTED,
    ExitCode.NOT_FOUND,
    ExitCode.UNAVAILABLE,
    ExitCode.BUSY,
    ExitCode.STRICT_WARNING,
    ExitCode.READER_GONE,
    ExitCode.OK,
)


def exit_code_of(error: BaseException) -> ExitCode:
    """Give the number for an error; a class without one is a plain failure."""
    for kind, code in _CLASSES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Give the one that a person would want to hear of first; OK where there is none."""
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.OK)


def epilog() -> str:
    """List all numbers for the end of ``--help``."""
    return "Exit codes: " + "; ".join(f"{code.value} {MEANINGS[code]}" for code in ExitCode) + "."
