"""The options of ``sendense cloud restore``."""

from __future__ import annotations

from typing import Annotated

import typer

Point = Annotated[
    str, typer.Argument(metavar="POINT", help="Id, or latest:INSTANCE.", show_default=False)
]
Plan = Annotated[
    bool, typer.Option("--plan", help="Only show what would be done, or what is in the way.")
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="REPOSITORY", help="Which repository's copy of it."),
]
Volume = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VOLUME",
        help="Only this volume of the point, by name or id, or root; may be given several "
        "times. V=W: over the volume W of the instance.",
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="INSTANCE",
        help="As a new data volume of this instance; with one --volume.",
    ),
]
Lost = Annotated[
    bool, typer.Option("--lost", help="Make the instance again, which the cloud has lost.")
]
NewName = Annotated[
    str | None,
    typer.Option(
        "--new-name",
        metavar="NAME",
        help="Make another instance, of this name; with --to: name of the new volume.",
    ),
]
Cloud = Annotated[str | None, typer.Option(metavar="CLOUD", help="Make it in another cloud.")]
Zone = Annotated[str | None, typer.Option(metavar="ZONE", help="Make it in another zone.")]
Account = Annotated[
    str | None, typer.Option(metavar="ACCOUNT", help="Make it for another account.")
]
Domain = Annotated[
    str | None,
    typer.Option(metavar="DOMAIN", help="Of the account: ROOT/customers/acme, or its id."),
]
Project = Annotated[str | None, typer.Option(metavar="PROJECT", help="Make it for a project.")]
MapNetwork = Annotated[
    list[str] | None,
    typer.Option(
        "--map-network",
        metavar="OLD=NEW",
        help="Network now instead of one of then; may be given several times.",
    ),
]
Offering = Annotated[str | None, typer.Option(metavar="OFFERING", help="Another service offering.")]
DiskOffering = Annotated[
    list[str] | None,
    typer.Option(
        "--disk-offering",
        metavar="OFFERING",
        help="Another disk offering, for all data volumes; V=OFFERING for one, or for those "
        "of one offering; may be given several times.",
    ),
]
Template = Annotated[
    str | None,
    typer.Option(metavar="TEMPLATE", help="Another template to deploy from, where needed."),
]
Pool = Annotated[str | None, typer.Option(metavar="POOL", help="Where new files go.")]
Start = Annotated[
    bool | None,
    typer.Option("--start/--no-start", help="Whether it runs in the end; else as it did."),
]
NoSafetyPoint = Annotated[
    bool,
    typer.Option("--no-safety-point", help="In place: do not back it up first as it is."),
]
AllowLarger = Annotated[
    bool, typer.Option("--allow-larger", help="Also onto volumes that are larger now.")
]
AllowUnencrypted = Annotated[
    bool,
    typer.Option("--allow-unencrypted", help="Also where CloudStack encrypted what will not be."),
]
WithSecrets = Annotated[
    bool,
    typer.Option(
        "--with-secrets", help="Also another owner or cloud gets its details and user data."
    ),
]
GoOn = Annotated[
    str | None,
    typer.Option("--continue", metavar="JOB", help="Go on with a job that failed."),
]
