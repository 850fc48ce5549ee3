"""Measures modules and functions, and shows those that outgrow what the house aims for.

The aims are a nudge: they are printed and nothing fails.  The limits are held by
``tests/house/test_sizes.py``, with the same measure.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULE_AIM, MODULE_LIMIT = 250, 500
FUNCTION_AIM, FUNCTION_LIMIT = 30, 60

_SHOWN = 10


@dataclass(frozen=True)
class Size:
    """How long one module or function is, and how long it should and may be."""

    place: str
    lines: int
    aim: int
    limit: int


def measure(path: Path) -> Iterator[Size]:
    """Give the size of a module and of each function in it, docstrings included."""
    text = path.read_text(encoding="utf-8")
    yield Size(str(path), text.count("\n"), MODULE_AIM, MODULE_LIMIT)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            place = f"{path}:{node.lineno} {node.name}"
            yield Size(place, lines, FUNCTION_AIM, FUNCTION_LIMIT)


def main(folders: list[str]) -> None:
    """Print the largest above their aim, relative to it."""
    paths = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    large = [size for path in paths for size in measure(path) if size.lines > size.aim]
    large.sort(key=lambda size: size.lines / size.aim, reverse=True)
    if large:
        print(f"Longer than the aim ({len(large)}; the largest first, nothing fails here):")
    for size in large[:_SHOWN]:
        print(f"  {size.place}: {size.lines} lines, aim {size.aim}, limit {size.limit}")


if __name__ == "__main__":
    main(sys.argv[1:])
