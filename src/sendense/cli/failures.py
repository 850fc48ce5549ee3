"""How an error reaches people and scripts: one message, one hint, one code; no traceback.

An error that the product did not raise on purpose is a bug, and is called one.
"""

from __future__ import annotations

import errno
import traceback
from typing import Any

from sendense import __version__
from sendense.cli.exitcodes import ExitCode, exit_code_of
from sendense.cli.output import Output, Report
from sendense.errors import Cancelled, NotAllowed, OutOfSpace, SendenseError

BUG = "bug"
"""The code of an error that nobody foresaw."""

_BUG_HINT = (
    "this is a bug in Sendense; please report it with the output of the same command with -vv, "
    "and of 'sendense version'"
)

_BY_ERRNO: dict[int, type[SendenseError]] = {
    errno.ENOSPC: OutOfSpace,
    errno.EDQUOT: OutOfSpace,
    errno.EACCES: NotAllowed,
    errno.EPERM: NotAllowed,
    errno.EROFS: NotAllowed,
}


def known(error: BaseException) -> SendenseError | None:
    """Give an error as one of ours, if it is or stands for one."""
    if isinstance(error, SendenseError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Cancelled("the run was stopped", hint="everything of it was taken back")
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        place = f"{error.filename}: " if error.filename else ""
        return _BY_ERRNO[error.errno](f"{place}{error.strerror}")
    return None


def code_of(error: BaseException) -> ExitCode:
    """Give the exit code for any error."""
    return exit_code_of(known(error) or error)


def describe(error: BaseException) -> dict[str, Any]:
    """Give any error as the JSON object that every command prints."""
    ours = known(error)
    if ours is not None:
        return {**ours.to_dict(), "exit_code": int(exit_code_of(ours))}
    return {
        "code": BUG,
        "message": f"{type(error).__name__}: {error}",
        "hint": _BUG_HINT,
        "retryable": False,
        "data": {"version": __version__},
        "exit_code": int(ExitCode.FAILED),
    }


def report(error: BaseException, output: Output, *, traceback_too: bool = False) -> ExitCode:
    """Tell of the error that ended a command; gives the exit code."""
    if output.as_json:
        output.show(Report({"error": describe(error)}))
    else:
        tell(error, output)
    if traceback_too:
        trace(error, output)
    return code_of(error)


def trace(error: BaseException, output: Output) -> None:
    """Write the traceback of an error."""
    output.alert("".join(traceback.format_exception(error)).rstrip())


def tell(error: BaseException, output: Output, *, about: str = "") -> None:
    """Write an error for people; ``about`` names what it happened to."""
    facts = describe(error)
    output.alert(f"error: {about}{': ' if about else ''}{facts['message']}")
    if facts["hint"]:
        output.alert(f"  hint: {facts['hint']}")
    output.alert(f"  code: {facts['code']} (exit code {facts['exit_code']})")
