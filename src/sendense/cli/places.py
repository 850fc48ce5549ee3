"""Which repository is meant: a URL, or a name of the settings."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from sendense.errors import Rejected
from sendense.repository.opening import CHAIN, DEDUP
from sendense.settings import NamedRepository, Settings
from sendense.storage.urls import parse_url


@dataclass(frozen=True)
class Place:
    """A repository as somebody named it; it need not exist."""

    url: str
    name: str | None = None
    entry: NamedRepository | None = None
    """What the settings say of it."""

    def __str__(self) -> str:
        return self.name or self.url

    @property
    def again(self) -> str:
        """Give what names it from any directory."""
        if self.name is not None or not is_path(self.url):
            return str(self)
        return str(Path(self.url).absolute())

    @property
    def location(self) -> str:
        """Give what the repository calls its location, once it is open."""
        try:
            return str(parse_url(self.url.removeprefix(CHAIN).removeprefix(DEDUP)))
        except Rejected:
            return self.url


def find_place(settings: Settings, reference: str) -> Place:
    """Give what a reference means: a name wins over a directory that is called so."""
    entry = settings.repositories.get(reference)
    if entry is None:
        return Place(reference)
    return Place(entry.url, reference, entry)


def named_places(settings: Settings) -> tuple[Place, ...]:
    """List the repositories that the settings name; the default one first, where it has no name."""
    places = [Place(entry.url, name, entry) for name, entry in settings.repositories.items()]
    default = settings.repository
    if default and default not in settings.repositories:
        known = {place.url for place in places}
        places[:0] = [] if default in known else [Place(default)]
    return tuple(places)


def is_path(url: str) -> bool:
    """Tell whether a URL is the path of a directory, and no more."""
    return ":" not in url.partition("/")[0]


def is_bucket(url: str) -> bool:
    """Tell whether a URL means an object store, which may ask for credentials."""
    return not (url.startswith((CHAIN, DEDUP, "file:")) or is_path(url))


def likely_name(settings: Settings, reference: str) -> str | None:
    """Give the name that was perhaps meant by a reference that leads nowhere."""
    known = list(settings.repositories)
    return next(iter(difflib.get_close_matches(reference, known, n=1)), None)
