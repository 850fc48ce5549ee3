"""The options of ``sendense restore``: what can be typed, and what its help says."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.options import size
from sendense.cli.points import POINT_HELP


class FileFormat(str, Enum):
    """What a new file is."""

    QCOW2 = "qcow2"
    RAW = "raw"


def moment(text: str) -> datetime:
    """Read an ISO 8601 time; without a zone it is UTC, as the times that we show."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a time: write 2026-01-31T12:00, with +01:00 behind if not UTC"
        ) from error
    return read if read.tzinfo else read.replace(tzinfo=UTC)


Point = Annotated[str, typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False)]

At = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME", parser=moment, help="With latest:MACHINE: not newer than this (UTC)."
    ),
]

Output = Annotated[Path | None, typer.Option(metavar="DIR", help="To new files in this directory.")]

To = Annotated[
    list[str] | None,
    typer.Option(metavar="DISK=DEVICE", help="To this block device; may be repeated."),
]

InPlace = Annotated[
    bool, typer.Option("--in-place", help="Over the disks of the machine, which must be off.")
]

Xml = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="With --in-place: XML of a machine libvirt forgot."),
]

Disk = Annotated[
    list[str] | None,
    typer.Option(metavar="DISK", help="Only this disk: target, serial or path; repeatable."),
]

Exclude = Annotated[
    list[str] | None, typer.Option(metavar="DISK", help="Not this disk; may be repeated.")
]

ImageFormat = Annotated[
    FileFormat | None, typer.Option("--format", help="Of new files; else as the disk was.")
]

Name = Annotated[
    str | None, typer.Option(metavar="NEW", help="Shape a copy, with a UUID of its own.")
]

NewMacs = Annotated[bool, typer.Option("--new-macs", help="Give the copy other MAC addresses.")]

Start = Annotated[bool, typer.Option("--start", help="Start the machine afterwards.")]

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files of the same name.")]

AllowLarger = Annotated[
    bool, typer.Option("--allow-larger", help="Accept a larger device or disk.")
]

Verify = Annotated[bool, typer.Option("--verify", help="Read everything back and compare.")]

BandwidthLimit = Annotated[
    int | None,
    typer.Option(metavar="SIZE", parser=size, help="Bytes per second at most; 0: no limit."),
]

Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask before something is overwritten.")
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show where each disk would go; change nothing.")
]
