"""Signatures of requests: what is signed, how it is compared, and how long it holds.

The parameter names are sorted as they were sent, before anything is lower-cased, and the values are
encoded as Java's form encoding does: `~` becomes `%7E`, `*` stays. A signature holds for ever
unless the request says `signatureVersion=3` and when it expires.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

FURTHEST = timedelta(minutes=15)
"""How far ahead `expires` may be where time stamps are enforced."""

_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%dT%H:%M:%S.%f%z",
)


def text_to_sign(params: Mapping[str, str]) -> str:
    """Give what the signature is made of."""
    pairs = [
        f"{name}={quote(value, safe='*').replace('~', '%7E')}"
        for name, value in sorted(params.items())
        if name.lower() != "signature"
    ]
    return "&".join(pairs).lower()


def signature(params: Mapping[str, str], secret: str) -> str:
    """Sign a request."""
    digest = hmac.new(secret.encode(), text_to_sign(params).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def signed(params: Mapping[str, str], api_key: str, secret: str) -> dict[str, str]:
    """Give a request with its key and signature, for those who test the server."""
    request = {**params, "apiKey": api_key}
    return {**request, "signature": signature(request, secret)}


def is_signed_by(params: Mapping[str, str], given: str, secret: str) -> bool:
    """Tell whether a signature is right, in constant time."""
    return hmac.compare_digest(signature(params, secret).encode(), given.encode())


def expiry(text: str, *, instants: bool) -> datetime | None:
    """Read `expires`; none for what is malformed. Newer versions also read ISO instants."""
    if text.endswith("Z"):
        if not instants:
            return None
        text = f"{text[:-1]}+0000"
    elif len(text) > 6 and text[-3] == ":" and text[-6] in "+-" and not instants:
        return None
    for pattern in _FORMATS if instants else _FORMATS[:1]:
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007 - each has an offset
        except ValueError:
            continue
    return None


def in_time(
    params: Mapping[str, str], now: datetime, *, enforced: bool = False, instants: bool = False
) -> bool:
    """Tell whether a request still holds. Names are compared as the server does: any case."""
    given = {name.lower(): value for name, value in params.items()}
    if given.get("signatureversion") != "3":
        return not enforced
    until = expiry(given.get("expires", ""), instants=instants)
    if until is None or until < now:
        return False
    return not enforced or until <= now + FURTHEST


def instant(moment: datetime) -> str:
    """Write a moment as `expires` wants it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
