"""One run of one command: its global options, and what it opens with them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from sendense import log
from sendense.capture.host import Host
from sendense.capture.session import HostSettings
from sendense.cli.access import Named, SecretOf, credentials, named_secret, nobody
from sendense.cli.configuration import read_settings
from sendense.cli.output import Cell, Output, Report
from sendense.cli.passphrase import Prompt, ask_terminal
from sendense.cli.places import Place, find_place, likely_name, named_places
from sendense.cli.progress import ProgressStyle, show_progress
from sendense.errors import NotFound, Rejected, SendenseError
from sendense.model.progress import ProgressListener
from sendense.repository.opening import (
    Access,
    RepositorySettings,
    create_repository,
    open_repository,
)
from sendense.repository.protocol import Repository
from sendense.settings import Settings
from sendense.storage.options import StoreOptions
from sendense.transfer.throttle import UNLIMITED, Throttle

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 1000
"""More than there is patience for: that alone bounds them."""
_QUICK = 2, 10.0
"""Attempts and seconds of a command that only wants to know whether a store answers."""


class Color(str, Enum):
    """Whether output is coloured."""

    AUTO = "auto"
    NEVER = "never"


@dataclass(frozen=True)
class GlobalOptions:
    """Options that every command takes, before and behind its name."""

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    syslog: bool = False
    no_color: bool = False
    progress: ProgressStyle | None = None
    config: Path | None = None
    uri: str | None = None
    repository: str | None = None
    passphrase_file: Path | None = None
    recovery_key_file: Path | None = None
    server: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    insecure: bool = False

    def overlaid(self, later: GlobalOptions) -> GlobalOptions:
        """Give these with what ``later`` sets; ``-v`` before and behind adds up."""
        values = {item.name: getattr(later, item.name) for item in fields(later)}
        given = {name: value for name, value in values.items() if value}
        return replace(self, **{**given, "verbose": self.verbose + later.verbose})

    @property
    def log_level(self) -> int:
        """Give the level of the log: warnings, with -v the timeline, with -vv everything."""
        if self.verbose >= 2:
            return logging.DEBUG
        if self.verbose == 1 or self.syslog:
            return logging.INFO
        return logging.ERROR if self.quiet else logging.WARNING


@dataclass(frozen=True)
class Services:
    """What commands work with; tests bring their own."""

    host: Callable[[HostSettings], Host] = Host
    open_repository: Callable[[str, Access], Repository] = open_repository
    create_repository: Callable[[str, RepositorySettings, Access], Repository] = create_repository


@dataclass(frozen=True)
class Root:
    """What the program starts with: handed from the program to each command."""

    services: Services = field(default_factory=Services)
    options: GlobalOptions = field(default_factory=GlobalOptions)


class Run:
    """One command under way."""

    def __init__(self, options: GlobalOptions, services: Services) -> None:
        """Take what was given; nothing is opened yet."""
        self.options = options
        self.services = services
        self.output = Output(
            as_json=options.as_json, quiet=options.quiet, color=not options.no_color
        )
        self._chosen: Place | None = None
        self._given: dict[str, Named] = {}
        self._opened: dict[str, Repository] = {}
        self._secrets: dict[tuple[str, Prompt], SecretOf] = {}

    def configure_log(self) -> None:
        """Send the log where the options say."""
        log.configure(level=self.options.log_level, syslog=self.options.syslog)

    @cached_property
    def settings(self) -> Settings:
        """Give the settings, with the global options over them."""
        return self.settings_with()

    def settings_with(self, **options: Any) -> Settings:
        """Give the settings, with these and the global options over them."""
        return read_settings(
            self.options.config,
            uri=self.options.uri,
            repository=self.options.repository,
            **options,
        )

    @contextmanager
    def host(self, settings: Settings | None = None) -> Iterator[Host]:
        """Hold the host for the time of a ``with`` block."""
        with self.services.host((settings or self.settings).host()) as host:
            yield host

    # --- repositories ---

    def place(self, reference: str | None = None) -> Place:
        """Give the repository that the command is about; ``reference`` wins over the settings."""
        reference = reference or self.settings.repository
        if not reference:
            raise Rejected(
                "no repository is named",
                hint="name it with --repository (-r), SENDENSE_REPOSITORY, or 'repository' in the "
                "settings file",
            )
        self._chosen = find_place(self.settings, reference)
        return self._chosen

    def place_of(self, reference: str) -> Place:
        """Give a repository that the command works with beside the one that it is about."""
        return find_place(self.settings, reference)

    def name_secret(self, place: Place, named: Named) -> None:
        """Take what options of a command's own say of where a secret is."""
        self._given[place.url] = named

    def repository(self) -> Repository:
        """Open the repository; it is never made on the way."""
        return self.open(self.place())

    def open(self, place: Place, *, ask: Prompt = ask_terminal, quick: bool = False) -> Repository:
        """Open a repository, until the end of the command.

        ``quick`` gives up early on a store that does not answer.
        """
        held = self._opened.get(place.url)
        if held is None:
            access = self.access(place, ask=ask, quick=quick)
            try:
                held = self.services.open_repository(place.url, access)
            except NotFound as error:
                raise self._not_there(place, error) from error
            self._opened[place.url] = held
        return held

    def create(self, place: Place, settings: RepositorySettings) -> Repository:
        """Make a repository, and keep it open until the end of the command."""
        made = self.services.create_repository(place.url, settings, self.access(place))
        self._opened[place.url] = made
        return made

    def open_location(self, location: str) -> Repository:
        """Open the repository that a journal names: without a question, and without patience."""
        for held in self._opened.values():
            if held.location == location:
                return held
        known = (place for place in named_places(self.settings) if place.location == location)
        return self.open(next(known, Place(location)), ask=nobody, quick=True)

    def secret(self, place: Place) -> SecretOf:
        """Give what opens a repository; it is looked up once."""
        return self._secret(place, ask_terminal)

    def access(self, place: Place, *, ask: Prompt = ask_terminal, quick: bool = False) -> Access:
        """Give what opening takes beside the URL."""
        options = self._store_options
        if quick:
            attempts, patience_s = _QUICK
            options = replace(options, attempts=attempts, patience_s=patience_s)
        return Access(
            secret=self._secret(place, ask),
            cache=self.settings.cache(),
            credentials=credentials(self.settings, place, self.warn),
            store=options,
        )

    def _secret(self, place: Place, ask: Prompt) -> SecretOf:
        held = self._secrets.get((place.url, ask))
        if held is None:
            named = named_secret(self.settings, place, self._options_for(place))
            held = SecretOf(named, self.warn, about=str(place), ask=ask)
            self._secrets[place.url, ask] = held
        return held

    def _options_for(self, place: Place) -> Named:
        """Give the options of the command line: they are about the chosen repository only."""
        if place.url in self._given:
            return self._given[place.url]
        chosen = self._chosen
        if chosen is None and self.settings.repository:
            chosen = find_place(self.settings, self.settings.repository)
        if chosen is None or chosen.url != place.url:
            return Named()
        return Named(
            passphrase_file=self.options.passphrase_file,
            recovery_key_file=self.options.recovery_key_file,
        )

    @cached_property
    def _store_options(self) -> StoreOptions:
        """Give how stores are used: the limits hold for all of them together."""
        up, down = self.settings.store_upload_limit, self.settings.store_download_limit
        return StoreOptions(
            attempts=_ATTEMPTS,
            patience_s=self.settings.store_patience,
            upload=Throttle(up) if up else UNLIMITED,
            download=Throttle(down) if down else UNLIMITED,
        )

    def _not_there(self, place: Place, error: NotFound) -> NotFound:
        hint = f"if the path is right and its storage is mounted: sendense repo init {place}"
        meant = likely_name(self.settings, place.url)
        if place.name is None and meant is not None:
            hint = f"did you mean {meant}? Otherwise, {hint}"
        return NotFound(error.message, hint=hint, repository=place.url)

    def close(self) -> None:
        """Close what was opened; what goes wrong here changes no outcome."""
        for held in self._opened.values():
            try:
                held.close()
            except (SendenseError, OSError) as error:
                _LOG.warning("%s was not closed cleanly: %s", held.location, error)
        self._opened.clear()

    # --- output ---

    @contextmanager
    def progress(self, title: str) -> Iterator[ProgressListener]:
        """Show the progress of ``title`` for the time of a ``with`` block."""
        style = self.options.progress or ProgressStyle.AUTO
        if self.options.quiet:
            style = ProgressStyle.OFF
        elif style is ProgressStyle.AUTO and self.options.as_json:
            # A script reads: whoever wants progress says in which form.
            style = ProgressStyle.OFF
        with show_progress(style, self.output.notes, title=title) as listener:
            yield listener

    def show(self, report: Report) -> None:
        """Write the result."""
        self.output.show(report)

    def warn(self, text: str) -> None:
        """Say what a person should look at, also in a quiet run."""
        self.output.alert(f"warning: {text}")

    def note(self, text: Cell) -> None:
        """Say something that is no result."""
        self.output.note(text)
