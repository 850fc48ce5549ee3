"""Names that are safe as a file's, and as part of an object's."""

from __future__ import annotations

import re

from sendense.errors import Rejected

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_name(name: str) -> bool:
    """Tell whether a text can be the name of a directory or file of ours."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str, what: str) -> str:
    """Give ``name`` back, or refuse it: it would lead out of its directory, or be hidden."""
    if not is_name(name):
        raise Rejected(f"{name!r} cannot be the name of {what}: letters, digits, '.', '_', '-'")
    return name
