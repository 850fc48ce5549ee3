"""``sendense repo key``: who can open a dedup repository, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sendense.cli.access import SecretOf
from sendense.cli.options import command
from sendense.cli.output import Report
from sendense.cli.passphrase import PassphraseSource
from sendense.cli.points import confirm
from sendense.cli.repo_keys_view import keys_documents, keys_sheet
from sendense.cli.run import Run
from sendense.cli.sheet_file import STDOUT, sheet_file
from sendense.errors import Rejected
from sendense.model.secret import Secret
from sendense.repository.dedup.recovery import parse_recovery_key
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.dedup.slot_documents import Slot
from sendense.workflows import keys
from sendense.workflows.repository_facts import require_dedup

app = typer.Typer(name="key", help="Keys of a dedup repository.", no_args_is_help=True)

Label = Annotated[
    str, typer.Option(metavar="TEXT", help="Whose it is, or where it lies; everybody can read it.")
]
NewPassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--new-passphrase-file",
        metavar="FILE",
        help="The new passphrase; asked for on the terminal where it is left out.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
NewSheet = Annotated[
    Path | None,
    typer.Option(
        "--sheet", metavar="FILE", help="Make a new key, and write its sheet there; - prints it."
    ),
]

_ROTATION = (
    "what is written from now on is encrypted with a new key; what is there stays as it is, and "
    "who has read the old key can read it still",
    "recovery keys stay valid; programs that have the repository open go on with the old key until "
    "they end",
)


def register(group: typer.Typer) -> None:
    """Put the group into that of repositories."""
    group.add_typer(app)


@app.command("list")
@command
def list_keys(run: Run) -> None:
    """List the passphrases and recovery keys that open a repository."""
    found = keys.list_keys(_repository(run))
    run.show(Report({"keys": keys_documents(found)}, [keys_sheet(found)]))


@app.command("add-passphrase")
@command
def add_passphrase(
    run: Run, *, new_passphrase_file: NewPassphraseFile = None, label: Label = ""
) -> None:
    """Let one more passphrase open a repository."""
    repository = _repository(run)
    slot = keys.add_passphrase(repository, _new_passphrase(run, new_passphrase_file), label=label)
    _tell_added(run, slot, "the passphrase")


@app.command("change-passphrase")
@command
def change_passphrase(run: Run, *, new_passphrase_file: NewPassphraseFile = None) -> None:
    """Put a new passphrase in the place of the one that is given; the keys stay."""
    repository = _repository(run)
    source = run.secret(run.place())
    if source.is_recovery_key:
        raise Rejected(
            "a recovery key has no passphrase to change",
            hint="add one: sendense repo key add-passphrase",
        )
    new = _new_passphrase(run, new_passphrase_file)
    slot = keys.change_passphrase(repository, source(False), new)
    run.show(Report({"slot": slot.id}, ["the passphrase was changed"]))
    _note_where(run, source)


@app.command("add-recovery")
@command
def add_recovery(
    run: Run,
    *,
    sheet: NewSheet = None,
    public_key: Annotated[
        str | None,
        typer.Option(
            metavar="HEX", help="Of a recovery key that exists: its sheet has 64 digits of it."
        ),
    ] = None,
    label: Label = "",
) -> None:
    """Let a recovery key open a repository: a new one, or one that exists."""
    if (sheet is None) == (public_key is None):
        raise Rejected("name the file for the sheet of a new key with --sheet, or a --public-key")
    repository = _repository(run)
    if public_key is not None:
        slot = keys.add_recovery_key(repository, _public_key(public_key), label=label)
        _tell_added(run, slot, "the recovery key")
    elif sheet is not None:
        with sheet_file(run, sheet) as deliver:
            slot = keys.new_recovery_key(repository, label=label, deliver=deliver)
        if sheet == STDOUT:
            run.note(f"the recovery key on the sheet opens the repository (slot {slot.id})")
        else:
            _tell_added(run, slot, f"the recovery key on {sheet}")


@app.command("recovery-sheet")
@command
def write_sheet(
    run: Run,
    sheet: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A new file; - prints it.", show_default=False),
    ],
) -> None:
    """Write the sheet of a recovery key again, from the key: after a move, say."""
    repository = _repository(run)
    source = run.secret(run.place())
    if not source.is_recovery_key:
        raise Rejected(
            "the repository does not hold recovery keys, only locks for them",
            hint="give the key with --recovery-key-file, or make a new one: "
            "sendense repo key add-recovery --sheet FILE",
        )
    key = parse_recovery_key(source(False))
    with sheet_file(run, sheet) as deliver:
        deliver(keys.sheet_of(repository, key, label=keys.label_of(repository, key)))
    if sheet != STDOUT:
        run.show(Report({"sheet": str(sheet)}, [f"wrote {sheet}: print it, and delete the file"]))


@app.command("remove")
@command
def remove_key(
    run: Run,
    slot: Annotated[
        str,
        typer.Argument(
            metavar="SLOT",
            help="Id of the slot, or the beginning of it: 'repo key list' shows it.",
            show_default=False,
        ),
    ],
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Also one that states a newer key than was opened: it may be forged."
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Take a passphrase or a recovery key away; what opens the repository now must stay."""
    place = run.place()
    repository = _repository(run)
    slot_id = keys.find_slot(repository, slot)
    run.note("who has read the slot before has it still; 'repo key rotate' is for that")
    if not yes:
        confirm(f"Remove key slot {slot_id}?", run)
    keys.remove_slot(repository, slot_id, proof=run.secret(place)(False), force=force)
    run.show(Report({"removed": slot_id}, [f"removed key slot {slot_id}"]))


@app.command("rotate")
@command
def rotate_keys(
    run: Run,
    *,
    new_passphrase: Annotated[
        bool, typer.Option("--new-passphrase", help="With another passphrase from now on.")
    ] = False,
    new_passphrase_file: NewPassphraseFile = None,
    drop_others: Annotated[
        bool,
        typer.Option("--drop-others", help="Other passphrases open the repository no longer."),
    ] = False,
    yes: Yes = False,
) -> None:
    """Encrypt with a new key from now on; other passphrases cannot be carried over."""
    place = run.place()
    repository = _repository(run)
    source = run.secret(place)
    another = new_passphrase or new_passphrase_file is not None or source.is_recovery_key
    kept = _new_passphrase(run, new_passphrase_file) if another else source(False)
    for line in _ROTATION:
        run.note(line)
    dropped = keys.slots_that_rotation_drops(repository, kept) if drop_others else ()
    for slot in dropped:
        run.warn(f"this passphrase opens the repository no longer: {slot.label or slot.id}")
    if not yes:
        confirm("Begin a new key?", run)
    epoch = keys.rotate_keys(repository, kept, drop_others=drop_others)
    document = {"epoch": epoch, "dropped": [slot.id for slot in dropped]}
    run.show(Report(document, [f"what is written from now on has a new key (epoch {epoch})"]))
    if another:
        _note_where(run, source)


def _repository(run: Run) -> DedupRepository:
    return require_dedup(run.repository(), "keys: it is not encrypted")


def _new_passphrase(run: Run, file: Path | None) -> Secret:
    # The variable holds the passphrase of now.
    source = PassphraseSource(file=file, variable=None)
    return source.new(run.warn, question="New passphrase")


def _note_where(run: Run, source: SecretOf) -> None:
    """Say where the old passphrase is still kept."""
    if source.where is not None:
        run.note(f"next: put the new passphrase where the old one is: {source.where}")


def _public_key(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise Rejected(
            "this is no public key", hint="the recovery sheet has it: 64 hexadecimal digits"
        ) from None


def _tell_added(run: Run, slot: Slot, what: str) -> None:
    document = {"slot": slot.id, "kind": slot.kind.value, "label": slot.label}
    run.show(Report(document, [f"{what} opens the repository (slot {slot.id})"]))
