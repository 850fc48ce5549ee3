"""``sendense repo``: making a repository, looking at it, making its catalogue again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense import clock
from sendense.cli import text
from sendense.cli.options import command
from sendense.cli.output import Report, pairs
from sendense.cli.run import Run
from sendense.repository.opening import RepositorySettings
from sendense.repository.protocol import RepositoryInfo
from sendense.units import format_size

app = typer.Typer(name="repo", help="Repositories of recovery points.", no_args_is_help=True)

_ZSTD_LEVEL = 3
"""zstd's own default: higher levels cost several times the CPU for a few percent of space."""


@app.command("init")
@command
def make_repository(
    run: Run,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="Where: a directory. The repository of the settings where it is left out.",
            show_default=False,
        ),
    ] = None,
    compress: Annotated[
        bool | None,
        typer.Option("--compress/--no-compress", help="Store zstd-compressed clusters."),
    ] = None,
) -> None:
    """Make a new, empty repository."""
    settings = run.settings_with(compress=compress)
    where = url or run.repository_url()
    level = _ZSTD_LEVEL if settings.compress else None
    made = run.services.create_repository(where, RepositorySettings(compression_level=level))
    info = made.info()
    run.show(Report({"repository": _document(info)}, [f"made {info.kind} {info.location}"]))


@app.command("info")
@command
def show_repository(run: Run) -> None:
    """Show a repository as a whole."""
    info = run.repository().info()
    described = pairs(
        [
            ("location", info.location),
            ("kind", info.kind),
            ("id", info.id),
            ("made", text.when(info.created_at)),
            ("machines", str(info.machines)),
            ("points", str(info.points)),
            ("stored", format_size(info.stored_bytes)),
            ("free", text.bytes_or_none(info.free_bytes)),
        ]
    )
    run.show(Report({"repository": _document(info)}, [described]))


@app.command("rebuild")
@command
def rebuild_catalogue(run: Run) -> None:
    """Make the list of points again from what is stored."""
    points = run.repository().rebuild()
    run.show(Report({"points": points}, [f"the catalogue was made again: {points} points"]))


def _document(info: RepositoryInfo) -> dict[str, Any]:
    return {
        "location": info.location,
        "kind": info.kind,
        "id": info.id,
        "created_at": clock.format_utc(info.created_at),
        "machines": info.machines,
        "points": info.points,
        "stored_bytes": info.stored_bytes,
        "free_bytes": info.free_bytes,
    }
