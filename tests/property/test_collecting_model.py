"""Random histories with collections of garbage, held against a dictionary of contents.

Writers, readers and the collector are repository objects of their own over one store, as if
they were processes.  The store's clock and theirs go together.  Things also happen between any
two calls of a collection to the store, and a collection breaks off at any of them.

Ids are random and threads take turns as they like, so no rule may depend on what a former one
came to: it does nothing where there is nothing to do.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from datetime import timedelta
from random import Random
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sendense.errors import Busy, Unavailable
from sendense.model.decision import Method
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.collecting import plan
from sendense.repository.dedup.collecting.plan import CollectOptions
from sendense.repository.dedup.collecting.running import CollectResult, collect, plan_collection
from sendense.repository.dedup.lease import _NOT_GIVEN_UP, Timing
from sendense.repository.dedup.leases import Leases
from sendense.repository.dedup.local_index import LocalIndex
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import PointReader
from tests.support.collecting import quick_repository
from tests.support.points import (
    BLOCK,
    Write,
    content_of,
    data,
    disk,
    draft,
    machine,
    noise,
    restored,
    spec_for,
)
from tests.support.timed_store import TimedStore, nothing

UUIDS = [f"6f2d3f4e-0000-4000-8000-00000000000{number}" for number in (1, 2)]
WINDOWS = 10
POOL = [bytes(4 * BLOCK)] + [noise(4 * BLOCK, seed) for seed in range(12)]
"""Beginnings of windows."""
VDA = disk()


class Writer:
    """A backup under way, in a process of its own."""

    def __init__(self, world: Histories, uuid: str, name: str, seed: int, method: Method) -> None:
        self.repository = world.process()
        self.uuid, self.name = uuid, name
        random = Random(seed)
        latest = max(
            (point for point in self.repository.points(uuid)),
            key=lambda point: point.sequence,
            default=None,
        )
        size = WINDOWS * fmt.WINDOW_BYTES
        self.content = bytearray(world.contents[latest.id] if latest else bytes(size))
        method = method if latest else Method.EVERYTHING
        few = random.sample(range(WINDOWS), random.choice((1, 3)))
        changed = [self._change(window, random) for window in (few if latest else range(WINDOWS))]
        if method is not Method.BITMAP:
            changed = [(place, BLOCK) for place in range(0, size, BLOCK)]
        chunks = tuple(
            data(offset, bytes(self.content[offset : offset + length]))
            for offset, length in sorted(changed)
        )
        write = Write(VDA, size, chunks, method)
        self.owner = machine(uuid, VDA)
        self.writer = self.repository.begin(self.owner, name)
        self.writer.__enter__()
        disk_writer = self.writer.disk(spec_for(self.repository, write, uuid))
        for chunk in chunks:
            assert chunk.data is not None
            disk_writer.write(chunk.offset, chunk.data)
        disk_writer.finish(read_bytes=0, sampled_blocks=0, seconds=0)

    def _change(self, window: int, random: Random) -> tuple[int, int]:
        """Change a window, or a block of it; what comes has often been there before."""
        offset = window * fmt.WINDOW_BYTES
        new = random.choice(POOL)
        if random.random() < 0.3:
            offset += BLOCK
            new = new[:BLOCK]
        self.content[offset : offset + len(new)] = new
        return offset, len(new)

    def commit(self, world: Histories) -> None:
        try:
            self.writer.commit(draft(self.owner))
            world.contents[self.name] = bytes(self.content)
        except (Busy, Unavailable):
            assert world.suspended, "it lost its lease without a reason"
        finally:
            self.end()

    def end(self) -> None:
        self.writer.__exit__(None, None, None)

    def die(self) -> None:
        """Leave the lease behind; nobody renews it, and its process is gone."""
        lease = self.writer._lease  # type: ignore[attr-defined]
        leases = self.repository.parts.leases
        with mock.patch.object(lease, "release"):
            self.end()
        leases._own.pop(lease.id)
        leases._held.pop(lease.id)
        _NOT_GIVEN_UP.discard(lease.id)


class Histories(RuleBasedStateMachine):
    """A repository, and what its points must hold."""

    @initialize(
        pack_bytes=st.sampled_from([600 << 10, 600 << 10, 32 << 20]),
        small=st.sampled_from([0, 1 << 20]),
        under_way=st.sampled_from([0, 0, 24]),
        backups=st.lists(st.tuples(st.sampled_from(UUIDS), st.integers(0, 1000)), max_size=4),
    )
    def begin(self, pack_bytes, small, under_way, backups):
        self.patches = [
            mock.patch.object(fmt, "PACK_BYTES", pack_bytes),
            mock.patch.object(plan, "SMALL", small),
            mock.patch.object(plan, "UNDER_WAY", timedelta(hours=under_way)),
        ]
        for patch in self.patches:
            patch.start()
        logging.getLogger("sendense").setLevel(logging.CRITICAL)
        self.store = TimedStore()
        self.seconds = 1000.0
        self.first = quick_repository(self.store)
        self.opened = [self.first]
        self.collector = self.process()
        self.contents: dict[str, bytes] = {}
        self.writers: dict[str, Writer] = {}
        self.readers: list[tuple[PointReader, bytes]] = []
        self.suspended = False
        self.count = 0
        for uuid, seed in backups:
            self.back_up(uuid, seed, Method.BITMAP)

    def process(self) -> DedupRepository:
        """Open the repository as another process does."""
        of = self.first.parts
        timing = Timing(boottime=lambda: self.seconds, pause=lambda _: None)
        leases = Leases(self.store, of.ring, timing=timing)
        made = DedupRepository(
            Parts(self.store, of.ring, LocalIndex(), leases, None), self.first.header
        )
        self.opened.append(made)
        return made

    def teardown(self):
        if not hasattr(self, "store"):
            return
        try:
            self.end_everything()
        finally:
            for repository in self.opened:
                repository.close()
            logging.getLogger("sendense").setLevel(logging.NOTSET)
            for patch in self.patches:
                patch.stop()

    def end_everything(self):
        """Nothing is left over, whatever has happened."""
        self.store.before = self.store.after = nothing
        for reader, _ in self.readers:
            reader.__exit__(None, None, None)
        for writer in self.writers.values():
            writer.end()
        self.store.pass_time(hours=3)
        self.first.delete(list(self.contents))
        for _ in range(2):
            collect(self.collector, CollectOptions(grace=timedelta(0)))
        left = [name for name in self.store.names() if not name.startswith(fmt.SEQUENCES)]
        assert left == [fmt.HEADER]

    # --- backups ---

    def _begin(self, uuid: str, seed: int, method: Method) -> None:
        self.count += 1
        self.writers[uuid] = Writer(self, uuid, f"p{self.count}", seed, method)

    @rule(uuid=st.sampled_from(UUIDS), seed=st.integers(0, 1000), method=st.sampled_from(Method))
    def begin_backup(self, uuid, seed, method):
        if uuid not in self.writers and len(self.contents) < 6:
            self._begin(uuid, seed, method)

    @rule(uuid=st.sampled_from(UUIDS))
    def commit(self, uuid):
        if uuid in self.writers:
            self.writers.pop(uuid).commit(self)

    @rule(uuid=st.sampled_from(UUIDS), method=st.sampled_from(Method), seed=st.integers(0, 1000))
    def back_up(self, uuid, seed, method):
        self.begin_backup(uuid, seed, method)
        self.commit(uuid)

    @rule(uuid=st.sampled_from(UUIDS), killed=st.booleans())
    def give_up(self, uuid, killed):
        if uuid in self.writers:
            writer = self.writers.pop(uuid)
            writer.die() if killed else writer.end()

    # --- the rest of the world ---

    @rule(choice=st.integers(0, 5))
    def delete(self, choice):
        if not self.contents:
            return
        point = sorted(self.contents)[choice % len(self.contents)]
        try:
            self.first.delete([point])
        except Busy:
            return  # it is read, or its machine is backed up
        del self.contents[point]

    @rule(choice=st.integers(0, 5))
    def open_reader(self, choice):
        if not self.contents or len(self.readers) == 2:
            return
        point = sorted(self.contents)[choice % len(self.contents)]
        self.readers.append((self.process().open(point), self.contents[point]))

    @rule()
    def close_reader(self):
        if not self.readers:
            return
        reader, content = self.readers.pop()
        assert content_of(reader.disk(VDA.identity)) == content
        reader.__exit__(None, None, None)

    @rule(minutes=st.sampled_from([1, 50, 200]), suspended=st.booleans())
    def pass_time(self, minutes, suspended):
        """Time passes, for all alike; who is suspended does not renew his lease."""
        self.suspended |= suspended
        for _ in range(0, minutes, 25):
            self.store.pass_time(minutes=25)
            self.seconds += 25 * 60
            if not suspended:
                for repository in self.opened:
                    for lease in list(repository.parts.leases._held.values()):
                        lease.keep()

    @rule()
    def reopen(self):
        self.collector = self.process()

    # --- collections ---

    def collect(self, hours: int, ratio: float = 0.7) -> CollectResult:
        options = CollectOptions(live_ratio=ratio, grace=timedelta(hours=hours))
        return collect(self.collector, options)

    @rule(hours=st.sampled_from([0, 0, 1]), ratio=st.sampled_from([0.7, 1.0]))
    def collect_garbage(self, hours, ratio):
        self.collect(hours, ratio)

    @rule(hours=st.sampled_from([0, 1]))
    def collect_until_nothing_changes(self, hours):
        plan_collection(self.collector, CollectOptions(grace=timedelta(hours=hours)))
        self.collect(hours)

    @rule(call=st.integers(0, 120), hours=st.sampled_from([0, 0, 1]), done=st.booleans())
    def collect_and_break_off(self, call, hours, done):
        """The store fails at a call, and from then on: the process is dead."""
        left = [call]

        def fail(verb: str, name: str) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Unavailable("the process is dead")

        if done:
            self.store.after = fail
        else:
            self.store.before = fail
        held = set(self.collector.parts.leases._own)
        try:
            self.collect(hours)
        except Unavailable:
            pass
        finally:
            self.store.before = self.store.after = nothing
            assert set(self.collector.parts.leases._own) == held
            self.collector = self.process()

    @rule(
        hours=st.sampled_from([0, 0, 1]),
        what=st.dictionaries(
            st.integers(0, 80),
            st.sampled_from(["back_up", "begin", "commit", "delete"]),
            min_size=1,
            max_size=4,
        ),
        uuid=st.sampled_from(UUIDS),
        seed=st.integers(0, 1000),
        method=st.sampled_from(Method),
    )
    def collect_while_something_happens(self, hours, what, uuid, seed, method):
        """Others do something between two calls of the collection."""
        acts: dict[str, Callable[[], None]] = {
            "back_up": lambda: self.back_up(uuid, seed, method),
            "begin": lambda: self.begin_backup(uuid, seed, method),
            "commit": lambda: self.commit(uuid),
            "delete": lambda: self.delete(seed),
        }
        calls = itertools.count()
        acting: list[str] = []

        def act(verb: str, name: str) -> None:
            if not acting and (thing := what.get(next(calls))) is not None:
                acting.append(thing)
                acts[thing]()
                acting.clear()

        self.store.before = act
        try:
            self.collect(hours)
        finally:
            self.store.before = nothing

    # --- what is always true ---

    @invariant()
    def every_point_is_whole(self):
        if not hasattr(self, "store"):
            return
        assert {point.id for point in self.first.points()} == set(self.contents)
        for point, content in self.contents.items():
            assert restored(self.first, point) == content


Histories.TestCase.settings = settings(
    deadline=None, max_examples=30, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
TestHistories = pytest.mark.slow(Histories.TestCase)
