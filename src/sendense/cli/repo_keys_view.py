"""Key slots, as JSON and as a table."""

from __future__ import annotations

from typing import Any

from sendense import clock
from sendense.cli import text
from sendense.cli.output import Column, Sheet
from sendense.workflows.keys import ListedSlots


def keys_documents(found: ListedSlots) -> list[dict[str, Any]]:
    """Give the slots as JSON."""
    readable = [
        {
            "slot": item.slot.id,
            "kind": item.slot.kind.value,
            "label": item.slot.label,
            "created_at": clock.format_utc(item.slot.created_at),
            "epoch": item.slot.generation,
            "public_key": item.slot.public_key.hex() if item.slot.public_key else None,
            "trouble": item.trouble,
        }
        for item in found.slots
    ]
    return readable + [
        {"slot": item.name.rpartition("/")[2], "kind": None, "trouble": item.error.message}
        for item in found.unreadable
    ]


def keys_sheet(found: ListedSlots) -> Sheet:
    """Give a table of the slots."""
    columns = (
        Column("slot"),
        Column("kind"),
        Column("label"),
        Column("made"),
        Column("epoch", right=True),
        Column("trouble", fold=True),
    )
    rows = [
        (
            item.slot.id,
            item.slot.kind.value,
            item.slot.label or text.NONE,
            text.when(item.slot.created_at),
            str(item.slot.generation),
            item.trouble or "",
        )
        for item in found.slots
    ]
    rows += [
        (item.name.rpartition("/")[2], text.NONE, text.NONE, text.NONE, "", item.error.message)
        for item in found.unreadable
    ]
    return Sheet(columns, rows)
