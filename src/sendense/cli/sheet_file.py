"""Where a recovery sheet goes: a new file that only its owner can read, or standard output.

The sheet exists before the key on it opens anything: a key whose sheet was lost would be
no key.  So the file is made at once, before anything else is done; if the rest fails, it is
removed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sendense.cli.run import Run
from sendense.errors import AlreadyExists, Rejected
from sendense.model.secret import Secret
from sendense.storage.durable import explaining, sync_directory
from sendense.workflows.keys import Deliver

STDOUT = Path("-")


@contextmanager
def sheet_file(run: Run, path: Path) -> Iterator[Deliver]:
    """Give what takes the sheet; without a success of the ``with`` block no file is left."""
    if path == STDOUT:
        _refuse_json(run)
        yield lambda sheet: run.output.show_raw(sheet.reveal())
        return
    descriptor = _created(path)
    try:
        try:
            yield lambda sheet: _write(descriptor, path, sheet)
        finally:
            os.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _refuse_json(run: Run) -> None:
    if run.options.as_json:
        raise Rejected(
            "a recovery sheet is no part of a JSON document",
            hint="write it to a file, or leave --json out",
        )


def _created(path: Path) -> int:
    with explaining(path):
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise AlreadyExists(
                f"{path} is there already",
                hint="name a new file: a recovery sheet never replaces another one",
                file=path,
            ) from error


def _write(descriptor: int, path: Path, sheet: Secret) -> None:
    with explaining(path):
        content = memoryview(sheet.reveal())
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
        sync_directory(path.absolute().parent)
