"""JSON in exactly one spelling, so that a MAC over a document means something.

Canonical is: keys sorted by code point, no spaces, everything beyond ASCII as
``\\uXXXX``, no ``NaN`` and no infinities.  A document that was read and is written again has the
same bytes, also where it holds fields that this version does not know.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sendense.errors import Damaged

Content = dict[str, Any]
"""JSON values by name."""

_DEEPEST: Final = 64


def encode(content: Content) -> bytes:
    """Give the canonical bytes of a document."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def readable(content: Content) -> bytes:
    """Give bytes that people can read: for objects that are stored as plain JSON."""
    return json.dumps(content, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"


def decode(data: bytes, name: str) -> Content:
    """Give the document in ``data``; ``name`` is for the error.

    What is given can be encoded again.
    """
    try:
        content = json.loads(data)
        right = isinstance(content, dict) and not _too_deep(content)
        if right:
            encode(content)
    except (ValueError, RecursionError) as error:
        # Not chained: a JSON error carries the whole document.
        raise Damaged(f"{name} is no JSON: {type(error).__name__}", file=name) from None
    if not right:
        raise Damaged(f"{name} is no JSON object, or nested too deep", file=name)
    document: Content = content
    return document


def _too_deep(content: Content) -> bool:
    """Tell whether a document is nested so deep that to encode it could fail."""
    level: list[Any] = [content]
    for _ in range(_DEEPEST):
        items = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for item in items for child in item if isinstance(child, dict | list)]
        if not level:
            return False
    return True
