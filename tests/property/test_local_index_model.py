"""Random histories of the local index, held against dictionaries.

Two processes' views of one file are two objects here.  One of them also has packs of its own,
state, and marks; the other only brings the file up to date.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sendense.errors import Busy
from sendense.repository.dedup.entries import Location, PackRecord
from sendense.repository.dedup.local_index import LocalIndex
from tests.support.dedup_records import meta_pack, number_id, pack

IDS = [number_id(number) for number in range(40)]
NODES = [number_id(1000 + number) for number in range(8)]
HOOKS = [(number << 50) + number for number in range(6)]
PACKS = [
    pack(number, [IDS[(number * 7 + step * (number % 3 + 1)) % 40] for step in range(number % 19)])
    for number in range(12)
] + [
    meta_pack(100 + number, {NODES[number]: tuple(HOOKS[number % 3 : number % 5 + 1])})
    for number in range(8)
]
ALL = [*IDS, *NODES]

numbers = st.integers(0, len(PACKS) - 1)
some_packs = st.lists(numbers, unique=True, max_size=4)
objects = st.integers(0, 9).map("index/{}".format)
some_ids = st.lists(st.sampled_from(ALL), max_size=20)


class Histories(RuleBasedStateMachine):
    """The index, and what it must say."""

    @initialize(on_disk=st.booleans())
    def begin(self, on_disk):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "index" if on_disk else None
        self.index = LocalIndex(self.path)
        self.files: dict[str, list[int]] = {}
        self.own: set[int] = set()
        self.condemned: set[int] = set()
        self.bad: set[int] = set()
        self.damaged: set[tuple[bytes, int]] = set()
        self.marking = False
        self.marked: set[bytes] = set()
        self.disturbed = False

    def teardown(self):
        if hasattr(self, "index"):
            self.index.close()
            self.folder.cleanup()

    # --- the model ---

    def known(self) -> list[PackRecord]:
        return [PACKS[number] for number in sorted(self._in_file() | self.own)]

    def places(self, record: bytes) -> list[Location]:
        return [
            Location(of.head, entry)
            for of in self.known()
            for entry in of.entries
            if entry.id == record
        ]

    def quality(self, place: Location) -> int:
        number = next(n for n, item in enumerate(PACKS) if item.head == place.pack)
        if number in self.bad or (place.entry.id, number) in self.damaged:
            return 0
        return 1 if number in self.condemned else 2

    def best(self, record: bytes) -> int:
        return max((self.quality(place) for place in self.places(record)), default=-1)

    # --- what happens ---

    @rule(name=objects, packs=some_packs)
    def add(self, name, packs):
        self.index.apply([(name, [PACKS[number] for number in packs])], [])
        self._enter(name, packs)

    def _enter(self, name, packs):
        self.files.setdefault(name, packs)
        # What was given was a pack's directory also where the object was known already.
        self.own -= self._in_file() & set(packs)

    def _in_file(self) -> set[int]:
        return {number for packs in self.files.values() for number in packs}

    @rule(names=st.lists(objects, max_size=3), name=objects, packs=some_packs)
    def replace(self, names, name, packs):
        self.index.apply([(name, [PACKS[number] for number in packs])], names)
        self._enter(name, packs)
        for gone in names:
            self.files.pop(gone, None)

    @rule(number=numbers)
    def add_own(self, number):
        self.index.add_own(PACKS[number])
        if number not in self._in_file():
            self.own.add(number)

    @rule(packs=some_packs)
    def condemn(self, packs):
        self.condemned = set(packs)
        self.index.set_condemned(frozenset(PACKS[number].head.id for number in packs))

    @rule(packs=some_packs)
    def say_bad(self, packs):
        self.bad = set(packs)
        self.index.set_bad_packs(frozenset(PACKS[number].head.id for number in packs))

    @rule(records=st.lists(st.tuples(st.sampled_from(ALL), numbers), max_size=10))
    def say_damaged(self, records):
        self.damaged = set(records)
        told = {(record, PACKS[number].head.id) for record, number in records}
        self.index.set_damaged(frozenset(told))

    @rule()
    @precondition(lambda self: self.path is not None and not self.own)
    def open_again(self):
        self.index.close()
        self.index = LocalIndex(self.path)
        self.condemned, self.bad, self.damaged, self.marking = set(), set(), set(), False

    @rule(name=objects, packs=some_packs, gone=objects)
    @precondition(lambda self: self.path is not None)
    def another_process(self, name, packs, gone):
        packs = [number for number in packs if number not in self.own]
        live = self.live_packs() if self.marking else set()
        with LocalIndex(self.path) as other:
            assert other.names() == frozenset(self.files)
            other.apply([(name, [PACKS[number] for number in packs])], [gone])
        self.files.setdefault(name, packs)
        before = self._in_file()
        self.files.pop(gone, None)
        self.disturbed |= bool(live & (before - self._in_file()))

    @rule()
    def begin_marking(self):
        self.index.begin_marking()
        self.marking, self.marked, self.disturbed = True, set(), False

    @rule(ids=some_ids)
    @precondition(lambda self: self.marking)
    def mark(self, ids):
        before = set(self.marked)
        new = self.index.mark(ids)
        self.marked |= set(ids)
        assert len(new) == len(set(new))
        # What is new is given; what was marked may be given again, when its best place is another.
        assert set(ids) - before <= set(new) <= set(ids)

    @rule()
    @precondition(lambda self: self.marking)
    def end_marking(self):
        self.index.end_marking()
        self.marking = False

    def live_packs(self) -> set[int]:
        """The packs that hold marked records."""
        live = {of for of, _, _ in self.index.live_by_pack()}
        return {number for number, item in enumerate(PACKS) if item.head.id in live}

    # --- what is always true ---

    @invariant()
    def says_what_the_model_says(self):
        if not hasattr(self, "index"):
            return
        assert self.index.names() == frozenset(self.files)
        assert self.index.stored(ALL) == {record for record in ALL if self.best(record) == 2}
        found = self.index.find(ALL)
        for record in ALL:
            places = self.places(record)
            given = self.index.locations(record)
            assert len(given) == len(places)
            assert all(place in places for place in given)
            qualities = [self.quality(place) for place in given]
            assert qualities == sorted(qualities, reverse=True)
            assert found.get(record) == (given[0] if given else None)

    @invariant()
    def has_the_packs(self):
        if not hasattr(self, "index"):
            return
        known = self.known()
        summaries = {item.head: item for item in self.index.packs()}
        assert set(summaries) == {item.head for item in known}
        for item in PACKS:
            entries = self.index.entries_of(item.head.id)
            assert entries == (list(item.entries) if item in known else [])
        assert self.index.totals().stored_bytes == sum(item.size for item in known)

    @invariant()
    def finds_similar_leaves(self):
        if not hasattr(self, "index"):
            return
        for wanted in ([HOOKS[0]], HOOKS[1:4], HOOKS, [12345]):
            shares = {
                entry.id: len(set(wanted) & set(entry.hooks))
                for of in self.known()
                for entry in of.entries
                if self.quality(Location(of.head, entry)) == 2
            }
            most = max(shares.values(), default=0)
            leaf = self.index.similar_leaf(wanted)
            assert (leaf is None) == (most == 0)
            assert leaf is None or shares[leaf] == most

    @invariant()
    def keeps_the_marks(self):
        if not getattr(self, "marking", False):
            return
        try:
            live = {of: (stored, count) for of, stored, count in self.index.live_by_pack()}
        except Busy:
            assert self.disturbed
            self.marking = False
            return
        assert not self.disturbed
        given = set()
        for of in self.known():
            entries = self.index.live_entries(of.head.id)
            assert set(entries) <= set(of.entries)
            sums = (sum(entry.stored for entry in entries), len(entries))
            assert live.pop(of.head.id, (0, 0)) == sums
            given |= {entry.id for entry in entries}
        assert not live
        # All that was marked and is there is live somewhere; what was nowhere may be there since.
        here = {record for record in self.marked if self.places(record)}
        assert given <= self.marked
        assert here - given <= set(self.index.strays())


Histories.TestCase.settings = settings(
    deadline=None, max_examples=40, stateful_step_count=20, suppress_health_check=list(HealthCheck)
)
TestHistories = Histories.TestCase
