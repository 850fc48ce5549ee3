"""The options of ``sendense backup``: what can be typed, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.options import size
from sendense.model.decision import RequestedMode
from sendense.model.point import Consistency

_DISK_HELP = "by target, serial or path; may be repeated"


Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Machines, by name or UUID.", show_default=False),
]

Everything = Annotated[bool, typer.Option("--all", help="All machines that libvirt knows.")]

Xml = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="XML of a stopped machine that libvirt does not know."),
]

Mode = Annotated[RequestedMode | None, typer.Option(help="auto chooses per disk, and says why.")]

ConsistencyLevel = Annotated[
    Consistency | None, typer.Option(help="What the guest is asked to do first.")
]

Strict = Annotated[bool, typer.Option("--strict", help="Warnings are failures (exit code 8).")]

Include = Annotated[
    list[str] | None, typer.Option(metavar="DISK", help=f"Only this disk, {_DISK_HELP}.")
]

Exclude = Annotated[
    list[str] | None, typer.Option(metavar="DISK", help=f"Not this disk, {_DISK_HELP}.")
]

FreezeMountpoint = Annotated[
    list[str] | None,
    typer.Option(metavar="PATH", help="Freeze only this mount point; may be repeated."),
]

FullEvery = Annotated[
    int | None, typer.Option(metavar="N", help="A full after this many points; 0: never.")
]

Threshold = Annotated[
    int | None,
    typer.Option(metavar="SIZE", parser=size, help="Skip a machine where fewer bytes changed."),
]

Granularity = Annotated[
    int | None,
    typer.Option(metavar="SIZE", parser=size, help="Bytes per bit of new dirty bitmaps."),
]

BandwidthLimit = Annotated[
    int | None,
    typer.Option(metavar="SIZE", parser=size, help="Bytes per second at most; 0: no limit."),
]

SampleBlocks = Annotated[
    int | None,
    typer.Option(metavar="N", help="Clean blocks re-read and compared per disk."),
]

ScratchDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Local directory for what the guest overwrites."),
]

KeepLast = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Prune afterwards: keep the last N points.")
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and its reasons; change nothing.")
]
