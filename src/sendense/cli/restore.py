"""``sendense restore``: disks of a point to new files, to block devices, or in place."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.options import command, size
from sendense.cli.points import POINT_HELP
from sendense.cli.restore_run import RestoreOrder, restore_point
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.targets.domainxml import Identity


class ImageFormat(str, Enum):
    """What a new file is."""

    QCOW2 = "qcow2"
    RAW = "raw"


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("restore")(restore)


def moment(text: str) -> datetime:
    """Read an ISO 8601 time; without a zone it is UTC, as the times that we show."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a time: write 2026-01-31T12:00, with +01:00 behind if not UTC"
        ) from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


@command
def restore(
    run: Run,
    point: Annotated[str, typer.Argument(help=POINT_HELP, show_default=False)],
    *,
    at: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME", parser=moment, help="With latest:MACHINE: not newer than this (UTC)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="To new files in this directory.")
    ] = None,
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="DISK=DEVICE", help="To this block device; may be repeated."),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Over the disks of the machine, which must be off.")
    ] = False,
    xml: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --in-place: XML of a machine libvirt forgot."),
    ] = None,
    disk: Annotated[
        list[str] | None,
        typer.Option(metavar="DISK", help="Only this disk: target, serial or path; repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="DISK", help="Not this disk; may be repeated.")
    ] = None,
    image_format: Annotated[
        ImageFormat | None, typer.Option("--format", help="Of new files; else as the disk was.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NEW", help="Shape a copy, with a UUID of its own.")
    ] = None,
    new_macs: Annotated[
        bool, typer.Option("--new-macs", help="Give the copy other MAC addresses.")
    ] = False,
    start: Annotated[bool, typer.Option("--start", help="Start the machine afterwards.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same name.")
    ] = False,
    allow_larger: Annotated[
        bool, typer.Option("--allow-larger", help="Accept a larger device or disk.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything back and compare.")
    ] = False,
    bandwidth_limit: Annotated[
        int | None,
        typer.Option(metavar="SIZE", parser=size, help="Bytes per second at most; 0: no limit."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before something is overwritten.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show where each disk would go; change nothing.")
    ] = False,
) -> None:
    """Restore disks of a point; every byte is verified on its way."""
    if sum((output is not None, bool(to), in_place)) != 1:
        raise Rejected("say where to: --output DIR, or --to DISK=DEVICE, or --in-place")
    _refuse_what_says_nothing(
        in_place,
        output is not None,
        files_only={
            "--format": image_format is not None,
            "--overwrite": overwrite,
            "--name": name is not None,
            "--new-macs": new_macs,
        },
        xml=xml is not None,
    )
    order = RestoreOrder(
        settings=run.settings_with(bandwidth_limit=bandwidth_limit),
        reference=point,
        at=at,
        folder=output,
        image_format=image_format.value if image_format else None,
        overwrite=overwrite,
        devices=_mapping(to or []),
        machine_xml=xml,
        allow_larger=allow_larger,
        include=tuple(disk or ()),
        exclude=tuple(exclude or ()),
        identity=Identity(name=name, new_macs=new_macs),
        start=start,
        read_back=verify,
        sure=yes,
        dry_run=dry_run,
    )
    restore_point(run, order)


def _refuse_what_says_nothing(
    in_place: bool, files: bool, *, files_only: dict[str, bool], xml: bool
) -> None:
    """Refuse an option that would have no effect: whoever gave it meant something."""
    for option, given in files_only.items():
        if given and not files:
            raise Rejected(f"{option} goes with --output only")
    if xml and not in_place:
        raise Rejected("--xml goes with --in-place only")


def _mapping(pairs: list[str]) -> dict[str, str]:
    """Read ``vda=/dev/vg/lv`` pairs."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        # A disk may be named by its path, and a path may hold "="; a device's name does not.
        disk, found, device = pair.rpartition("=")
        if not (found and disk and device):
            raise Rejected(f"{pair!r} is not DISK=DEVICE", hint="for example --to vda=/dev/vg0/web")
        if disk in mapping:
            raise Rejected(f"disk {disk} is given two devices")
        mapping[disk] = device
    return mapping
