"""Copying live records out of packs that are worn or small, into new packs.

A record is decrypted and encrypted again, because its place in a pack is its nonce; its
compressed frame stays as it is.  What is copied is authenticated on the way, but not held
against its digests: that is for a check.  Records of one pack stay in their order, so that what
is read together lies together.

A pack of which a record cannot be copied, from wherever it lies, is left as it is.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field

from sendense import clock, steps
from sendense.errors import Damaged, NotAllowed, NotFound
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.entries import Entry, Location, PackHead
from sendense.repository.dedup.pack_writing import PackWriter
from sendense.repository.dedup.packs import PackCipher
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.record_reading import Run, plan_runs

log = logging.getLogger(__name__)

_AHEAD_LOCAL = 2
_AHEAD_REMOTE = 6
"""Requests whose records wait in memory: up to 4 MiB each."""
_UNREADABLE = (Damaged, NotAllowed, NotFound)


@dataclass(frozen=True)
class Worn:
    """A pack to copy from, and how many bytes of it are live."""

    head: PackHead
    live: int

    @property
    def id(self) -> str:
        """Give the id of the pack."""
        return self.head.id


@dataclass
class Copied:
    """What was copied."""

    packs: dict[str, int] = field(default_factory=dict)
    """The packs that are copied completely, with the number of records."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """The packs that are not, with the reason."""
    bad: set[tuple[bytes, str]] = field(default_factory=set)
    """Records that are damaged, each with the pack in which it is."""
    copied_bytes: int = 0
    new_packs: tuple[PackHead, ...] = ()
    new_bytes: int = 0


@dataclass(frozen=True)
class _Frames:
    """Records of one pack that were read together, decrypted."""

    found: tuple[tuple[Entry, bytes], ...]
    lost: Mapping[bytes, str]
    """Records that cannot be read here, with the reason."""


class Copier:
    """Copies live records; what is marked in the local index is live."""

    def __init__(self, parts: Parts, check: Callable[[], None], progress: ProgressListener) -> None:
        """Copy with ``parts``; ``check`` is asked now and then, and may raise."""
        self._parts = parts
        self._check = check
        self._progress = progress
        kind = parts.store.traits.kind
        self._ahead = _AHEAD_LOCAL if kind in ("local", "memory") else _AHEAD_REMOTE

    def copy(self, packs: Sequence[Worn]) -> Copied:
        """Copy the live records of packs; all is durable and indexed when this returns."""
        copied = Copied()
        started = clock.monotonic()
        total = sum(pack.live for pack in packs)
        writer = PackWriter(self._parts, self._check)
        try:
            with ThreadPoolExecutor(self._ahead, thread_name_prefix="copy") as pool:
                for pack, frames in self._read_ahead(pool, packs):
                    self._check()
                    self._add(writer, pack, frames, copied)
                    elapsed = clock.monotonic() - started
                    self._progress(Progress("gc", "copy", copied.copied_bytes, total, elapsed))
            writer.finish()
        except BaseException:
            writer.give_up()
            raise
        finally:
            writer.close()
        steps.reached("gc:copied")
        copied.new_packs = tuple(writer.records)
        copied.new_bytes = writer.stored_bytes
        return copied

    # --- writing ---

    def _add(self, writer: PackWriter, pack: Worn, frames: _Frames, copied: Copied) -> None:
        for entry, data in frames.found:
            self._add_one(writer, pack, entry, data, copied)
        for record, reason in frames.lost.items():
            copied.bad.add((record, pack.id))
            elsewhere = self._from_elsewhere(record, pack.id)
            if elsewhere is None:
                log.warning("record %s of pack %s is not copied: %s", record.hex(), pack.id, reason)
                copied.unreadable[pack.id] = reason
            else:
                self._add_one(writer, pack, *elsewhere, copied)

    def _add_one(
        self, writer: PackWriter, pack: Worn, entry: Entry, data: bytes, copied: Copied
    ) -> None:
        writer.add(
            pack.head.kind,
            entry.id,
            data,
            length=entry.length,
            compressed=entry.compressed,
            hooks=entry.hooks,
        )
        copied.packs[pack.id] = copied.packs.get(pack.id, 0) + 1
        copied.copied_bytes += entry.stored

    # --- reading ---

    def _read_ahead(
        self, pool: ThreadPoolExecutor, packs: Sequence[Worn]
    ) -> Iterator[tuple[Worn, _Frames]]:
        """Read live records in order, some requests ahead."""
        under_way: deque[tuple[Worn, Future[_Frames]]] = deque()
        for pack, run in self._runs(packs):
            if len(under_way) >= self._ahead:
                first, job = under_way.popleft()
                yield first, job.result()
            under_way.append((pack, pool.submit(copy_context().run, self._read, run)))
        for first, job in under_way:
            yield first, job.result()

    def _runs(self, packs: Sequence[Worn]) -> Iterator[tuple[Worn, Run]]:
        for pack in packs:
            entries = self._parts.index.live_entries(pack.id)
            for run in plan_runs(Location(pack.head, entry) for entry in entries):
                yield pack, run

    def _read(self, run: Run) -> _Frames:
        stored = memoryview(bytearray(run.end - run.start))
        try:
            self._parts.store.read_into(run.pack.name, run.start, stored)
        except Damaged as error:
            return self._read_singly(run, error)
        except NotFound as error:
            return _Frames((), {entry.id: error.message for entry in run.entries})
        cipher = PackCipher(self._parts.ring, run.pack)
        found: list[tuple[Entry, bytes]] = []
        lost: dict[bytes, str] = {}
        for entry in run.entries:
            start = entry.offset - run.start
            try:
                found.append((entry, _frame(cipher, entry, stored[start : start + entry.stored])))
            except Damaged as error:
                lost[entry.id] = error.message
        return _Frames(tuple(found), lost)

    def _read_singly(self, run: Run, error: Damaged) -> _Frames:
        """Read from a pack that is cut; some of it may still be there."""
        found: list[tuple[Entry, bytes]] = []
        lost: dict[bytes, str] = {}
        for entry in run.entries:
            try:
                found.append((entry, self._read_one(Location(run.pack, entry))))
            except _UNREADABLE:
                lost[entry.id] = error.message
        return _Frames(tuple(found), lost)

    def _from_elsewhere(self, record: bytes, pack: str) -> tuple[Entry, bytes] | None:
        """Find a record in another pack."""
        for location in self._parts.index.locations(record):
            if location.pack.id == pack:
                continue
            try:
                return location.entry, self._read_one(location)
            except _UNREADABLE:
                continue
        return None

    def _read_one(self, location: Location) -> bytes:
        stored = memoryview(bytearray(location.entry.stored))
        self._parts.store.read_into(location.pack.name, location.entry.offset, stored)
        return _frame(PackCipher(self._parts.ring, location.pack), location.entry, stored)


def _frame(cipher: PackCipher, entry: Entry, stored: memoryview) -> bytes:
    """Decrypt a record, and leave it compressed."""
    data = bytearray(max(0, entry.stored - fmt.TAG_BYTES))
    cipher.decrypt_into(entry, stored, memoryview(data))
    return bytes(data)
