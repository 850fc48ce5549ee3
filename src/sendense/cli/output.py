"""What a person or a script reads: results on standard output, all else on standard error.

With ``--json`` standard output carries exactly one JSON document.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 240
"""Columns where there is no terminal: a pipe must not get cut or wrapped lines."""

_GAP = 2
"""Blanks between two columns."""
_FOLDED = 30
"""Columns that a folded column keeps: one word a line is harder to read than a long line."""

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    fold: bool = False
    """Long text may wrap here, rather than anywhere else."""
    minor: int = 0
    """A terminal that is too narrow goes without it: the highest first, 0 never."""


@dataclass(frozen=True)
class Sheet:
    """A table for people."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    title: str | None = None


@dataclass(frozen=True)
class Report:
    """The result of a command: the document for scripts, and what people see of it."""

    document: Mapping[str, Any]
    parts: Sequence[Sheet | Cell] = field(default=())


class Output:
    """Writes results and notes."""

    def __init__(self, *, as_json: bool, quiet: bool, color: bool) -> None:
        """Look at the streams as they are now."""
        self.as_json = as_json
        self.quiet = quiet
        self.results = _console(sys.stdout, color=color)
        self.notes = _console(sys.stderr, color=color)

    def show(self, report: Report) -> None:
        """Write the result of a command; at most once with ``--json``."""
        if self.as_json:
            sys.stdout.write(json.dumps(report.document, indent=2, ensure_ascii=False) + "\n")
        else:
            for part in report.parts:
                _print(self.results, part)
        sys.stdout.flush()

    def show_raw(self, content: bytes) -> None:
        """Write bytes as they are."""
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()

    def note(self, text: Cell) -> None:
        """Say something that is no result; a reader that went away is no error here."""
        if not self.quiet:
            self.alert(text)

    def alert(self, part: Sheet | Cell) -> None:
        """Say something on standard error that also a quiet run has to say."""
        try:
            _print(self.notes, part)
        except OSError:
            # The terminal was closed: there is nobody to tell.
            return


def lines(items: Iterable[str]) -> str:
    """Join lines; an empty list gives an empty text."""
    return "\n".join(items)


def pairs(items: Sequence[tuple[str, str]]) -> Text:
    """Lay out a name and its value per line, as the description of one thing."""
    width = max((len(name) for name, _ in items), default=0)
    text = Text()
    for number, (name, value) in enumerate(items):
        text.append(("\n" if number else "") + f"{name:<{width}}  ", style="bold")
        text.append(value.replace("\n", "\n" + " " * (width + 2)))
    return text


class _Console(Console):
    """A console that leaves it to the program how to end when its reader goes away."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(stream: TextIO, *, color: bool) -> Console:
    known = stream.isatty() or "COLUMNS" in os.environ
    return _Console(
        file=stream,
        no_color=not color,
        width=None if known else _WIDE,
        soft_wrap=False,
        highlight=False,
        emoji=False,
        markup=False,
    )


def _print(console: Console, part: Sheet | Cell) -> None:
    """Print a part; what is wider than the terminal is wrapped by it, and never cut."""
    if not isinstance(part, Sheet):
        console.print(_text(part), soft_wrap=True)
        return
    sheet = _fitted(part, console.width)
    width = console.width
    console.width = max(width, _least_width(sheet))
    console.print(_table(sheet), crop=False)
    console.width = width


def _fitted(sheet: Sheet, width: int) -> Sheet:
    """Leave out what a narrow terminal has no room for: empty columns, then minor ones."""
    if _least_width(sheet) > width:
        sheet = _without(sheet, [not any(len(row[n]) for row in sheet.rows) for n in _all(sheet)])
    for minor in sorted({column.minor for column in sheet.columns} - {0}, reverse=True):
        if _least_width(sheet) > width:
            sheet = _without(sheet, [column.minor == minor for column in sheet.columns])
    return sheet


def _all(sheet: Sheet) -> range:
    return range(len(sheet.columns))


def _without(sheet: Sheet, left_out: Sequence[bool]) -> Sheet:
    kept = [number for number in _all(sheet) if not left_out[number]]
    rows = [[row[number] for number in kept] for row in sheet.rows]
    return Sheet([sheet.columns[number] for number in kept], rows, sheet.title)


def _least_width(sheet: Sheet) -> int:
    """Give the columns of the terminal that a table needs at least."""
    return sum(_least(sheet, number) + _GAP for number in _all(sheet)) - _GAP


def _least(sheet: Sheet, number: int) -> int:
    """Give what one column needs: all of its text, but for one that folds."""
    column = sheet.columns[number]
    longest = max((len(row[number]) for row in sheet.rows), default=0)
    return max(len(column.title), min(longest, _FOLDED) if column.fold else longest)


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def _table(sheet: Sheet) -> Table:
    table = Table(title=sheet.title, title_justify="left", box=None, pad_edge=False)
    for number, column in enumerate(sheet.columns):
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            min_width=_least(sheet, number),
            overflow="fold",
        )
    for row in sheet.rows:
        table.add_row(*(_text(cell) for cell in row))
    return table
