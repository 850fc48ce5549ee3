"""Checks that every relative link in the Markdown files leads to a file and a heading that exist.

Links to other sites are not followed: a check must not depend on them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MARKDOWN = MarkdownIt("commonmark").enable("table")


def markdown_files(root: Path) -> list[Path]:
    """Give the pages of the repository, without those of installed packages."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("changelog/**/*.md")])


def broken_links(page: Path) -> Iterator[str]:
    """Describe each link of a page that leads nowhere."""
    for link in _links(_MARKDOWN.parse(page.read_text(encoding="utf-8"))):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = page.parent / unquote(parts.path) if parts.path else page
        if not target.exists():
            yield f"{page}: {link}: no such file"
        elif parts.fragment and target.suffix == ".md" and parts.fragment not in _anchors(target):
            yield f"{page}: {link}: no such heading"


def _links(tokens: list[Token]) -> Iterator[str]:
    for token in tokens:
        target = token.attrGet("href") or token.attrGet("src")
        if target:
            yield str(target)
        yield from _links(token.children or [])


def _anchors(page: Path) -> set[str]:
    """Name the headings of a page as the common code hosts do."""
    anchors: set[str] = set()
    tokens = _MARKDOWN.parse(page.read_text(encoding="utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        words = re.sub(r"[^\w\- ]", "", inline.content.lower()).replace(" ", "-")
        anchor, repeat = words, 0
        while anchor in anchors:
            repeat += 1
            anchor = f"{words}-{repeat}"
        anchors.add(anchor)
    return anchors


def main() -> int:
    """Check all pages under the current folder; the exit status says whether all is well."""
    broken = [line for page in markdown_files(Path()) for line in broken_links(page)]
    for line in broken:
        print(line)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
