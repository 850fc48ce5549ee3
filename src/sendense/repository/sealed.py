"""Small JSON documents that prove themselves: format, version, content and a BLAKE3.

People read them with any tool; a program accepts one only if it is byte for byte
what was written.  A document of a newer version is
:class:`~sendense.errors.Unsupported`, all else that is not right is
:class:`~sendense.errors.Damaged`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from blake3 import blake3

from sendense.errors import Damaged, NotFound, Unsupported
from sendense.formats.refused import unreadable

VERSION = 1

Content = dict[str, Any]
"""What a document says: JSON values by name."""


def render(kind: str, content: Content, *, version: int = VERSION) -> bytes:
    """Give the bytes of a document."""
    document = {"format": kind, "version": version, "content": content}
    document["blake3"] = blake3(_plain(document)).hexdigest()
    return _readable(document)


def parse(data: bytes, kind: str, *, name: str) -> Content:
    """Give the content of a document; ``name`` is for the error."""
    try:
        document = json.loads(data)
        stored = document.pop("blake3")
        version = document["version"]
        right = document["format"] == kind and isinstance(version, int)
        right = right and isinstance(document["content"], dict)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"{name} cannot be read: {type(error).__name__}", file=name) from error
    if right and version > VERSION:
        raise Unsupported(
            f"{name} was written by a newer version (format {version})",
            hint="use that version or a later one",
            file=name,
        )
    if not right or stored != _digest(document) or data != _whole(document, stored):
        raise Damaged(f"{name} does not match its own checksum", file=name)
    content: Content = document["content"]
    return content


def read(path: Path, kind: str) -> Content:
    """Give the content of a document in a file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", file=path) from error
    except OSError as error:
        raise unreadable(path, error) from error
    return parse(data, kind, name=str(path))


def _digest(document: dict[str, Any]) -> str | None:
    try:
        return blake3(_plain(document)).hexdigest()
    except ValueError:  # lone surrogates, numbers that are none
        return None


def _whole(document: dict[str, Any], stored: str) -> bytes:
    return _readable({**document, "blake3": stored})


def _plain(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _readable(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"
