"""Settings for one command: its options over the environment over the file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sendense.errors import NotAllowed, Rejected
from sendense.settings import DEFAULT_FILE, Settings, load_settings

_VARIABLE = "SENDENSE_CONFIG"
_PREFIX = "SENDENSE_"
_LIKE = 0.85
"""How much a name resembles another one when it is that, misspelt."""


def read_settings(file: Path | None, **options: Any) -> Settings:
    """Read the settings; ``file`` wins over the one that the environment names."""
    _refuse_misspelt()
    with _named(file):
        name = os.environ.get(_VARIABLE, str(DEFAULT_FILE))
        try:
            return load_settings(**options)
        except yaml.YAMLError as error:
            raise Rejected(
                f"the settings file {name} is not YAML: {_place(error)}",
                hint="mend the file; docs/settings.md has an example",
            ) from error
        except (AttributeError, TypeError, ValueError) as error:
            # What pydantic-settings makes of a file that is YAML, but no mapping or no UTF-8.
            raise Rejected(
                f"the settings file {name} is not a list of 'setting: value' lines ({error})",
                hint="mend the file; docs/settings.md has an example",
            ) from error
        except PermissionError as error:
            raise NotAllowed(f"the settings file {name} may not be read") from error


def _refuse_misspelt() -> None:
    """Refuse a variable that is nearly a setting: it would leave a default in force in silence."""
    known = [_VARIABLE, *(f"{_PREFIX}{name.upper()}" for name in Settings.model_fields)]
    for name in sorted(os.environ):
        if name.startswith(_PREFIX) and name not in known:
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


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return problem
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
