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
from sendense.cli.configuration import read_settings
from sendense.cli.output import Cell, Output, Report
from sendense.cli.progress import ProgressStyle, show_progress
from sendense.errors import NotFound, Rejected
from sendense.model.progress import ProgressListener
from sendense.repository.opening import (
    RepositorySettings,
    create_repository,
    open_repository,
)
from sendense.repository.protocol import Repository
from sendense.settings import Settings


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
    open_repository: Callable[[str], Repository] = open_repository
    create_repository: Callable[[str, RepositorySettings], Repository] = create_repository


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

    def repository_url(self) -> str:
        """Give the repository that is meant; an error where none is."""
        if not self.settings.repository:
            raise Rejected(
                "no repository is named",
                hint="name it with --repository (-r), SENDENSE_REPOSITORY, or 'repository' in the "
                "settings file",
            )
        return self.settings.repository

    def repository(self) -> Repository:
        """Open the repository; it is never made on the way."""
        url = self.repository_url()
        try:
            return self.services.open_repository(url)
        except NotFound as error:
            raise NotFound(
                error.message,
                hint=f"if the path is right and its storage is mounted: sendense repo init {url}",
                repository=url,
            ) from error

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

    def note(self, text: Cell) -> None:
        """Say something that is no result."""
        self.output.note(text)
