"""What it means that a stored file cannot be read: damage, or only that we may not now.

The difference matters.  Damage is remembered, and makes the next backup a full; a
permission that is missing, or storage that does not answer, says nothing about what
is stored.
"""

from __future__ import annotations

import errno

from sendense.errors import Damaged, NotAllowed, SendenseError, Unavailable

_REFUSED = {errno.EACCES, errno.EPERM}
_AWAY = {
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
}


def unreadable(what: object, error: OSError) -> SendenseError:
    """Give the error for ``what``, a file that the operating system does not let us read."""
    message = f"{what} cannot be read: {error.strerror or error}"
    if error.errno in _REFUSED:
        return NotAllowed(message, hint="run as root, or as the owner of the repository", file=what)
    if error.errno in _AWAY:
        return Unavailable(message, hint="look at the storage, then try again", file=what)
    return Damaged(message, file=what)
