"""What CloudStack sent back: out of its envelope, or as the refusal that it is.

A body is one key with a map behind it.  The key should be the command with ``response`` behind it,
and is not always; so any single key counts.  Texts may hold bare control characters.  The status
is looked at last: proxies rewrite the odd ones (431, 530), and the body says it all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

Row = Mapping[str, Any]

LONGEST_WORDS: Final = 500
"""So much of a reason is kept: it ends in logs, in errors and in the state of a cloud."""
_UNFIT: Final = re.compile("[\x00\ud800-\udfff]")
"""Letters that no database takes: a NUL, and halves of pairs."""

CODES: Final = frozenset({401, 405, 429, 430, 431, 432, 511, *range(530, 538)})
"""What CloudStack itself answers with."""


@dataclass(frozen=True)
class Refused:
    """CloudStack's no."""

    code: int
    text: str


class Nonsense(Exception):
    """What came is no answer of CloudStack; says what it is instead, and shows no contents."""


def read(status: int, body: bytes, description: str = "") -> dict[str, Any] | Refused:
    """Take an answer out of its envelope; ``description`` is the header ``X-Description``."""
    try:
        inner = _inner(body, status)
    except Nonsense:
        if status in CODES and description:
            return Refused(status, short(description))
        raise
    if "errorcode" in inner:
        return Refused(number(inner["errorcode"]), short(str(inner.get("errortext", ""))))
    if status != 200:
        raise Nonsense(f"HTTP status {status} with an answer that is no error of CloudStack")
    return inner


def rows(answer: Row, key: str | None = None) -> list[dict[str, Any]]:
    """Give the list of an answer; an answer without one is an empty list."""
    found = answer.get(key) if key else None
    if found is None:
        # An answer has one list, and how its key is written differs (``vmSnapshot``).
        found = next((value for value in answer.values() if isinstance(value, list)), [])
    if isinstance(found, Mapping):
        found = [found] if found else []
    return [row for row in found if isinstance(row, dict)]


def only(answer: Row) -> dict[str, Any]:
    """Give the one object of an answer: ``{"virtualmachine": {...}}``; else the answer itself."""
    inner = [value for value in answer.values() if isinstance(value, dict)]
    return inner[0] if len(inner) == 1 else dict(answer)


def count(answer: Row) -> int | None:
    """Give how many rows there are in all, where it is said."""
    found = answer.get("count")
    return None if found is None else number(found)


def text(row: Row, *keys: str) -> str:
    """Give the first of the fields that is there, as text."""
    for key in keys:
        found = row.get(key)
        if found is not None and found != "":
            return str(found)
    return ""


def short(said: str) -> str:
    """Cut what somebody else says, however long it is."""
    said = said.strip()
    return said if len(said) <= LONGEST_WORDS else f"{said[:LONGEST_WORDS]}..."


def number(value: object) -> int:
    """Read a number that may be text, or nothing."""
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return 0


def flag(value: object) -> bool:
    """Read a yes or no that may be text."""
    return str(value).strip().lower() == "true"


def moment(value: object) -> datetime | None:
    """Read ``2021-10-04T09:24:38+0000``; none where it is something else."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def _clean(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Put a mark in place of each letter that cannot be kept."""
    if isinstance(value, str):
        return _UNFIT.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value


def _inner(body: bytes, status: int) -> dict[str, Any]:
    if not body.strip():
        raise Nonsense(f"HTTP status {status} and no content")
    try:
        # Any bytes: what is not UTF-8 is in a text that somebody typed, and no reason to stop.
        whole = json.loads(body.decode(errors="replace"), strict=False)
        if b"\\u" in body or b"\0" in body:  # else there is none of them in it
            whole = _clean(whole)
    except ValueError:
        raise Nonsense(_seen(body, status)) from None
    except RecursionError:
        raise Nonsense("JSON that is nested without end") from None
    keys = list(whole) if isinstance(whole, dict) else []
    ours = keys if len(keys) == 1 else [key for key in keys if key.lower().endswith("response")]
    if len(ours) != 1 or not isinstance(whole[ours[0]], dict):
        raise Nonsense(f"JSON without CloudStack's envelope (HTTP status {status})")
    found: dict[str, Any] = whole[ours[0]]
    return found


def _seen(body: bytes, status: int) -> str:
    """Say what it is instead of JSON.  Never a piece of JSON: user data and passwords are in it."""
    start = body.lstrip()[:2000].decode(errors="replace")
    if start[:1] in "{[":
        return f"{len(body)} bytes of JSON that is cut off or damaged (HTTP status {status})"
    title = re.search(r"<title[^>]*>([^<]{1,80})", start, re.IGNORECASE)
    if title:
        return f"a web page, {' '.join(title.group(1).split())!r} (HTTP status {status})"
    if start.startswith("<"):
        return f"a web page or XML (HTTP status {status})"
    return f"{len(body)} bytes that are no JSON (HTTP status {status})"
