"""``sendense repo init``: making a repository, and what has to be kept of it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from sendense.cli.options import command
from sendense.cli.output import Report
from sendense.cli.places import Place
from sendense.cli.repo_view import info_document
from sendense.cli.run import Run
from sendense.cli.sheet_file import STDOUT, sheet_file
from sendense.errors import Rejected, SendenseError
from sendense.repository.dedup.slot_documents import Slot
from sendense.repository.opening import CHAIN, RepositorySettings
from sendense.repository.protocol import Repository, RepositoryInfo
from sendense.settings import Settings
from sendense.workflows.keys import Deliver, new_recovery_key
from sendense.workflows.repository_facts import require_dedup

_ZSTD_LEVEL = 3
"""zstd's own default: higher levels cost several times the CPU for a few percent of space."""

_NO_SHEET = "make a recovery key: sendense repo key add-recovery --sheet FILE -r {place}"
_SHEET = "print {sheet}, lock the paper away, and delete the file"
_PRINTED = "print the sheet, and lock the paper away; it is kept nowhere else"
_KEEP = (
    "keep the passphrase in another place than this machine as well: without it and without a "
    "recovery key nobody can open the repository"
)


def register(app: typer.Typer) -> None:
    """Put the command into the group."""
    app.command("init")(make_repository)


@command
def make_repository(
    run: Run,
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL",
            help="Where: a directory, s3://, azure://, gs://, or a name of the settings; "
            "qcow2:DIRECTORY for plain QCOW2 files. That of the settings where it is left out.",
            show_default=False,
        ),
    ] = None,
    *,
    compress: Annotated[
        bool | None,
        typer.Option("--compress/--no-compress", help="Store zstd-compressed data, or not."),
    ] = None,
    level: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=19, help="zstd level; 3 is usual.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--recovery-sheet",
            metavar="FILE",
            help="Make a recovery key too, and write its sheet there; - prints it.",
        ),
    ] = None,
) -> None:
    """Make a new, empty repository."""
    if compress is False and level is not None:
        raise Rejected("--level goes with compression only", hint="leave --no-compress out")
    place = run.place(url)
    if place.url.startswith(CHAIN):
        _refuse_secrets(run, sheet)
    settings = RepositorySettings(_level(run.settings_with(compress=compress), place, level))
    with ExitStack() as stack:
        deliver = stack.enter_context(sheet_file(run, sheet)) if sheet is not None else None
        made = run.create(place, settings)
        slot = _recovery_key(run, place, made, deliver) if deliver is not None else None
    _tell(run, place, made.info(), sheet, slot)


def _level(settings: Settings, place: Place, level: int | None) -> int | None:
    """Give the level: dedup repositories compress unless they shall not, chains if they shall."""
    if level is not None:
        return level
    compress = settings.compress
    if compress is None:
        compress = not place.url.startswith(CHAIN)
    return _ZSTD_LEVEL if compress else None


def _refuse_secrets(run: Run, sheet: Path | None) -> None:
    given = {
        "--passphrase-file": run.options.passphrase_file,
        "--recovery-key-file": run.options.recovery_key_file,
        "--recovery-sheet": sheet,
    }
    for option, value in given.items():
        if value is not None:
            raise Rejected(
                f"a QCOW2 chain is not encrypted, so {option} means nothing",
                hint="leave it out, or leave 'qcow2:' out: a dedup repository is encrypted",
            )


def _recovery_key(run: Run, place: Place, made: Repository, deliver: Deliver) -> Slot:
    repository = require_dedup(made, "recovery keys")
    try:
        return new_recovery_key(repository, label="", deliver=deliver)
    except SendenseError:
        run.warn(
            f"{place} was made, but has no recovery key yet: the sheet, if there is one, opens "
            f"nothing; later: sendense repo key add-recovery --sheet FILE -r {place}"
        )
        raise


def _tell(
    run: Run, place: Place, info: RepositoryInfo, sheet: Path | None, slot: Slot | None
) -> None:
    made = f"made {info.kind} {info.location}"
    if sheet == STDOUT:
        # Standard output is the sheet, and nothing but the sheet: it may go to a printer.
        run.note(made)
    else:
        document: dict[str, Any] = {"repository": info_document(info)}
        if slot is not None:
            document["recovery"] = {"slot": slot.id, "sheet": str(sheet)}
        run.show(Report(document, [made]))
    if not place.url.startswith(CHAIN):
        for line in _next(place, sheet):
            run.note(f"next: {line}")


def _next(place: Place, sheet: Path | None) -> list[str]:
    if sheet is None:
        first = _NO_SHEET.format(place=place.again)
    else:
        first = _PRINTED if sheet == STDOUT else _SHEET.format(sheet=sheet)
    return [first, _KEEP]
