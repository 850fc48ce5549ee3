"""``sendense repo stats``: what points hold, what that takes, and how it grew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sendense import clock
from sendense.cli import text
from sendense.cli.options import command
from sendense.cli.output import Cell, Column, Report, Sheet, pairs
from sendense.cli.run import Run
from sendense.model.point import RecoveryPoint
from sendense.repository.dedup.local_index import KindTotals
from sendense.units import format_size
from sendense.workflows.repository_facts import (
    DedupFacts,
    MachineTotals,
    RepositoryFacts,
    Sizes,
    by_machine,
    facts_of,
    new_bytes,
)


def register(app: typer.Typer) -> None:
    """Put the command into the group."""
    app.command("stats")(show_statistics)


@command
def show_statistics(
    run: Run,
    by_point: Annotated[
        bool, typer.Option("--points", help="Also what each point added, oldest first.")
    ] = False,
) -> None:
    """Show what is stored, what deduplication and compression save, and who takes it."""
    repository = run.repository()
    facts = facts_of(repository)
    points = repository.points()
    machines = by_machine(points)
    grown = sorted(points, key=lambda point: (point.taken_at, point.id)) if by_point else []
    document = {
        "statistics": _facts_document(facts),
        "machines": [_machine_document(item) for item in machines],
        "points": [_point_document(point) for point in grown],
    }
    if not by_point:
        del document["points"]
    parts: list[Sheet | Cell] = [_facts_pairs(facts)]
    parts += ["", _machines_sheet(machines)] if machines else []
    parts += ["", _points_sheet(grown)] if grown else []
    run.show(Report(document, parts))


def _facts_document(facts: RepositoryFacts) -> dict[str, Any]:
    sizes = facts.sizes
    return {
        "machines": facts.info.machines,
        "points": facts.info.points,
        "logical_bytes": sizes.logical_bytes,
        "unique_bytes": sizes.unique_bytes,
        "stored_bytes": sizes.stored_bytes,
        "dedup_ratio": sizes.dedup_ratio,
        "compression_ratio": sizes.compression_ratio,
        "total_ratio": sizes.total_ratio,
        "packs": _packs_document(facts.dedup) if facts.dedup else None,
    }


def _packs_document(facts: DedupFacts) -> dict[str, Any]:
    return {
        kind: {
            "packs": totals.packs,
            "entries": totals.entries,
            "plain_bytes": totals.plain_bytes,
            "stored_bytes": totals.stored_bytes,
        }
        for kind, totals in (("data", facts.totals.data), ("meta", facts.totals.meta))
    }


def _machine_document(item: MachineTotals) -> dict[str, Any]:
    return {
        "uuid": item.uuid,
        "name": item.name,
        "points": item.points,
        "logical_bytes": item.logical_bytes,
        "new_bytes": item.new_bytes,
        "stored_bytes": item.stored_bytes,
    }


def _point_document(point: RecoveryPoint) -> dict[str, Any]:
    return {
        "id": point.id,
        "machine": {"uuid": point.machine.uuid, "name": point.machine.name},
        "taken_at": clock.format_utc(point.taken_at),
        "mode": point.mode.value,
        "logical_bytes": point.size,
        "new_bytes": new_bytes(point),
        "stored_bytes": point.stored_bytes,
    }


def _facts_pairs(facts: RepositoryFacts) -> Cell:
    sizes = facts.sizes
    rows = [
        ("machines", str(facts.info.machines)),
        ("points", str(facts.info.points)),
        ("logical", f"{format_size(sizes.logical_bytes)}: all points, each restored by itself"),
        ("unique", f"{format_size(sizes.unique_bytes)}{_by('deduplicated', sizes.dedup_ratio)}"),
        ("stored", f"{format_size(sizes.stored_bytes)}{_stored_words(sizes)}"),
    ]
    if facts.dedup is not None:
        rows += [
            ("data packs", _packs(facts.dedup.totals.data, "chunk")),
            ("meta packs", _packs(facts.dedup.totals.meta, "node")),
        ]
    return pairs(rows)


def _by(verb: str, ratio: float | None) -> str:
    return f": {verb} {ratio:.2f} to 1" if ratio is not None else ""


def _stored_words(sizes: Sizes) -> str:
    if sizes.compression_ratio is None or sizes.total_ratio is None:
        return ""
    return f"{_by('compressed', sizes.compression_ratio)}, {sizes.total_ratio:.2f} to 1 in all"


def _packs(totals: KindTotals, word: str) -> str:
    entries = text.counted(totals.entries, word)
    return f"{totals.packs} with {entries}, {format_size(totals.stored_bytes)}"


def _machines_sheet(machines: Sequence[MachineTotals]) -> Sheet:
    columns = (
        Column("machine"),
        Column("uuid", minor=1),
        Column("points", right=True),
        Column("logical", right=True),
        Column("new", right=True),
        Column("stored", right=True),
    )
    rows = [
        (
            item.name,
            item.uuid,
            str(item.points),
            format_size(item.logical_bytes),
            format_size(item.new_bytes),
            format_size(item.stored_bytes),
        )
        for item in machines
    ]
    return Sheet(columns, rows)


def _points_sheet(points: Sequence[RecoveryPoint]) -> Sheet:
    columns = (
        Column("point"),
        Column("machine"),
        Column("taken"),
        Column("mode", minor=1),
        Column("logical", right=True),
        Column("new", right=True),
        Column("stored", right=True),
    )
    rows = [
        (
            point.id,
            point.machine.name,
            text.when(point.taken_at),
            point.mode.value,
            format_size(point.size),
            format_size(new_bytes(point)),
            format_size(point.stored_bytes),
        )
        for point in points
    ]
    return Sheet(columns, rows)
