"""Values of the domain as JSON values, and back: what travels between machines.

A value is a frozen dataclass of other values, tuples, optionals, enumerations, times, spans, bytes
and what JSON has itself.  Times are UTC as ISO 8601, spans are seconds, bytes are base64.  Reading
is strict: what does not fit is a :class:`~sendense.errors.Rejected` that names the place, and never
a guess.  A field that is not known is left aside, so that a later version may add some; one that is
missing takes its default, and is an error where it has none.

Only the standard library is used, because agents run on the system Python of a KVM host.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sendense.errors import Rejected
from sendense.model.secret import Secret

T = TypeVar("T")

_PLAIN = (str, int, float, bool)


def encode(value: Any) -> Any:
    """Give a value as JSON values.

    A :class:`~sendense.model.secret.Secret` is refused: whoever sends one reveals it by name.
    """
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Secret):
        raise TypeError("a secret is not encoded")
    raise TypeError(f"a {type(value).__name__} is no value of the domain")


def decode(kind: type[T], content: Any, *, place: str = "") -> T:
    """Give the value of type ``kind`` that JSON values stand for; ``place`` begins its errors."""
    found: T = _decode(kind, content, place or kind.__name__)
    return found


def _decode(kind: Any, content: Any, place: str) -> Any:
    if type(content) is kind and kind in _PLAIN:
        return content  # most of what there is, and so the first to be asked for
    if get_origin(kind) is Union:
        return _decode_union(kind, content, place)
    if get_origin(kind) is tuple:
        return _decode_tuple(get_args(kind), content, place)
    if get_origin(kind) in (dict, Mapping):
        key, item = get_args(kind)
        _require(isinstance(content, dict), place, "an object", content)
        return {
            _decode(key, name, place): _decode(item, each, f"{place}.{name}")
            for name, each in content.items()
        }
    if is_dataclass(kind):
        return _decode_fields(kind, content, place)
    return _decode_plain(kind, content, place)


def _decode_union(kind: Any, content: Any, place: str) -> Any:
    """Only ``Optional`` is used in the domain."""
    options = [option for option in get_args(kind) if option is not type(None)]
    if len(options) != 1:
        raise TypeError(f"{kind} has more than one reading")
    return None if content is None else _decode(options[0], content, place)


def _decode_tuple(kinds: tuple[Any, ...], content: Any, place: str) -> tuple[Any, ...]:
    _require(isinstance(content, list), place, "a list", content)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(
            _decode(kinds[0], item, f"{place}[{number}]") for number, item in enumerate(content)
        )
    _require(len(content) == len(kinds), place, f"a list of {len(kinds)}", content)
    pairs = enumerate(zip(kinds, content))
    return tuple(_decode(kind, item, f"{place}[{number}]") for number, (kind, item) in pairs)


def _decode_fields(kind: Any, content: Any, place: str) -> Any:
    _require(isinstance(content, dict), place, "an object", content)
    hints = _hints(kind)
    values = {}
    for field in _fields(kind):
        if field.name in content:
            values[field.name] = _decode(
                hints[field.name], content[field.name], f"{place}.{field.name}"
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Rejected(f"{place}.{field.name} is missing", place=f"{place}.{field.name}")
    return kind(**values)


def _decode_plain(kind: Any, content: Any, place: str) -> Any:
    if kind is Any:
        return content
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(content)
        except ValueError:
            names = ", ".join(str(item.value) for item in kind)
            raise Rejected(f"{place} is {content!r}, and none of {names}", place=place) from None
    if kind is datetime:
        return _time(content, place)
    if kind is timedelta:
        return _span(content, place)
    if kind is bytes:
        return _bytes(content, place)
    if kind is float:
        _require(type(content) in (int, float), place, "a number", content)
        return float(content)
    if kind in _PLAIN:
        # bool is an int to Python, and not to us.
        _require(type(content) is kind, place, _NAMES[kind], content)
        return content
    raise TypeError(f"{kind} is no type of the domain")


_NAMES = {str: "a text", int: "a whole number", bool: "true or false"}


def _time(content: Any, place: str) -> datetime:
    _require(isinstance(content, str), place, "a time", content)
    try:
        # Python before 3.11 does not read the Z.
        found = datetime.fromisoformat(content.replace("Z", "+00:00"))
    except ValueError:
        raise Rejected(f"{place} is {content!r}, and no time", place=place) from None
    _require(found.tzinfo is not None, place, "a time with its zone", content)
    return found.astimezone(timezone.utc)


def _span(content: Any, place: str) -> timedelta:
    _require(type(content) in (int, float), place, "a number of seconds", content)
    try:
        return timedelta(seconds=content)
    except (OverflowError, ValueError):
        raise Rejected(f"{place} is {content!r}, and no span", place=place) from None


def _bytes(content: Any, place: str) -> bytes:
    _require(isinstance(content, str), place, "bytes in base64", content)
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise Rejected(f"{place} is no base64", place=place) from None


def _require(fits: bool, place: str, wanted: str, content: Any) -> None:
    if not fits:
        raise Rejected(f"{place} is {_shown(content)}, and not {wanted}", place=place)


def _shown(content: Any) -> str:
    """Name what came without repeating it at length."""
    text = repr(content)
    return text if len(text) <= 40 else f"{text[:40]}..."


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)
