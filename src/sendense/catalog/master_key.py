"""The master key: where it comes from, and its file.

It is looked for in this order: the text of an environment variable, a credential of systemd
(``LoadCredential=sendense-master-key``), and a file beside the catalogue, which is made at the
first start.  The text is the same in all three: a line for each key, ``<id> <key>`` in hex, the
newest last; empty lines and lines that begin with ``#`` are passed over.

Without the key a stolen database gives no secret away.  Without the key a saved database gives none
back either: it is kept apart, and kept well.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sendense.catalog.sealing import KEY_BYTES, KEY_ID_BYTES, MasterKey, MasterKeys
from sendense.errors import AlreadyExists, NotAllowed, NotFound, Rejected
from sendense.model.secret import Secret

VARIABLE = "SENDENSE_MASTER_KEY"
CREDENTIAL = "sendense-master-key"
_HEAD = "# The master key of Sendense. Keep a copy apart from the catalogue's backup.\n"


def find_keys(file: Path, environment: Mapping[str, str]) -> MasterKeys:
    """Give the keys of this installation; the file is made where there is none anywhere."""
    if environment.get(VARIABLE):
        return MasterKeys(parse(Secret(environment[VARIABLE])))
    folder = environment.get("CREDENTIALS_DIRECTORY")
    credential = Path(folder) / CREDENTIAL if folder else None
    if credential is not None and credential.exists():
        return MasterKeys(parse(Secret(credential.read_bytes())))
    if not file.exists():
        with suppress(AlreadyExists):  # another process was faster
            make_file(file)
    return MasterKeys(read_file(file))


def parse(text: Secret) -> tuple[MasterKey, ...]:
    """Read keys; an error names the line, and not what is in it."""
    keys = []
    for number, line in enumerate(text.reveal().decode(errors="replace").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            key_id, key = (bytes.fromhex(word) for word in words)
        except ValueError:
            key_id, key = b"", b""
        if len(key_id) != KEY_ID_BYTES or len(key) != KEY_BYTES:
            raise Rejected(
                f"line {number} of the master key is not readable",
                hint=f"a line is an id of {KEY_ID_BYTES} bytes and a key of {KEY_BYTES}, in hex",
            )
        keys.append(MasterKey(key_id, Secret(key)))
    return tuple(keys)


def read_file(file: Path) -> tuple[MasterKey, ...]:
    """Read the keys of a file that nobody but its owner may read."""
    try:
        mode = file.stat().st_mode
        text = Secret(file.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"there is no master key {file}") from None
    except OSError as error:
        raise NotAllowed(f"the master key {file} cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotAllowed(
            f"the master key {file} can be read by others",
            hint=f"chmod 600 {file}; and make a new key if somebody may have read it",
        )
    return parse(text)


def make_file(file: Path) -> None:
    """Make a file with a new key: whole or not at all, and never over one that is there."""
    draft = _draft(file)
    _write(draft, _HEAD + _line(MasterKey.new()))
    try:
        os.link(draft, file)
    except FileExistsError:
        raise AlreadyExists(f"there is a master key {file} already") from None
    finally:
        draft.unlink()
    _sync_folder(file.parent)


def _line(key: MasterKey) -> str:
    return f"{key.id.hex()} {key.key.reveal().hex()}\n"


def _draft(file: Path) -> Path:
    return file.with_name(f".{file.name}.{secrets.token_hex(6)}")


def _write(file: Path, text: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise NotAllowed(f"the master key {file} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
