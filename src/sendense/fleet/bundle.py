"""The agent as one archive, built from what the control plane itself runs.

A host needs no internet and no package index: the agent is Python source without dependencies
other than the distribution's own.  An archive is named by its version and content, so two that
are equal have one name, and a host that has it needs no second copy::

    versions/<name>/lib/sendense/...             the modules of the host side
    versions/<name>/bin/sendense-capture-agent   the launcher
    versions/<name>/sendense-capture.service     the unit
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from sendense import __version__

HOME = "/opt/sendense"
"""All of the agent's programs on a host."""
UNIT = "sendense-capture.service"
LAUNCHER = "sendense-capture-agent"

_MODULES = ("__init__", "errors", "units", "clock", "log", "steps", "shield")
_PACKAGES = ("model", "capture", "agent")
"""The host side: what runs on Python 3.9 with nothing but libvirt and PyYAML."""
_NAMED_BY = 12
"""Hexadecimal digits of the content's hash."""


@dataclass(frozen=True)
class Bundle:
    """One build of the agent."""

    name: str
    """``0.1.0-0123456789ab``."""
    data: bytes
    """A tar archive, compressed by gzip."""

    @property
    def folder(self) -> str:
        """Where it lies on a host."""
        return f"{HOME}/versions/{self.name}"

    @property
    def sha256(self) -> str:
        """Of the archive, for who wants to check what arrived."""
        return hashlib.sha256(self.data).hexdigest()


@cache
def build_bundle() -> Bundle:
    """Build the agent of this very version; the same source gives the same bytes."""
    files = dict(_files())
    digest = hashlib.sha256()
    for path, (content, mode) in sorted(files.items()):
        digest.update(f"{path}\0{mode:o}\0{len(content)}\0".encode() + content)
    name = f"{__version__}-{digest.hexdigest()[:_NAMED_BY]}"
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(f"versions/{name}/{path}")
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return Bundle(name, gzip.compress(tar.getvalue(), mtime=0))


def _files() -> Iterator[tuple[str, tuple[bytes, int]]]:
    package = resources.files("sendense")
    for name in _MODULES:
        yield f"lib/sendense/{name}.py", ((package / f"{name}.py").read_bytes(), 0o644)
    for name in _PACKAGES:
        yield from _modules_of(package / name, f"lib/sendense/{name}")
    files = package / "fleet" / "host_files"
    yield UNIT, ((files / UNIT).read_bytes(), 0o644)
    yield f"bin/{LAUNCHER}", ((files / LAUNCHER).read_bytes(), 0o755)


def _modules_of(folder: Traversable, place: str) -> Iterator[tuple[str, tuple[bytes, int]]]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _modules_of(entry, f"{place}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{place}/{entry.name}", (entry.read_bytes(), 0o644)
