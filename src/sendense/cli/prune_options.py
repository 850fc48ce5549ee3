"""The options of ``sendense prune``: what can be typed, and what its help says."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from sendense.cli.dates import date, span

_PERIOD_HELP = "Keep the newest point of each of the newest N {} that have one."

Machine = Annotated[
    str | None,
    typer.Argument(metavar="MACHINE", help="Name or UUID.", show_default=False),
]

Everything = Annotated[bool, typer.Option("--all", help="Every machine, each by the same rules.")]

KeepLast = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Keep the newest N good points.")
]

KeepHourly = Annotated[
    int | None, typer.Option(metavar="N", min=0, help=_PERIOD_HELP.format("hours"))
]

KeepDaily = Annotated[
    int | None, typer.Option(metavar="N", min=0, help=_PERIOD_HELP.format("days"))
]

KeepWeekly = Annotated[
    int | None, typer.Option(metavar="N", min=0, help=_PERIOD_HELP.format("ISO weeks"))
]

KeepMonthly = Annotated[
    int | None, typer.Option(metavar="N", min=0, help=_PERIOD_HELP.format("months"))
]

KeepYearly = Annotated[
    int | None, typer.Option(metavar="N", min=0, help=_PERIOD_HELP.format("years"))
]

KeepWithin = Annotated[
    timedelta | None,
    typer.Option(metavar="SPAN", parser=span, help="Keep points younger than 36h, 14d, 8w."),
]

Timezone = Annotated[
    str | None,
    typer.Option(metavar="ZONE", help="Whose days, weeks and so on, for example Europe/Berlin."),
]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and why.")]

AsOf = Annotated[
    datetime | None,
    typer.Option(
        "--as-of",
        metavar="DATE",
        parser=date,
        help="Judge as on a day to come, 2027-03-01; changes nothing.",
    ),
]

Every = Annotated[
    timedelta | None,
    typer.Option(
        metavar="SPAN",
        parser=span,
        help="With --as-of: as if a point is made every 6h, 1d, 1w until then.",
    ),
]
