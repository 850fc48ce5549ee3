"""Settings for one command: its options over the environment over the file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sendense.cli.passphrase import VARIABLE as PASSPHRASE
from sendense.errors import Rejected
from sendense.settings import DEFAULT_FILE, Settings, file_refused, load_settings

_VARIABLE = "SENDENSE_CONFIG"
_PREFIX = "SENDENSE_"
_IN_THE_FILE_ONLY = {"repositories"}
_OF_SERVERS = ("SENDENSE_SERVER", "SENDENSE_TOKEN", "SENDENSE_TOKEN_FILE", "SENDENSE_CA_FILE")
"""What commands that ask a server read; no settings of this host."""
_SERVERS_OWN = "SENDENSE_SERVER_"
"""Settings of the control plane, which looks at them itself."""
_LIKE = 0.85
"""How much a name resembles another one when it is that, misspelt."""


def read_settings(file: Path | None, **options: Any) -> Settings:
    """Read the settings; ``file`` wins over the one that the environment names."""
    _refuse_misspelt()
    with _named(file):
        name = os.environ.get(_VARIABLE, str(DEFAULT_FILE))
        with file_refused(name, "docs/settings.md has an example"):
            return load_settings(**options)


def _refuse_misspelt() -> None:
    """Refuse a variable that is nearly a setting: it would leave a default in force in silence."""
    settings = sorted(set(Settings.model_fields) - _IN_THE_FILE_ONLY)
    known = [
        _VARIABLE,
        PASSPHRASE,
        *_OF_SERVERS,
        *(f"{_PREFIX}{name.upper()}" for name in settings),
    ]
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and not name.startswith(_SERVERS_OWN) and name not in known:
            meant = difflib.get_close_matches(name, known, n=1, cutoff=_LIKE)
            meant += [item for item in known if item.startswith(name)]
            if meant:
                raise Rejected(f"{name} is no setting", hint=f"did you mean {meant[0]}?")


@contextmanager
def _named(file: Path | None) -> Iterator[None]:
    """Name the file where ``load_settings`` looks for it, for as long as it looks."""
    if file is None:
        yield
        return
    if not file.is_file():
        raise Rejected(f"the settings file {file} does not exist", hint="mend --config")
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(file)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
