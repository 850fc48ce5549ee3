"""A name and a password of somebody in a cloud, as they are shown once.

A user's name counts within one domain only: the same name in another domain is somebody else.  So
the path of the domain is a part of who it is.  It is written as people see it (``ROOT/acme``, or
``acme``), or as CloudStack has it, with a slash in front (``/acme``), which is taken as it is.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from sendense.model.secret import Secret

_ROOT = "root"


@dataclass(frozen=True)
class CloudLogin:
    """Who somebody says to be, and what is to prove it."""

    user: str
    password: Secret
    domain: str = ""
    """Path of the domain; none: the root of the tree."""

    @property
    def path(self) -> str:
        """Give the path as CloudStack has it: ``/acme/lab``, and ``/`` for the root."""
        given = self.domain
        if not given.startswith("/"):
            first, _, rest = given.partition("/")
            given = rest if first.lower() == _ROOT else given
        parts = [part for part in given.split("/") if part]
        return f"/{'/'.join(parts)}"

    @property
    def subject(self) -> str:
        """Give whom a password is tried for: one text for all ways to write the same user.

        CloudStack's database compares names without case and accents, and without the blanks at
        their ends.
        """
        return f"{_plain(self.path)}\n{_plain(self.user)}"


@dataclass(frozen=True)
class LoggedIn:
    """Whose session it is, as the cloud said when it began."""

    user_id: str
    domain_id: str
    account: str
    """Its name in that domain."""


def _plain(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part)).rstrip()
