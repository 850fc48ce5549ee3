"""What a server answers, as values; and an answer that is none, as an error that says so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sendense import clock
from sendense.errors import NotSignedIn, Rejected, SecondStep, SendenseError, Unavailable
from sendense.fleet.problems import error_of

_OTHER_VERSION = "the server and this program may be of different versions: see 'sendense version'"
_SIGN_IN = "sign in again with 'sendense login URL'"


class Doc(dict[str, Any]):
    """A JSON object of an answer; a field that it lacks is the server's mistake, and said so."""

    def __missing__(self, key: str) -> Any:  # noqa: ANN401 - never returns
        raise Unavailable(f"the server's answer lacks {key!r}", hint=_OTHER_VERSION)

    def moment(self, key: str) -> datetime | None:
        """Give a time of it."""
        text = self[key]
        if text is None:
            return None
        try:
            return datetime.fromisoformat(str(text))
        except ValueError:
            raise Unavailable(f"the server's {key!r} is not a time", hint=_OTHER_VERSION) from None

    def part(self, key: str) -> Doc:
        """Give an object in it; an empty one where it is null."""
        return _doc(self[key] or Doc(), key)

    def parts(self, key: str) -> list[Doc]:
        """Give the objects of a list in it."""
        found = self[key]
        if not isinstance(found, list):
            raise Unavailable(f"the server's {key!r} is not a list", hint=_OTHER_VERSION)
        return [_doc(each, key) for each in found]


def _doc(value: object, key: str) -> Doc:
    if not isinstance(value, Doc):
        raise Unavailable(f"the server's {key!r} is not an object", hint=_OTHER_VERSION)
    return value


def parse(content: bytes, url: str) -> Doc | list[Doc]:
    """Read the body of an answer."""
    value = _json(content)
    if isinstance(value, Doc):
        return value
    if isinstance(value, list) and all(isinstance(each, Doc) for each in value):
        return value
    raise nonsense(url)


def parse_doc(content: bytes, url: str) -> Doc:
    """Read the body of an answer that is one object."""
    value = parse(content, url)
    if not isinstance(value, Doc):
        raise nonsense(url)
    return value


def nonsense(url: str, status: int | None = None) -> Unavailable:
    """Give the error for an answer that no server of ours gives."""
    said = f" (status {status})" if status else ""
    return Unavailable(
        f"what answers at {url} is not a Sendense server{said}",
        hint="check the URL, and what stands between",
    )


def problem_of(status: int, content: bytes, url: str) -> SendenseError:
    """Give the error that an answer describes, as the class that it was at the server."""
    body = _json(content)
    if not isinstance(body, Doc) or not isinstance(body.get("code"), str):
        return nonsense(url, status)
    hint = body.get("hint")
    error = error_of(body["code"], str(body.get("message", "")), hint=str(hint) if hint else None)
    if body["code"] == SendenseError.code:
        # One that the server did not foresee is no service that cannot be reached.
        error = SendenseError(error.message, hint=error.hint)
    if isinstance(error, NotSignedIn) and not isinstance(error, SecondStep):
        error.hint = _SIGN_IN
    data = body.get("data")
    if isinstance(data, Mapping):
        error.data.update(data)
    return error


def refused_redirect(url: str) -> Rejected:
    """Give the error for a server that sends elsewhere: a token goes only where it was meant to."""
    return Rejected(
        f"{url} sends us to another place, and a token is not sent there",
        hint="sign in at the place itself: mind https, and the path",
    )


def _json(content: bytes) -> object:
    try:
        return json.loads(content, object_hook=Doc)
    except (ValueError, RecursionError):
        return None


def age_s(moment: datetime) -> float:
    """Give for how many seconds something has been so."""
    return max(0.0, (clock.now() - moment).total_seconds())
