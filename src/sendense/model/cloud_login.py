"""A name and a password of somebody in a cloud, as they are shown once.

A user's name counts within one domain only: the same name in another domain is somebody else.  So
the path of the domain is a part of who it is.  It is written as people see it (``ROOT/acme``, or
``acme``), or as CloudStack has it, with a slash in front (``/acme``), which is taken as it is.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

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

        CloudStack's database compares names without case, accents and more, and what that is
        differs by its collation.  So several users may have one text; no user has more than two:
        what has other characters than those that we know how databases compare is nobody's own.
        """
        path, user = _plain(self.path), _plain(self.user)
        return _ODD if _ODD in (path, user) else f"{path}\n{user}"


@dataclass(frozen=True)
class LoggedIn:
    """Whose session it is, as the cloud said when it began."""

    user_id: str
    domain_id: str
    account: str
    """Its name in that domain."""


def _plain(text: str) -> str:
    """Write a name without what databases overlook, or as ``_ODD`` where that is not known."""
    small = unicodedata.normalize("NFD", text).lower().translate(_OVERLOOKED)
    found = "".join(part for part in unicodedata.normalize("NFC", small) if part not in _IGNORED)
    found = _DOUBLE_S.sub("s", found)
    return found if _USUAL.fullmatch(found) else _ODD


_ODD: Final = "?"
_IGNORED: Final = string.punctuation.replace("/", "") + " "
_DOUBLE_S: Final = re.compile("ss+")
_USUAL: Final = re.compile(
    "[/0-9a-z\u03b1-\u03c9\u0430-\u045f\u3042-\u3094\u30fc\u4e00-\u9fa5\uac00-\ud7a3]*"
)
"""Of Latin, Greek and Cyrillic, of Japanese, Chinese and Korean: what is compared as it looks."""
_OVERLOOKED: Final[Mapping[int, int | str]] = {
    **{accent: "" for accent in (*range(0x300, 0x345), 0x3099, 0x309A)},
    **{katakana: chr(katakana - 0x60) for katakana in range(0x30A1, 0x30F5)},
    **str.maketrans("ぁぃぅぇぉっゃゅょゎ", "あいうえおつやゆよわ"),
    **str.maketrans("ァィゥェォッャュョヮ", "あいうえおつやゆよわ"),
    **str.maketrans("ſıøłđðħŧŋĸςґ", "siolddhtnqσг"),  # noqa: RUF001 - these are meant
    **{ord(letter): plain for letter, plain in {"ß": "s", "æ": "ae", "œ": "oe", "þ": "th"}.items()},
}
