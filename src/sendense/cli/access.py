"""What opening a repository takes beside its URL, out of options, environment and settings.

The secret of a repository is named in one of four places.  The first that names any counts, so
that the passphrase of one repository is not tried on another:

1. the options ``--passphrase-file`` and ``--recovery-key-file``, for the one of ``--repository``;
2. the entry of the repository in ``repositories`` of the settings file;
3. the environment;
4. the settings file.

Where none does, the person at the terminal is asked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from sendense.cli import passphrase
from sendense.cli.passphrase import PassphraseSource, Prompt, Warn
from sendense.cli.places import Place, is_bucket
from sendense.errors import Rejected
from sendense.model.secret import Secret
from sendense.settings import Settings

_NAMES = ("passphrase_file", "passphrase_command", "recovery_key_file")


@dataclass(frozen=True)
class Named:
    """Where a secret is, as one place names it."""

    passphrase_file: Path | None = None
    passphrase_command: str | None = None
    recovery_key_file: Path | None = None
    variable: bool = False
    """The passphrase itself is in the environment."""

    def __bool__(self) -> bool:
        return self.variable or any(getattr(self, name) is not None for name in _NAMES)


class NoSecret(Rejected):
    """Nothing names the secret, and nobody is asked."""


class SecretOf:
    """The secret of one repository: looked up when it is first needed, and then kept."""

    def __init__(
        self, named: Named, warn: Warn, *, about: str, ask: Prompt = passphrase.ask_terminal
    ) -> None:
        """Look nothing up yet; ``about`` tells the person who is asked which repository it is."""
        self._named, self._warn, self._about = named, warn, about
        self._source = PassphraseSource(
            file=named.passphrase_file, command=named.passphrase_command, prompt=ask
        )
        self._held: Secret | None = None

    @property
    def is_recovery_key(self) -> bool:
        """Tell whether a recovery key opens it, and no passphrase."""
        return self._named.recovery_key_file is not None

    @property
    def where(self) -> str | None:
        """Say where the passphrase is kept; none where somebody typed it."""
        named = self._named
        if named.passphrase_file is not None:
            return str(named.passphrase_file)
        if named.passphrase_command is not None:
            return "what passphrase_command runs"
        return passphrase.VARIABLE if named.variable else None

    def __call__(self, new: bool) -> Secret:
        """Give the secret; ``new``: a passphrase that is chosen now."""
        if self._held is None:
            self._held = self._new() if new else self._existing()
        return self._held

    def _new(self) -> Secret:
        if self._named.recovery_key_file is not None:
            raise Rejected(
                "a new repository begins with a passphrase, not with a recovery key",
                hint="name a file with --passphrase-file; --recovery-sheet makes a recovery key",
            )
        return self._source.new(self._warn, question=f"New passphrase of {self._about}")

    def _existing(self) -> Secret:
        path = self._named.recovery_key_file
        if path is not None:
            return passphrase.read_recovery_key_file(path, self._warn).to_text()
        return self._source.existing(self._warn, question=f"Passphrase of {self._about}")


def nobody(question: str) -> str:
    """Ask nobody: for commands that look at many repositories."""
    raise NoSecret(
        "nothing names its passphrase",
        hint="name a passphrase_file in its entry of the settings, or open it by itself with -r",
    )


def named_secret(settings: Settings, place: Place, options: Named) -> Named:
    """Give where the secret of a repository is; the first place that names any counts."""
    for where, named in _levels(settings, place, options):
        _refuse_two(where, named)
        if named:
            return named
    return Named()


def _levels(settings: Settings, place: Place, options: Named) -> Iterator[tuple[str, Named]]:
    yield "the command line", options
    if place.entry is not None:
        values = {name: getattr(place.entry, name) for name in _NAMES}
        yield f"repositories.{place.name} of the settings", Named(**values)
    values = {name: getattr(settings, name) for name in _NAMES}
    around = {name for name in _NAMES if f"SENDENSE_{name.upper()}" in os.environ}
    variable = passphrase.VARIABLE in os.environ
    given = {name: values[name] for name in around}
    yield "the environment", Named(**given, variable=variable)
    yield "the settings file", Named(**{name: values[name] for name in set(_NAMES) - around})


def _refuse_two(where: str, named: Named) -> None:
    given = [name for name in _NAMES if getattr(named, name) is not None]
    given += ["passphrase"] if named.variable else []
    if len(given) > 1:
        raise Rejected(
            f"{where} names more than one secret: {', '.join(given)}", hint="leave one of them"
        )


def credentials(settings: Settings, place: Place, warn: Warn) -> Mapping[str, Secret]:
    """Read the credentials of a repository's store, where a file is named."""
    own = place.entry.credentials_file if place.entry is not None else None
    path = own or (settings.credentials_file if is_bucket(place.url) else None)
    return {} if path is None else read_credentials(path, warn)


def read_credentials(path: Path, warn: Warn) -> Mapping[str, Secret]:
    """Read a file with the credentials of a store."""
    text = passphrase.read_secret_file(path, warn)
    try:
        content = yaml.safe_load(text.reveal())
    except (yaml.YAMLError, UnicodeDecodeError):
        # Not chained, and not quoted: it shows a piece of the file.
        content = None
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in content.items()
    ):
        raise Rejected(
            f"{path} does not hold credentials",
            hint="write lines such as 'access_key_id: \"...\"', each value in quotes",
            file=path,
        )
    return {key: Secret(value) for key, value in content.items()}
