"""The agent's settings as rows, as its documentation is to show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from typing import Any

from sendense.agent.settings import (
    AgentSettings,
    DirtyBitmap,
    Gateway,
    NbdExport,
    Performance,
    Tls,
)

SECTIONS = {
    "gateway": Gateway,
    "tls": Tls,
    "dirty_bitmap": DirtyBitmap,
    "nbd_export": NbdExport,
    "performance": Performance,
}


@dataclass(frozen=True)
class Row:
    """One setting."""

    key: str
    default: str
    live: bool
    about: str


def rows(kind: Any = AgentSettings, prefix: str = "") -> Iterator[Row]:
    """Walk over all settings; a section is the rows of its keys."""
    for item in fields(kind):
        if item.name in SECTIONS and not prefix:
            yield from rows(SECTIONS[item.name], f"{item.name}.")
            continue
        shown = item.metadata["shown"] or str(item.default)
        if isinstance(item.default, bool):
            shown = shown.lower()
        default = "`[]`" if item.default == () else f"`{shown}`"
        if item.default is None or item.default is MISSING:
            default = "none" if item.default is None else "needed"
        yield Row(f"{prefix}{item.name}", default, item.metadata["live"], item.metadata["about"])


ROWS = tuple(rows())
