"""What a prune did, would do, or will have done, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sendense import clock
from sendense.cli import text
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.model.forecast import Foreseen
from sendense.model.periods import find_zone, written
from sendense.model.point import RecoveryPoint
from sendense.model.retention import KeepRules, Verdict
from sendense.units import format_size, format_span
from sendense.workflows.prune import Judged, PrunePlan


def prune_report(
    plan: PrunePlan,
    rules: KeepRules,
    deleted: tuple[str, ...],
    *,
    dry_run: bool,
    as_of: datetime | None,
) -> Report:
    """Tell what a prune did, or would do."""
    document = {
        "dry_run": dry_run,
        "as_of": clock.format_utc(as_of) if as_of else None,
        "rules": rules_document(rules),
        "verdicts": [_verdict(item.point, item.verdict) for item in plan.judged],
        "deleted": list(deleted),
    }
    return Report(document, _parts(plan, rules, dry_run=dry_run, as_of=as_of))


def forecast_report(
    found: Sequence[Foreseen], rules: KeepRules, *, as_of: datetime, every: timedelta
) -> Report:
    """Tell what will be there at a moment to come."""
    kept = [item for item in found if item.verdict.keep]
    document = {
        "dry_run": True,
        "as_of": clock.format_utc(as_of),
        "every_s": every.total_seconds(),
        "rules": rules_document(rules),
        "verdicts": [_verdict(item.point, item.verdict) for item in found if not item.simulated],
        "simulated": [_simulated(item) for item in kept if item.simulated],
        "deleted": [],
    }
    columns = (
        Column("point"),
        Column("machine"),
        Column("taken"),
        Column("because", fold=True),
    )
    rows = [
        (
            "to come" if item.simulated else item.point.id,
            item.point.machine.name,
            text.when(item.point.taken_at),
            item.verdict.reason,
        )
        for item in kept
    ]
    to_come = sum(item.simulated for item in kept)
    existing = sum(not item.simulated for item in found)
    return Report(
        document,
        [
            Sheet(columns, rows),
            _rules_line(rules),
            f"with a point every {format_span(every)}, {_day(as_of, rules)} has {len(kept)} "
            f"points: {len(kept) - to_come} of the {existing} that are there, and {to_come} of "
            f"the {len(found) - existing} to come; nothing was changed",
        ],
    )


def rules_document(rules: KeepRules) -> dict[str, Any]:
    """Give the rules of retention as JSON."""
    return {
        "last": rules.last,
        **{kind.value: count for kind, count in rules.counts.items()},
        "within_s": rules.within.total_seconds() if rules.within is not None else None,
        "safety_s": rules.safety.total_seconds(),
        "timezone": rules.timezone,
    }


def _verdict(point: RecoveryPoint, verdict: Verdict) -> dict[str, Any]:
    return {
        "point": point.id,
        "machine": point.machine.name,
        "taken_at": clock.format_utc(point.taken_at),
        "keep": verdict.keep,
        "reason": verdict.reason,
        "reasons": list(verdict.reasons),
    }


def _simulated(item: Foreseen) -> dict[str, Any]:
    """Give a point that is made up; its id is nobody's business."""
    document = _verdict(item.point, item.verdict)
    del document["point"]
    return document


def _parts(
    plan: PrunePlan, rules: KeepRules, *, dry_run: bool, as_of: datetime | None
) -> list[Sheet | Cell]:
    columns = (
        Column("point"),
        Column("machine"),
        Column("taken"),
        Column("stored", right=True),
        Column("keep"),
        Column("because", fold=True),
    )
    rows = [_row(item) for item in plan.judged]
    verb = "deleted"
    if dry_run:
        when = f" on {_day(as_of, rules)}" if as_of else ""
        verb = f"would be deleted{when}; nothing was changed"
    count = f"{len(plan.removed)} of {len(rows)} points {verb}"
    return [Sheet(columns, rows), _rules_line(rules), count]


def _row(item: Judged) -> tuple[str, ...]:
    return (
        item.point.id,
        item.point.machine.name,
        text.when(item.point.taken_at),
        format_size(item.point.stored_bytes),
        text.yes(item.verdict.keep),
        item.verdict.reason,
    )


def _rules_line(rules: KeepRules) -> str:
    return f"rules: {rules.words}"


def _day(moment: datetime, rules: KeepRules) -> str:
    return written(moment, find_zone(rules.timezone))
