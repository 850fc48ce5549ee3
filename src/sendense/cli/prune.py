"""``sendense prune``: keeping what the rules keep, and saying why of each point."""

from __future__ import annotations

from datetime import datetime, timedelta

import typer

from sendense import clock
from sendense.cli import prune_options as given
from sendense.cli.dates import moment_of
from sendense.cli.options import command
from sendense.cli.prune_view import forecast_report, prune_report
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.model.forecast import Schedule
from sendense.workflows.points import find_machine
from sendense.workflows.prune import foresee_prune, plan_prune, run_prune


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("prune")(prune)


@command
def prune(
    run: Run,
    machine: given.Machine = None,
    *,
    everything: given.Everything = False,
    keep_last: given.KeepLast = None,
    keep_hourly: given.KeepHourly = None,
    keep_daily: given.KeepDaily = None,
    keep_weekly: given.KeepWeekly = None,
    keep_monthly: given.KeepMonthly = None,
    keep_yearly: given.KeepYearly = None,
    keep_within: given.KeepWithin = None,
    timezone: given.Timezone = None,
    dry_run: given.DryRun = False,
    as_of: given.AsOf = None,
    every: given.Every = None,
) -> None:
    """Delete the points that no rule keeps; never the last good one of a machine."""
    if (machine is None) != everything:
        raise Rejected("name one machine, or use --all")
    rules = run.settings_with(
        keep_last=keep_last,
        keep_hourly=keep_hourly,
        keep_daily=keep_daily,
        keep_weekly=keep_weekly,
        keep_monthly=keep_monthly,
        keep_yearly=keep_yearly,
        keep_within=keep_within,
        timezone=timezone,
    ).keep_rules()
    now = clock.now()
    later = _day_to_come(as_of, every, rules.timezone, now)
    repository = run.repository()
    uuid = find_machine(repository, machine).uuid if machine else None
    if later is not None and every is not None:
        schedule = Schedule(now, every)
        found = foresee_prune(repository, rules, schedule, machine=uuid, until=later)
        run.show(forecast_report(found, rules, as_of=later, every=every))
        return
    only_look = dry_run or later is not None
    plan = plan_prune(repository, rules, machine=uuid, now=later or now)
    deleted: tuple[str, ...] = ()
    if not only_look:
        with run.progress("prune") as listener:
            deleted = run_prune(repository, plan, listener=listener)
    run.show(prune_report(plan, rules, deleted, dry_run=only_look, as_of=later))


def _day_to_come(
    typed: datetime | None, every: timedelta | None, zone: str, now: datetime
) -> datetime | None:
    """Give the moment of ``--as-of``, which is not over yet."""
    if typed is None:
        if every is not None:
            raise Rejected("--every goes with --as-of only")
        return None
    later = moment_of(typed, zone)
    if later < now:
        raise Rejected(
            "--as-of is a day to come: the points of earlier days may be gone",
            hint="--dry-run judges as of now",
        )
    return later
