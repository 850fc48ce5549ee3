"""Secrets: values that never print.

A passphrase, a key or a token travels as a :class:`Secret`.  It shows as ``<secret>`` in
logs, errors, tracebacks and settings; only :meth:`Secret.reveal` gives what it is, so that the
places where a secret leaves its wrapping can be found by that word.
"""

from __future__ import annotations

import hmac
from typing import Union


class Secret:
    """Bytes or text that must not be shown."""

    __slots__ = ("_value",)

    def __init__(self, value: Union[bytes, str]) -> None:
        """Wrap ``value``; text is kept as its UTF-8 bytes."""
        self._value = _bytes_of(value) if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """Give the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


def _bytes_of(text: str) -> bytes:
    """Give the bytes of any text: an error of the codec would show a piece of the secret."""
    try:
        # What came from the environment or a file name as no UTF-8 goes back to what it was.
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
