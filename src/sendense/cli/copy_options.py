"""The options of ``sendense copy``: what can be typed, and what its help says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.dates import date
from sendense.cli.options import size
from sendense.cli.points import POINT_HELP

Points = Annotated[
    list[str] | None,
    typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False),
]

To = Annotated[
    str,
    typer.Option("--to", metavar="URL", help="Repository to copy into: URL, or name."),
]

ToPassphraseFile = Annotated[
    Path | None,
    typer.Option("--to-passphrase-file", metavar="FILE", help="The passphrase of that repository."),
]

Machine = Annotated[
    str | None, typer.Option(metavar="NAME", help="The points of this machine: name or UUID.")
]

Everything = Annotated[bool, typer.Option("--all", help="The points of all machines.")]

Last = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Only the newest N good points of each machine."),
]

Since = Annotated[
    datetime | None,
    typer.Option(
        metavar="DATE", parser=date, help="Only points taken since then: 2027-01-31[T12:00]."
    ),
]

Older = Annotated[
    bool,
    typer.Option("--older", help="Also points that are older than what is there already."),
]

Verify = Annotated[bool, typer.Option("--verify", help="Read back every byte that was stored.")]

BandwidthLimit = Annotated[
    int | None,
    typer.Option(metavar="SIZE", parser=size, help="Bytes per second read at most; 0: no limit."),
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be copied, and how.")]
