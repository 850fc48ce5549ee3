"""What can go wrong in the lab, as one tree.

`LabError` is everything: a lab failure is a failure of the test bed, never of the product, so
tests let it propagate. `CommandFailed` keeps what a tool said, `GuestFailed` what the guest said.
"""

from __future__ import annotations

from collections.abc import Sequence


class LabError(Exception):
    """The lab could not do what it was asked to."""


class CommandFailed(LabError):
    """A command of the host ended with an error."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        super().__init__(f"{' '.join(argv)} ended with {status}: {stderr.strip()}")
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr


class GuestFailed(LabError):
    """A command inside the guest ended with an error."""

    def __init__(self, argv: Sequence[str], status: int, output: str) -> None:
        super().__init__(f"in the guest: {' '.join(argv)} ended with {status}: {output.strip()}")
        self.argv = tuple(argv)
        self.status = status
        self.output = output


class TimedOut(LabError, TimeoutError):
    """Something did not happen in time."""
