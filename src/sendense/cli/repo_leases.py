"""``sendense repo leases`` and ``unlock``: who is at work in a dedup repository."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense import clock
from sendense.cli import text
from sendense.cli.options import command
from sendense.cli.output import Column, Report, Sheet
from sendense.cli.points import confirm
from sendense.cli.run import Run
from sendense.repository.dedup.leases import Found
from sendense.repository.dedup.repository import DedupRepository
from sendense.workflows.leases import break_lease, find_lease, list_leases
from sendense.workflows.repository_facts import require_dedup

_WARNING = (
    "if its holder is alive, its work comes to nothing: a backup makes no point, and what a reader "
    "reads may be removed under its hands"
)


def register(app: typer.Typer) -> None:
    """Put the commands into the group."""
    app.command("leases")(show_leases)
    app.command("unlock")(unlock)


@command
def show_leases(run: Run) -> None:
    """Show who is at work in a repository."""
    found = list_leases(_repository(run))
    document = {"leases": [_document(item) for item in found]}
    run.show(Report(document, [_sheet(found)] if found else ["nobody is at work"]))


@command
def unlock(
    run: Run,
    lease: Annotated[
        str,
        typer.Argument(
            metavar="LEASE",
            help="Id of the lease, or the beginning of it: 'repo leases' shows it.",
            show_default=False,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Break a lease whose holder is known to be gone; dead ones end by themselves."""
    repository = _repository(run)
    found = find_lease(repository, lease)
    run.note(f"{found.record.id}: {found.record.described()}")
    if found.dead is None:
        run.warn(_WARNING)
    if not yes:
        confirm("Is it certain that it is gone?", run)
    break_lease(repository, found)
    run.show(Report({"broken": found.record.id}, [f"broke lease {found.record.id}"]))


def _repository(run: Run) -> DedupRepository:
    return require_dedup(run.repository(), "leases: its locks end with who holds them")


def _document(item: Found) -> dict[str, Any]:
    claim = item.record.claim
    return {
        "id": item.record.id,
        "kind": claim.wish.kind.value if claim else None,
        "text": claim.wish.text if claim else None,
        "host": claim.holder.host if claim else None,
        "user": claim.holder.user if claim else None,
        "pid": claim.holder.pid if claim else None,
        "points": sorted(claim.wish.points) if claim else [],
        "taken_at": claim.taken_at if claim else None,
        "renewed_at": clock.format_utc(item.record.modified),
        "dead": item.dead,
    }


def _sheet(found: tuple[Found, ...]) -> Sheet:
    columns = (
        Column("lease"),
        Column("what", fold=True),
        Column("who"),
        Column("last sign of life"),
        Column("state", fold=True),
    )
    rows = [
        (
            item.record.id,
            item.record.claim.wish.text if item.record.claim else "cannot be read",
            _who(item),
            text.when(item.record.modified),
            f"dead: {item.dead}" if item.dead else "held",
        )
        for item in found
    ]
    return Sheet(columns, rows)


def _who(item: Found) -> str:
    if item.record.claim is None:
        return text.NONE
    holder = item.record.claim.holder
    return f"{holder.user}@{holder.host}, process {holder.pid}"
