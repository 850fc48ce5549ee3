"""No file tells where it was written or where its author's packages come from.

Such a place works for one person only, and is out of date before the next one reads it.
"""

from __future__ import annotations

import re

import pytest

from tests.house.tree import ROOT, repository_files

# Written apart, so that this file passes its own test.
_REGISTRIES = [
    words.replace(" ", ".")
    for words in (
        "pypi org", "pythonhosted org", "npmjs org", "npmjs com",
        "deb debian org", "security debian org", "snapshot debian org", "ftp debian org",
        "archive ubuntu com", "security ubuntu com",
    )
]  # fmt: skip
_HOMES = [f"/{folder}/" for folder in ("home", "Users")]
_WORKPLACES = [f"/{folder}/" for folder in ("work", "workspace", "workspaces")]
FORBIDDEN = re.compile(
    "|".join(re.escape(host) for host in _REGISTRIES)
    # A path begins here: what stands before it is no part of one.
    + r"|(?<![\w.~})$>-])(?:" + "|".join(_WORKPLACES)
    # A placeholder is nobody's home.
    + "|" + "|".join(rf"{home}(?!user\b|you\b)\w" for home in _HOMES) + ")"
)  # fmt: skip


def places(text: str) -> list[str]:
    """Give the registry hosts and the paths of a developer's machine that a text names."""
    return [found.group() for found in FORBIDDEN.finditer(text)]


def test_no_place_of_one_machine_in_the_repository():
    named = {}
    for path in repository_files():
        try:
            found = places((ROOT / path).read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        if found:
            named[str(path)] = found
    assert not named


@pytest.mark.parametrize(
    "text",
    ["url = https://{}pypi.{}org/simple", "see /{}work/notes", "cd /home{}/ada/src"],
)
def test_a_place_is_seen(text):
    assert places(text.replace("{}", ""))


@pytest.mark.parametrize("text", ["build/work/x", "$HOME/work/x", "/home/<you>/x"])
def test_what_only_looks_like_a_place_is_not(text):
    assert not places(text)
