"""Which packs were read through, and when: what a sample begins with, and where a check goes on.

Each run adds objects of its own.  Now and then they are put together into one, and what they
say of packs that are gone is left out; the new object is there before the older ones go.
Times are the store's.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import partial

from sendense import clock
from sendense.errors import Damaged, NotFound
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.checking.rereading import UNREADABLE, Refused, twice
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal_json, unseal_json
from sendense.storage.store import ObjectInfo

log = logging.getLogger(__name__)

Times = dict[str, datetime]
"""By the id of a pack: when it was last read through, and was good."""

_TOGETHER = 8
"""Objects that are put together into one."""


class CheckedPacks:
    """What the store knows of packs that were read through."""

    def __init__(self, parts: Parts) -> None:
        """Read all of it; what cannot be read counts as never said."""
        self._parts = parts
        self._names: list[str] = []
        self.times: Times = {}
        self.unreadable: list[Refused] = []
        for item in parts.store.list(fmt.CHECKED):
            try:
                found = twice(partial(_read, parts, item), item)
            except NotFound:
                continue  # put together since it was listed
            except UNREADABLE as error:
                self.unreadable.append(Refused(item.name, error))
                continue
            self._names.append(item.name)
            _merge(self.times, found)

    def add(self, packs: Collection[str], at: datetime) -> None:
        """Remember that packs were read through and are good."""
        if packs:
            self._names.append(_put(self._parts, dict.fromkeys(packs, at)))
            _merge(self.times, dict.fromkeys(packs, at))

    def tidy(self, there: Collection[str]) -> None:
        """Put everything together, as far as it is about packs that are ``there``."""
        damaged = [item.name for item in self.unreadable if item.damaged]
        if len(self._names) + len(damaged) < _TOGETHER:
            return
        kept = {pack: at for pack, at in self.times.items() if pack in there}
        made = [_put(self._parts, kept)] if kept else []
        self._parts.store.delete([*self._names, *damaged])
        self._names, self.times = made, kept


def _put(parts: Parts, times: Mapping[str, datetime]) -> str:
    name = f"{fmt.CHECKED}{secrets.token_hex(16)}"
    read: dict[str, list[str]] = {}
    for pack, at in sorted(times.items()):
        read.setdefault(clock.format_utc(at), []).append(pack)
    value = {"read": read}
    parts.store.put(name, seal_json(parts.ring, name, SealedKind.CHECKED, value), create=True)
    return name


def _read(parts: Parts, item: ObjectInfo) -> Times:
    value = unseal_json(parts.ring, item.name, SealedKind.CHECKED, parts.store.get(item.name))
    try:
        read = [(clock.parse_utc(text), packs) for text, packs in value["read"].items()]
        return {str(pack): at for at, packs in read for pack in packs}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{item.name} is no record of a check", file=item.name) from error


def _merge(times: Times, more: Mapping[str, datetime]) -> None:
    for pack, at in more.items():
        if pack not in times or times[pack] < at:
            times[pack] = at
