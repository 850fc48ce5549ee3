"""``sendense repo gc``: giving back the space that nothing refers to any more."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Annotated, Any

import typer

from sendense.cli.dates import span
from sendense.cli.exitcodes import ExitCode
from sendense.cli.options import command, size
from sendense.cli.output import Cell, Column, Report, Sheet, pairs
from sendense.cli.run import Run
from sendense.repository.dedup.collecting.plan import (
    Action,
    CollectOptions,
    CollectPlan,
    Verdict,
)
from sendense.repository.dedup.collecting.running import CollectResult, collect, plan_collection
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import Repository
from sendense.units import format_size, format_span

_SHOWN = 40
"""Packs in the table of a dry run; --json has all."""


def register(app: typer.Typer) -> None:
    """Put the command into the group."""
    app.command("gc")(collect_garbage)


@command
def collect_garbage(
    run: Run,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and why.")
    ] = False,
    grace: Annotated[
        timedelta | None,
        typer.Option(
            metavar="SPAN",
            parser=span,
            help="Time between condemning a pack and removing it: 24h where it is left out; 0h "
            "removes at once.",
            show_default=False,
        ),
    ] = None,
    live_ratio: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Packs of which less is live are rewritten, from 0 to 1."
        ),
    ] = CollectOptions.live_ratio,
    most_rewrite: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=size,
            help="Live bytes to copy in one run, at most: 64G where it is left out.",
            show_default=False,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POINT",
            help="Give up what cannot be read of this damaged point; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> ExitCode:
    """Collect garbage: what deleted points alone used is condemned, and removed later."""
    repository = run.repository()
    if not isinstance(repository, DedupRepository):
        run.show(_nothing(repository))
        return ExitCode.OK
    options = CollectOptions(
        live_ratio=live_ratio,
        grace=CollectOptions.grace if grace is None else grace,
        most_rewrite=CollectOptions.most_rewrite if most_rewrite is None else most_rewrite,
        ignore=frozenset(ignore or ()),
    )
    with run.progress("gc") as listener:
        if dry_run:
            plan = plan_collection(repository, options, listener)
            run.show(Report({"dry_run": True, "plan": _plan_document(plan)}, _plan_parts(plan)))
            return ExitCode.OK
        done = collect(repository, options, listener)
    document = {"dry_run": False, "plan": _plan_document(done.plan), "result": _document(done)}
    run.show(Report(document, _parts(done)))
    return ExitCode.DAMAGED if done.unreadable else ExitCode.OK


def _nothing(repository: Repository) -> Report:
    document = {"dry_run": False, "plan": None, "result": None}
    return Report(
        document,
        [f"{repository.location} has no garbage: a deletion removes all that only its point used"],
    )


def _plan_document(plan: CollectPlan) -> dict[str, Any]:
    return {
        "packs": [_verdict_document(item) for item in plan.verdicts],
        "freed_now": plan.freed_now,
        "freed_later": plan.freed_later,
        "to_copy": plan.to_copy,
        "next_in_s": _seconds(plan.next_in),
        "blockers": list(plan.blockers),
    }


def _verdict_document(item: Verdict) -> dict[str, Any]:
    return {
        "pack": item.pack,
        "kind": item.kind.name.lower() if item.kind else None,
        "action": item.action.value,
        "reason": item.reason,
        "size": item.size,
        "live": item.live,
    }


def _document(done: CollectResult) -> dict[str, Any]:
    return {
        "points": done.points,
        "removed_packs": done.removed_packs,
        "freed_bytes": done.freed_bytes,
        "rescued_packs": done.rescued_packs,
        "copied_bytes": done.copied_bytes,
        "new_packs": done.new_packs,
        "waiting_packs": done.waiting_packs,
        "waiting_bytes": done.waiting_bytes,
        "next_in_s": _seconds(done.next_in),
        "blockers": list(done.blockers),
        "unreadable": dict(done.unreadable),
        "index_objects": done.index_objects,
        "leftovers": done.leftovers,
        "seconds": done.seconds,
    }


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _plan_parts(plan: CollectPlan) -> list[Sheet | Cell]:
    counts = Counter(item.action for item in plan.verdicts)
    told = [
        (action.value, f"{counts[action]} packs, {format_size(plan.bytes_of(action))}")
        for action in Action
        if counts[action]
    ]
    if plan.waiting:
        waiting = sum(item.size for item in plan.waiting)
        told.append(("waiting", f"{len(plan.waiting)} packs, {format_size(waiting)}"))
    told += [
        ("frees now", format_size(plan.freed_now)),
        ("frees later", format_size(plan.freed_later)),
        ("to copy", format_size(plan.to_copy)),
    ]
    parts: list[Sheet | Cell] = [pairs(told), *(f"waits: {item}" for item in plan.blockers)]
    changed = [item for item in plan.verdicts if item.action is not Action.KEEP]
    if changed:
        parts += ["", _packs_sheet(changed[:_SHOWN])]
    if len(changed) > _SHOWN:
        parts.append(f"and {len(changed) - _SHOWN} more: --json lists all")
    return parts


def _packs_sheet(verdicts: list[Verdict]) -> Sheet:
    columns = (
        Column("pack"),
        Column("size", right=True),
        Column("live", right=True),
        Column("becomes"),
        Column("reason", fold=True),
    )
    rows = [
        (
            item.pack,
            format_size(item.size),
            format_size(item.live),
            item.action.value,
            item.reason,
        )
        for item in verdicts
    ]
    return Sheet(columns, rows)


def _parts(done: CollectResult) -> list[Sheet | Cell]:
    told = [
        ("freed", f"{format_size(done.freed_bytes)} in {done.removed_packs} packs"),
        ("copied", f"{format_size(done.copied_bytes)} into {done.new_packs} new packs"),
        ("waiting", f"{format_size(done.waiting_bytes)} in {done.waiting_packs} packs"),
    ]
    if done.rescued_packs:
        told.append(("in use again", f"{done.rescued_packs} packs"))
    parts: list[Sheet | Cell] = [pairs(told)]
    if done.waiting_packs and done.next_in is not None:
        parts.append(f"what waits may go {_when(done.next_in)}")
    parts += [f"waits: {item}" for item in done.blockers]
    parts += [f"pack {pack} could not be copied: {why}" for pack, why in done.unreadable.items()]
    return parts


def _when(wait: timedelta) -> str:
    if wait <= timedelta(0):
        return "with the next run"
    hours = -(-wait // timedelta(hours=1))
    return f"in {format_span(timedelta(hours=hours))}"
