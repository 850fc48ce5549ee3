"""Answers as bytes: JSON when it was asked for, XML otherwise.

Text leaves CloudStack unescaped late, so a control character that somebody got into a name comes
out as it is, which is no JSON to a strict reader.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from xml.sax.saxutils import escape

_ESCAPE = re.compile(r"\\(u00[01][0-9a-f]|.)")
_RAW = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def to_json(key: str, body: Mapping[str, object]) -> bytes:
    """Write a body under its key."""
    text = json.dumps({key: body}, ensure_ascii=False, separators=(",", ":"))
    if "\\" in text:
        text = _ESCAPE.sub(_raw, text)
    return text.encode()


def _raw(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) == 5:
        return chr(int(code[1:], 16))
    return _RAW.get(code, found[0])


def to_xml(key: str, body: Mapping[str, object], version: str) -> bytes:
    """Write a body as CloudStack's XML: lists are elements that repeat."""
    inside = "".join(_element(name, value) for name, value in body.items())
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{head}<{key} cloud-stack-version="{version}">{inside}</{key}>'.encode()


def _element(name: str, value: object) -> str:
    if isinstance(value, list):
        return "".join(_element(name, one) for one in value)
    if isinstance(value, Mapping):
        inside = "".join(_element(str(key), one) for key, one in value.items())
        return f"<{name}>{inside}</{name}>"
    if isinstance(value, bool):
        return f"<{name}>{str(value).lower()}</{name}>"
    return f"<{name}>{escape(str(value))}</{name}>"
