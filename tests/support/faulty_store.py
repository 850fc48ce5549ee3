"""A store that goes wrong as real ones do, by a schedule.

The schedule is asked before each call and says what happens to it: nothing, a failure before
anything was done, a failure although it was done, an object that is cut short, a call that is
carried out twice, or a listing that has not heard of the latest changes.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from sendense.errors import AlreadyExists, NotFound, Stalled, Unavailable
from sendense.storage.buffers import Parts, joined
from sendense.storage.store import ObjectInfo, Store
from sendense.storage.wrapper import Wrapper


class Fault(Enum):
    """What happens to a call."""

    NONE = "nothing"
    REFUSED = "it fails, and nothing was done"
    LATE = "it is done, and a time-out is reported"
    TORN = "half of the object becomes visible, and a failure is reported"
    TWICE = "it is done twice"
    STALE = "a listing is from before the last changes"


TRANSIENT = (Fault.REFUSED, Fault.LATE, Fault.TWICE)
"""What a client that tries again does not notice."""

Schedule = Callable[[str, str], Fault]
"""From a verb and a name to what happens."""


def at_random(seed: int, share: float, faults: Sequence[Fault] = TRANSIENT) -> Schedule:
    """Let a share of all calls go wrong, the same ones with the same seed."""
    source, lock = random.Random(seed), threading.Lock()

    def schedule(verb: str, name: str) -> Fault:
        with lock:
            return source.choice(faults) if source.random() < share else Fault.NONE

    return schedule


def in_turn(*faults: Fault) -> Schedule:
    """Let the next calls go wrong so, and those after them not at all."""
    rest, lock = iter(faults), threading.Lock()

    def schedule(verb: str, name: str) -> Fault:
        with lock:
            return next(rest, Fault.NONE)

    return schedule


@dataclass(frozen=True)
class _Change:
    """An object before it was written or removed; none where it was not there."""

    name: str
    before: ObjectInfo | None


class FaultyStore(Wrapper):
    """A store whose calls go wrong by ``schedule``."""

    def __init__(self, inner: Store, schedule: Schedule, *, lag: int = 1) -> None:
        """Let a stale listing miss the last ``lag`` changes."""
        super().__init__(inner)
        self._schedule = schedule
        self._lag = lag
        self._changes: list[_Change] = []

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """Write, or what the schedule says."""
        fault = self._fault("put", name)
        before = self._look(name)
        if fault is Fault.TORN:
            content = bytes(joined(parts))
            self.inner.put(name, content[: len(content) // 2], create=create)
        else:
            self.inner.put(name, parts, create=create)
        self._changes.append(_Change(name, before))
        if fault is Fault.TWICE:
            with suppress(AlreadyExists):
                self.inner.put(name, parts, create=create)
        self._report(fault, name)

    def get(self, name: str) -> bytes:
        """Read, or what the schedule says."""
        fault = self._fault("get", name)
        content = self.inner.get(name)
        self._report(fault, name)
        return content

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range, or what the schedule says."""
        fault = self._fault("read_into", name)
        if fault is Fault.TORN:
            half = target.nbytes // 2
            self.inner.read_into(name, offset, target[:half])
        else:
            self.inner.read_into(name, offset, target)
        self._report(fault, name)

    def info(self, name: str) -> ObjectInfo:
        """Describe, or what the schedule says."""
        fault = self._fault("info", name)
        found = self.inner.info(name)
        self._report(fault, name)
        return found

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List; where it fails, that is in the middle."""
        fault = self._fault("list", prefix)
        found = {item.name: item for item in self.inner.list(prefix)}
        if fault is Fault.STALE:
            found = self._before_the_last_changes(found, prefix)
        for number, item in enumerate(found.values()):
            if number == len(found) // 2:
                self._report(fault, prefix)
            yield item
        if not found:
            self._report(fault, prefix)

    def delete(self, names: Sequence[str]) -> None:
        """Remove, or what the schedule says; a torn removal stops in the middle."""
        fault = self._fault("delete", " ".join(names))
        if fault is Fault.TORN:
            names = names[: len(names) // 2]
        self._changes.extend([_Change(name, self._look(name)) for name in names])
        self.inner.delete(names)
        if fault is Fault.TWICE:
            self.inner.delete(names)
        self._report(fault, "removing")

    def _fault(self, verb: str, name: str) -> Fault:
        fault = self._schedule(verb, name)
        if fault is Fault.REFUSED:
            raise Unavailable(f"{verb} {name}: 503, by the schedule")
        return fault

    @staticmethod
    def _report(fault: Fault, name: str) -> None:
        if fault is Fault.LATE:
            raise Stalled(f"{name}: no answer, by the schedule")
        if fault is Fault.TORN:
            raise Unavailable(f"{name}: the connection broke, by the schedule")

    def _look(self, name: str) -> ObjectInfo | None:
        try:
            return self.inner.info(name)
        except NotFound:
            return None

    def _before_the_last_changes(
        self, found: dict[str, ObjectInfo], prefix: str
    ) -> dict[str, ObjectInfo]:
        for change in reversed(self._changes[-self._lag :]):
            if not change.name.startswith(prefix):
                continue
            found.pop(change.name, None)
            if change.before is not None:
                found[change.name] = change.before
        return found
