"""Errors that answer "what should I do now?".

Every error that the product raises on purpose is a :class:`SendenseError`.  It
carries a stable ``code`` (documented in ``docs/errors.md``, usable by scripts),
says whether the same call may succeed when it is simply repeated
(``retryable``), and keeps its facts as ``data`` beside the message.  ``hint``
is the next step for the person who reads it.

The tree, by what the caller should do::

    SendenseError
    +-- Rejected              mend the request; nothing was changed
    |   +-- NotFound          it does not exist
    |   +-- AlreadyExists     it exists already
    |   +-- Conflict          it is not, or no longer, in the state that the request needs
    |   +-- NotSignedIn       who asks could not be told
    |   |   +-- SecondStep    a password is not enough to tell it
    |   +-- NotAllowed        the operating system or the host refuses us
    |   |   +-- Held          a pin or a lock keeps the point
    |   +-- Unsupported       this host, disk or version cannot do it
    +-- Busy                  somebody else holds it; try again later (retryable)
    +-- Unavailable           a service cannot be reached or went away (retryable)
    |   +-- Stalled           no progress for the stall time (retryable)
    +-- Damaged               stored or read data fails its check
    |   +-- SourceChanged     the source moved under us; the run was given up (retryable)
    +-- OutOfSpace            scratch or repository is full
    +-- Cancelled             somebody asked us to stop
    +-- StrictWarning         the work is done, but with warnings, under --strict

Exit codes and HTTP statuses are not here: they are made at the edges
(``sendense.cli.exitcodes``).
"""

from __future__ import annotations

from typing import Any, ClassVar, Optional


class SendenseError(Exception):
    """The root: a failure with a stable code, and the facts behind it."""

    code: ClassVar[str] = "failed"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: Optional[str] = None, **data: Any) -> None:
        """Keep ``message`` (one sentence), ``hint`` (what to do) and the facts."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data = data

    def to_dict(self) -> dict[str, Any]:
        """Give the error as a JSON object, the shape that every edge prints."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            "data": {key: str(value) for key, value in self.data.items()},
        }


class Rejected(SendenseError):
    """The request cannot be carried out as it stands; nothing was changed."""

    code = "rejected"


class NotFound(Rejected):
    """What the request names does not exist."""

    code = "not-found"


class AlreadyExists(Rejected):
    """What the request would make is there already."""

    code = "already-exists"


class Conflict(Rejected):
    """What the request works on is not, or no longer, in the state that it needs."""

    code = "conflict"


class NotSignedIn(Rejected):
    """Who asks could not be told: no token, or one that does not count."""

    code = "not-signed-in"


class SecondStep(NotSignedIn):
    """Name and password are right, and more is asked for than we can pass on."""

    code = "second-step"


class NotAllowed(Rejected):
    """The operating system, libvirt or the host's security module refuses us."""

    code = "not-allowed"


class Held(NotAllowed):
    """A pin or a lock keeps the point; the message says which, and until when."""

    code = "held"


class Unsupported(Rejected):
    """This host, disk or version cannot do what was asked."""

    code = "unsupported"


class Busy(SendenseError):
    """Somebody else holds what we need; the message says who."""

    code = "busy"
    retryable = True


class Unavailable(SendenseError):
    """A service cannot be reached, or went away in the middle."""

    code = "unavailable"
    retryable = True


class Stalled(Unavailable):
    """No byte moved for the stall time."""

    code = "stalled"


class Damaged(SendenseError):
    """Data that was read does not match the hash it was stored under."""

    code = "damaged"


class SourceChanged(Damaged):
    """The source stopped being the frozen moment we read; no point was made."""

    code = "source-changed"
    retryable = True


class OutOfSpace(SendenseError):
    """The scratch area or the repository has no room left."""

    code = "out-of-space"


class Cancelled(SendenseError):
    """Somebody asked us to stop; everything of this run was taken back."""

    code = "cancelled"


class StrictWarning(SendenseError):
    """The work is done, but warnings count as failures under ``--strict``."""

    code = "strict-warning"
