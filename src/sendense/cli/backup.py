"""``sendense backup``: one machine after the other, none held up by the failure of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sendense.cli.backup_run import BackupOrder, back_up_all, plan_all
from sendense.cli.exitcodes import ExitCode
from sendense.cli.options import command, size
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.model.decision import RequestedMode
from sendense.model.point import Consistency
from sendense.settings import Settings
from sendense.workflows.planning import BackupRequest

_DISK_HELP = "by target, serial or path; may be repeated"


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("backup")(backup)


@command
def backup(
    run: Run,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Machines, by name or UUID.", show_default=False),
    ] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="All machines that libvirt knows.")
    ] = False,
    xml: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="XML of a stopped machine that libvirt does not know."),
    ] = None,
    mode: Annotated[
        RequestedMode | None, typer.Option(help="auto chooses per disk, and says why.")
    ] = None,
    consistency: Annotated[
        Consistency | None, typer.Option(help="What the guest is asked to do first.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Warnings are failures (exit code 8).")
    ] = False,
    include: Annotated[
        list[str] | None, typer.Option(metavar="DISK", help=f"Only this disk, {_DISK_HELP}.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="DISK", help=f"Not this disk, {_DISK_HELP}.")
    ] = None,
    freeze_mountpoint: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Freeze only this mount point; may be repeated."),
    ] = None,
    full_every: Annotated[
        int | None, typer.Option(metavar="N", help="A full after this many points; 0: never.")
    ] = None,
    threshold: Annotated[
        int,
        typer.Option(metavar="SIZE", parser=size, help="Skip a machine where fewer bytes changed."),
    ] = "0",  # type: ignore[assignment] # read by the parser
    granularity: Annotated[
        int | None,
        typer.Option(metavar="SIZE", parser=size, help="Bytes per bit of new dirty bitmaps."),
    ] = None,
    bandwidth_limit: Annotated[
        int | None,
        typer.Option(metavar="SIZE", parser=size, help="Bytes per second at most; 0: no limit."),
    ] = None,
    sample_blocks: Annotated[
        int | None,
        typer.Option(metavar="N", help="Clean blocks re-read and compared per disk."),
    ] = None,
    scratch_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Local directory for what the guest overwrites."),
    ] = None,
    keep_last: Annotated[
        int, typer.Option(metavar="N", min=0, help="Prune afterwards: keep the last N points.")
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its reasons; change nothing.")
    ] = False,
) -> ExitCode:
    """Back machines up: what changed since the last point, or everything the first time."""
    settings = run.settings_with(
        mode=mode,
        consistency=consistency,
        full_every=full_every,
        granularity=granularity,
        bandwidth_limit=bandwidth_limit,
        sample_blocks=sample_blocks,
        scratch_dir=scratch_dir,
    )
    disks = {"include": tuple(include or ()), "exclude": tuple(exclude or ())}
    request = _request(
        settings,
        strict=strict,
        mountpoints=tuple(freeze_mountpoint or ()),
        least_bytes=threshold,
        **disks,
    )
    order = BackupOrder(
        settings, request, _names(names or [], everything, xml), xml, keep_last=keep_last
    )
    return plan_all(run, order) if dry_run else back_up_all(run, order)


def _request(settings: Settings, **given: Any) -> BackupRequest:
    return BackupRequest(
        mode=settings.mode,
        consistency=settings.consistency,
        full_every=settings.full_every,
        granularity=settings.granularity,
        **given,
    )


def _names(names: list[str], everything: bool, xml: Path | None) -> tuple[str, ...] | None:
    """Give the machines that are meant; none for all of them."""
    if everything and (names or xml):
        raise Rejected("--all takes no machine names and no --xml")
    if xml and len(names) > 1:
        raise Rejected("--xml describes one machine, but several are named")
    if not (everything or names or xml):
        raise Rejected("no machine is named", hint="name machines, or use --all")
    return None if everything else tuple(dict.fromkeys(names))
