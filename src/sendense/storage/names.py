"""Which names objects may have.

Few enough that every file system and every bucket takes them as they are, and none of them
can lead out of its store: parts of letters, digits, ``.``, ``_`` and ``-``, joined by ``/``.  A
part that begins with a dot belongs to the store itself (a file half written) or to the file
system.
"""

from __future__ import annotations

import re

from sendense.errors import Rejected

_LONGEST = 512
_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")


def is_name(name: str) -> bool:
    """Tell whether an object may be called so."""
    return len(name) <= _LONGEST and _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Refuse what no object is called."""
    if not is_name(name):
        raise Rejected(
            f"an object cannot be called {name!r}",
            hint="use letters, digits, '.', '_' and '-' in parts joined by '/', none of which "
            "begins with a dot",
            name=name,
        )


def check_prefix(prefix: str) -> None:
    """Refuse what does not name all objects (empty) or those of a folder (ending in ``/``)."""
    if prefix and not (prefix.endswith("/") and is_name(prefix[:-1])):
        raise Rejected(
            f"objects cannot be listed by {prefix!r}", hint="name a folder, and end it with '/'"
        )
