"""Modules are named after what they own."""

from __future__ import annotations

import ast

import pytest

from tests.house.tree import ROOT, python_files

NAMES_THAT_COLLECT = {"base", "common", "helper", "helpers", "misc", "util", "utils"}
MODULES = python_files("src", "tools", "demo", "bench", "tests")


def test_there_is_something_to_look_at():
    assert ROOT / "src/sendense/__init__.py" in [ROOT / path for path in MODULES]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_name_says_what_the_module_owns(path):
    words = {part.strip("_").lower() for part in path.with_suffix("").parts}
    assert not words & NAMES_THAT_COLLECT, "such a module owns everything; name what it is about"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_module_says_what_it_owns(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "begin with a docstring: what it owns, what it refuses"
