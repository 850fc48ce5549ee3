"""The options of ``sendense mount``: what can be typed, and what its help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.points import POINT_HELP

Point = Annotated[str | None, typer.Argument(metavar="POINT", help=POINT_HELP, show_default=False)]

Listing = Annotated[bool, typer.Option("--list", help="Only show what is mounted.")]

Detach = Annotated[bool, typer.Option("--detach", help="Leave it running, until 'unmount'.")]

Tcp = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Listen there, rather than on a private socket."),
]

Tls = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="With --tcp: certificates; clients have to show theirs."),
]

Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="With --tcp: let everybody who reaches HOST read it."),
]

Writable = Annotated[
    bool, typer.Option("--writable", help="Over an overlay that is dropped at the end.")
]

OverlayDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="With --writable: where the overlay is; default /var/tmp."),
]
