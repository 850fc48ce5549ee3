"""``sendense repo list``: the repositories of the settings, as far as they can be reached.

Nobody is asked for a passphrase here, and a store that does not answer is given up early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import typer

from sendense.cli import failures, text
from sendense.cli.access import NoSecret, nobody
from sendense.cli.options import command
from sendense.cli.output import Column, Report, Sheet
from sendense.cli.places import Place, named_places
from sendense.cli.run import Run
from sendense.errors import SendenseError
from sendense.repository.dedup.repository import KIND as DEDUP_KIND
from sendense.repository.opening import is_chain
from sendense.repository.protocol import RepositoryInfo
from sendense.units import format_size

_CHAIN_KIND = "qcow2-chain"
_LOCKED = "locked"


@dataclass(frozen=True)
class _Seen:
    place: Place
    info: RepositoryInfo | None
    error: SendenseError | None

    @property
    def state(self) -> str:
        """Say in one word whether it can be used from here."""
        if self.error is None:
            return "ok"
        return _LOCKED if isinstance(self.error, NoSecret) else self.error.code

    @property
    def kind(self) -> str | None:
        """Give the kind, as far as it shows from outside."""
        if self.info is not None:
            return self.info.kind
        if self.state == _LOCKED:
            return DEDUP_KIND
        return _CHAIN_KIND if _looks_like_chain(self.place.url) else None


def _looks_like_chain(url: str) -> bool:
    try:
        return is_chain(url)
    except OSError:
        return False


def register(app: typer.Typer) -> None:
    """Put the command into the group."""
    app.command("list")(list_repositories)


@command
def list_repositories(run: Run) -> None:
    """List the repositories of the settings, and whether they can be reached."""
    seen = [_look(run, place) for place in named_places(run.settings)]
    document = {"repositories": [_document(run, item) for item in seen]}
    run.show(Report(document, [_sheet(run, seen)] if seen else ["the settings name no repository"]))


def _look(run: Run, place: Place) -> _Seen:
    """Look at one repository; that one cannot be reached does not hide the others."""
    try:
        return _Seen(place, run.open(place, ask=nobody, quick=True).info(), None)
    except (SendenseError, OSError) as error:
        return _Seen(place, None, failures.known(error) or SendenseError(str(error)))


def _is_default(run: Run, place: Place) -> bool:
    return run.settings.repository in (place.name, place.url)


def _document(run: Run, seen: _Seen) -> dict[str, Any]:
    info = seen.info
    return {
        "name": seen.place.name,
        "url": seen.place.url,
        "default": _is_default(run, seen.place),
        "state": seen.state,
        "kind": seen.kind,
        "points": info.points if info else None,
        "stored_bytes": info.stored_bytes if info else None,
        "free_bytes": info.free_bytes if info else None,
        "error": failures.describe(seen.error) if seen.error else None,
    }


def _sheet(run: Run, seen: list[_Seen]) -> Sheet:
    columns = (
        Column("name"),
        Column("kind", minor=2),
        Column("state"),
        Column("points", right=True),
        Column("stored", right=True),
        Column("free", right=True, minor=1),
        Column("location"),
        Column("trouble", fold=True),
    )
    rows = [
        (
            (item.place.name or text.NONE) + (" *" if _is_default(run, item.place) else ""),
            item.kind or text.NONE,
            item.state,
            str(item.info.points) if item.info else text.NONE,
            format_size(item.info.stored_bytes) if item.info else text.NONE,
            text.bytes_or_none(item.info.free_bytes if item.info else None),
            item.place.url,
            item.error.message if item.error else "",
        )
        for item in seen
    ]
    return Sheet(columns, rows)
