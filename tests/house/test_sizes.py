"""No module and no function grows beyond what one reader holds in mind."""

from __future__ import annotations

import pytest

from tests.house.tree import ROOT, python_files
from tools.size_nudge import FUNCTION_LIMIT, MODULE_LIMIT, measure

MODULES = python_files("src", "tools", "demo", "bench")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_size(path):
    large = [
        f"{size.place}: {size.lines}" for size in measure(ROOT / path) if size.lines > size.limit
    ]
    assert not large, f"at most {MODULE_LIMIT} lines a module and {FUNCTION_LIMIT} a function"


def test_the_measure_sees_what_is_too_large(tmp_path):
    body = "    value = 1\n"
    module = tmp_path / "large.py"
    module.write_text("def long():\n" + body * 60 + "async def fits():\n" + body * 59 + "\n" * 400)
    over = [size.place.split()[-1] for size in measure(module) if size.lines > size.limit]
    assert over == [str(module), "long"]
