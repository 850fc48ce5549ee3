"""Each change tells its users what it means for them, in a file of its own."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.house.tree import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
KINDS = [kind["directory"] for kind in SETTINGS["type"]]
NAME = re.compile(r"\+[a-z0-9]+(-[a-z0-9]+)*\.(" + "|".join(KINDS) + r")\.md")
FRAGMENTS = sorted(
    path for path in (ROOT / SETTINGS["directory"]).iterdir() if path.name != "README.md"
)


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_fragment(path):
    assert NAME.fullmatch(path.name), f"name it +what-changed.<kind>.md, kind one of {KINDS}"
    text = path.read_text(encoding="utf-8").strip()
    assert text.endswith("."), "write whole sentences"
    assert not text.startswith(("#", "-", "*")), "the list and its headings are made by the tool"


def test_the_folder_explains_itself():
    text = (ROOT / SETTINGS["directory"] / "README.md").read_text(encoding="utf-8")
    assert all(f"`{kind}`" in text for kind in KINDS)
