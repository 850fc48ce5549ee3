"""Reading a YAML file so that every complaint names its line.

A section is a frozen dataclass whose fields were made by :func:`setting`: each brings the
function that reads its value, whether it can change while the agent runs, and what it means.  The
documentation is held to the same fields.  What is not known is an error with the nearest
known name: a typing mistake must not leave a default in force in silence.

All that is wrong in a file is told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

import yaml

from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.units import format_size, parse_size

Section = TypeVar("Section")

_LARGEST = 256 * 1024
_SHOWN = 8
"""Complaints that are told at once."""


class Wrong(Exception):
    """A value does not fit; the text says what would."""


Reader = Callable[["Cursor", yaml.Node], Any]


class Cursor:
    """Where in a file the reading is, and what was found wrong so far."""

    def __init__(self, file: Path, key: str = "", complaints: Optional[list[str]] = None) -> None:
        """Begin at ``key``; the complaints are shared by all cursors of a file."""
        self.file = file
        self.key = key
        self.complaints: list[str] = [] if complaints is None else complaints

    def at(self, name: str) -> Cursor:
        """Go down to a key."""
        return Cursor(self.file, f"{self.key}.{name}" if self.key else name, self.complaints)

    def complain(self, node: yaml.Node, text: str) -> None:
        """Note what is wrong at a place."""
        line = node.start_mark.line + 1
        self.complaints.append(f"line {line}: {self.key}: {text}")


def setting(
    read: Reader, default: Any = MISSING, *, about: str, live: bool = True, shown: str = ""
) -> Any:
    """Declare a setting: how it is read, its default, what it is about.

    ``live`` says whether a change of it takes effect without a restart.
    ``shown`` is the default as the documentation writes it, where that is not plain.
    """
    metadata = {"read": read, "about": about, "live": live, "shown": shown}
    return field(default=default, metadata=metadata)


def load(path: Path, root: str, kind: type[Section]) -> Section:
    """Read the section ``root`` of a file; :class:`Rejected` tells all that is wrong, by line."""
    node = _compose(path)
    cursor = Cursor(path)
    found: Any = None
    if not isinstance(node, yaml.MappingNode):
        raise Rejected(f"{path}: line 1: the file holds no {root}:", hint=f"begin with '{root}:'")
    pairs = _pairs(cursor, node, [root])
    if root in pairs:
        found = read_section(kind)(cursor.at(root), pairs[root])
    elif not cursor.complaints:
        cursor.at(root).complain(node, "this section is missing")
    if cursor.complaints:
        raise _rejected(path, cursor.complaints)
    result: Section = found
    return result


def read_section(kind: type[Any], *, ensure: Optional[Callable[[Any], None]] = None) -> Reader:
    """Give the reader of a section; ``ensure`` raises :class:`Wrong` if values disagree."""

    def read(cursor: Cursor, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.MappingNode):
            raise Wrong("here belongs a section: keys with their values, indented")
        known = {item.name: item for item in fields(kind)}
        before = len(cursor.complaints)
        values = {
            name: _value(cursor.at(name), known[name], child)
            for name, child in _pairs(cursor, node, list(known)).items()
        }
        for name, item in known.items():
            if name not in values and _required(item):
                cursor.complain(node, f"{name} is missing: {item.metadata['about']}")
        if len(cursor.complaints) > before:
            return None
        made = kind(**values)
        if ensure is not None:
            ensure(made)
        return made

    def reporting(cursor: Cursor, node: yaml.Node) -> Any:
        try:
            return read(cursor, node)
        except Wrong as wrong:
            cursor.complain(node, str(wrong))
            return None

    return reporting


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _value(cursor: Cursor, item: Field[Any], node: yaml.Node) -> Any:
    try:
        return item.metadata["read"](cursor, node)
    except Wrong as wrong:
        cursor.complain(node, str(wrong))
        return None


def _pairs(cursor: Cursor, node: yaml.MappingNode, known: Sequence[str]) -> dict[str, yaml.Node]:
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            cursor.at(name).complain(key, f"there is no such setting; {hint}")
        elif name in found:
            cursor.at(name).complain(key, "is there twice")
        else:
            found[name] = value
    return found


def _compose(path: Path) -> Optional[yaml.Node]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no settings file {path}") from None
    except OSError as error:
        raise NotAllowed(f"the settings file {path} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise Rejected(f"{path} is larger than {format_size(_LARGEST)}: that is no settings file")
    try:
        found: Optional[yaml.Node] = yaml.compose(content, Loader=yaml.SafeLoader)
        return found
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise _rejected(path, [f"line {line}: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise _rejected(path, [f"line 1: {' '.join(str(error).split())}"]) from None


def _rejected(path: Path, complaints: Sequence[str]) -> Rejected:
    shown = "; ".join(complaints[:_SHOWN])
    more = f"; and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
    return Rejected(
        f"{path}: {shown}{more}", hint="docs/agent.md lists all settings of the agent", file=path
    )


# -- values --------------------------------------------------------------------------------------


def _plain(node: yaml.Node, wanted: str) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
        raise Wrong(f"here belongs {wanted}")
    return str(node.value)


def text(wanted: str = "a text", *, pattern: Optional[Any] = None) -> Reader:
    """Read a text that is not empty, and that matches ``pattern`` as a whole."""

    def read(_cursor: Cursor, node: yaml.Node) -> str:
        found = _plain(node, wanted)
        if not found or (pattern is not None and not pattern.fullmatch(found)):
            raise Wrong(f"{found!r} does not fit: {wanted}")
        return found

    return read


def path(_cursor: Cursor, node: yaml.Node) -> Path:
    """Read an absolute path."""
    found = Path(_plain(node, "a path"))
    if not found.is_absolute():
        raise Wrong(f"{str(found)!r} is no absolute path: begin it with /")
    return found


def choice(*names: str) -> Reader:
    """Read one of some names."""

    def read(_cursor: Cursor, node: yaml.Node) -> str:
        found = _plain(node, f"one of {', '.join(names)}")
        if found not in names:
            near = difflib.get_close_matches(found, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Wrong(f"{found!r} is none of {', '.join(names)}{hint}")
        return found

    return read


def flag(_cursor: Cursor, node: yaml.Node) -> bool:
    """Read ``true`` or ``false``."""
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:bool":
        return str(node.value).lower() in ("true", "yes", "on")
    raise Wrong("here belongs true or false")


def number(least: int, most: int, unit: str = "") -> Reader:
    """Read a whole number between two others."""
    wanted = f"a whole number from {least} to {most}{' ' + unit if unit else ''}"

    def read(_cursor: Cursor, node: yaml.Node) -> int:
        found = _plain(node, wanted)
        if not found.lstrip("-").isdecimal() or not least <= int(found) <= most:
            raise Wrong(f"{found!r} is not {wanted}")
        return int(found)

    return read


def size(least: int, most: int, *, power_of_2: bool = False) -> Reader:
    """Read bytes, also written as ``64K`` or ``1.5G``."""
    wanted = f"a size from {format_size(least)} to {format_size(most)}"
    wanted += ", a power of 2" if power_of_2 else ""

    def read(_cursor: Cursor, node: yaml.Node) -> int:
        written = _plain(node, wanted)
        try:
            found = parse_size(written)
        except Rejected:
            raise Wrong(f"{written!r} is not {wanted}, such as 64K or 1G") from None
        if not least <= found <= most or (power_of_2 and found & (found - 1)):
            raise Wrong(f"{written!r} is not {wanted}")
        return found

    return read


def list_of(read_item: Reader) -> Reader:
    """Read a list."""

    def read(cursor: Cursor, node: yaml.Node) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise Wrong("here belongs a list: one '- ' a line")
        found = []
        for place, item in enumerate(node.value):
            below = Cursor(cursor.file, f"{cursor.key}[{place}]", cursor.complaints)
            try:
                found.append(read_item(below, item))
            except Wrong as wrong:
                below.complain(item, str(wrong))
        return tuple(found)

    return read


def or_none(read_item: Reader) -> Reader:
    """Read a value that may also be ``null``."""

    def read(cursor: Cursor, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return None
        return read_item(cursor, node)

    return read
