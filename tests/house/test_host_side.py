"""The host side imports nothing that the system Python of a KVM host does not have."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.house.tree import ROOT, python_files

HOST_SIDE = {
    "sendense", "model", "capture", "agent", "errors", "units", "clock", "log", "steps", "shield",
}  # fmt: skip
# The distribution's modules, and the `agent` extra of pyproject.toml.
PACKAGES = {"libvirt", "libvirt_qemu", "yaml"}
MODULES = [
    path
    for path in python_files("src/sendense")
    if path.with_suffix("").parts[2] in HOST_SIDE | {"__init__"}
]


def imported(source: str) -> set[str]:
    """Give the modules that a source imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "sendense":
            # `__version__` is the package's own, no module below it.
            names.update(f"sendense.{alias.name}" for alias in node.names if alias.name[0] != "_")
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or ".")
    return names


def refused(source: str) -> set[str]:
    """Give the imports of a source that a KVM host may not be able to follow."""
    ours = {name for name in imported(source) if name.split(".")[0] == "sendense"}
    foreign = {name for name in imported(source) - ours if name.split(".")[0] not in PACKAGES}
    return {name for name in foreign if name.split(".")[0] not in sys.stdlib_module_names} | {
        name for name in ours if name.split(".")[1:2] and name.split(".")[1] not in HOST_SIDE
    }


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports(path):
    assert not refused((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source", ["import blake3", "from sendense.transfer import copy", "from sendense import cli"]
)
def test_an_import_of_the_other_side_is_seen(source):
    assert refused(source)
