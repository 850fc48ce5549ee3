"""``sendense copy``: points into another repository, of any kind and under any key."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from sendense.cli import copy_options as given
from sendense.cli import failures
from sendense.cli.access import Named
from sendense.cli.copy_view import Places, copied_report, planned_report
from sendense.cli.dates import moment_of
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.options import command
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.model.point_copy import PointReason
from sendense.repository.protocol import Repository
from sendense.transfer.throttle import Throttle
from sendense.workflows.copy import run_copy
from sendense.workflows.copy_planning import CopyRequest, PlannedCopy, plan_copy
from sendense.workflows.point_copier import CopyOptions, PointCopied

_CODES = {
    PointReason.DAMAGED: ExitCode.DAMAGED,
    PointReason.PRESENT_LOST: ExitCode.DAMAGED,
    PointReason.ANOTHER: ExitCode.REJECTED,
}
_CODES_BY_NAME = {PointReason.OLDER: ExitCode.REJECTED, PointReason.GONE: ExitCode.NOT_FOUND}
"""Only where somebody asked for that very point."""


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("copy")(copy)


@command
def copy(
    run: Run,
    points: given.Points = None,
    *,
    to: given.To,
    to_passphrase_file: given.ToPassphraseFile = None,
    machine: given.Machine = None,
    everything: given.Everything = False,
    last: given.Last = None,
    since: given.Since = None,
    older: given.Older = False,
    verify: given.Verify = False,
    bandwidth_limit: given.BandwidthLimit = None,
    dry_run: given.DryRun = False,
) -> ExitCode:
    """Copy points into another repository; what is there already is not copied again."""
    if sum((bool(points), everything, machine is not None)) != 1:
        raise Rejected("name points, or a --machine, or --all")
    if points and (last is not None or since is not None):
        raise Rejected("--last and --since choose among the points of machines, and name none")
    settings = run.settings_with(bandwidth_limit=bandwidth_limit)
    request = CopyRequest(
        points=tuple(points or ()),
        machine=machine,
        last=last,
        since=moment_of(since, settings.timezone) if since else None,
        older=older,
    )
    source = run.repository()
    target = _target(run, to, Named(passphrase_file=to_passphrase_file))
    planned = plan_copy(source, target, request)
    _warn(run, planned, target)
    places = Places(source.location, target.location)
    if dry_run:
        run.show(planned_report(places, planned))
        return ExitCode.OK
    options = CopyOptions(Throttle(settings.bandwidth_limit), read_back=verify)
    results = run_copy(
        source,
        target,
        planned.plan,
        options,
        watch=lambda name: run.progress(f"copy {name}"),
    )
    _tell(run, results)
    run.show(copied_report(places, planned, results))
    return worst(_codes(results, named=bool(points)))


def _target(run: Run, reference: str, named: Named) -> Repository:
    place = run.place_of(reference)
    if named:
        run.name_secret(place, named)
    return run.open(place)


def _codes(results: Iterable[PointCopied], *, named: bool) -> Iterable[ExitCode]:
    for result in results:
        if result.error is not None and result.tried:
            yield failures.code_of(result.error)
        yield _CODES.get(result.item.reason, ExitCode.OK)
        if named:
            yield _CODES_BY_NAME.get(result.item.reason, ExitCode.OK)


def _warn(run: Run, planned: PlannedCopy, target: Repository) -> None:
    """Tell of what a copy cannot mend."""
    for lost in planned.lost:
        run.warn(f"point {lost.id} cannot be read, and is not copied: {lost.message}")
    for item in planned.plan.points:
        if item.reason is PointReason.PRESENT_DAMAGED:
            run.warn(f"point {item.point.id} is damaged in {target.location}")


def _tell(run: Run, results: Iterable[PointCopied]) -> None:
    """Tell of each error; those that were not tried have none of their own."""
    if run.options.as_json:
        return
    for result in results:
        if result.error is not None and result.tried:
            failures.tell(result.error, run.output, about=f"point {result.item.point.id}")
            if run.options.verbose >= 2:
                failures.trace(result.error, run.output)
