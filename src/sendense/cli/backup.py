"""``sendense backup``: one machine after the other, none held up by the failure of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from sendense.cli import backup_options as given
from sendense.cli.backup_run import BackupOrder, back_up_all, plan_all
from sendense.cli.exitcodes import ExitCode
from sendense.cli.options import command
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.settings import Settings
from sendense.workflows.planning import BackupRequest


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("backup")(backup)


@command
def backup(
    run: Run,
    names: given.Names = None,
    *,
    everything: given.Everything = False,
    xml: given.Xml = None,
    mode: given.Mode = None,
    consistency: given.ConsistencyLevel = None,
    strict: given.Strict = False,
    include: given.Include = None,
    exclude: given.Exclude = None,
    freeze_mountpoint: given.FreezeMountpoint = None,
    full_every: given.FullEvery = None,
    threshold: given.Threshold = None,
    granularity: given.Granularity = None,
    bandwidth_limit: given.BandwidthLimit = None,
    sample_blocks: given.SampleBlocks = None,
    scratch_dir: given.ScratchDir = None,
    keep_last: given.KeepLast = None,
    dry_run: given.DryRun = False,
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
        keep_last=keep_last,
    )
    request = _request(
        settings,
        strict=strict,
        mountpoints=tuple(freeze_mountpoint or ()),
        least_bytes=threshold or 0,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
    )
    order = BackupOrder(
        settings,
        request,
        _names(names or [], everything, xml),
        xml,
        keep=settings.keep_rules() if keep_last else None,
    )
    return plan_all(run, order) if dry_run else back_up_all(run, order)


def _request(settings: Settings, **others: Any) -> BackupRequest:
    return BackupRequest(
        mode=settings.mode,
        consistency=settings.consistency,
        full_every=settings.full_every,
        granularity=settings.granularity,
        **others,
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
