"""Whoever comes when: never two that exclude each other, and somebody gets on.

The order of all requests is chosen here: every call of a store, and every tenth of a second of
a pause, is a step that the schedule allows.  What is done between two steps touches nothing
that is shared.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import combinations
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense import clock
from sendense.errors import Busy
from sendense.repository.dedup import leases as leases_module
from sendense.repository.dedup.lease import Timing
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.lease_holder import Fate
from sendense.repository.dedup.lease_rules import conflicts
from sendense.repository.dedup.leases import Leases
from tests.support.memory_folder import memory_folder
from tests.unit.repository.dedup.clocked_store import ClockedStore
from tests.unit.repository.dedup.lease_stage import (
    DELETE,
    GC,
    OTHER_MACHINE,
    READ,
    RING,
    WRITE,
    wish,
)


class Schedule:
    """Lets one of several threads go on at a time, each to its next step."""

    def __init__(self, count: int) -> None:
        self._turns = [threading.Semaphore(0) for _ in range(count)]
        self._arrived = threading.Semaphore(0)
        self._running = set(range(count))
        self.free = False

    def step(self, actor: int) -> None:
        if not self.free:
            self._arrived.release()
            self._turns[actor].acquire()

    def run(self, works: Sequence[Callable[[], None]], order: Iterator[int]) -> None:
        """Run all works; ``order`` says who goes on, those that are done are passed over."""
        failures: list[BaseException] = []

        def act(actor: int, work: Callable[[], None]) -> None:
            try:
                self.step(actor)
                work()
            except BaseException as error:  # noqa: BLE001 - raised below
                failures.append(error)
            self._running.discard(actor)
            self._arrived.release()

        threads = [
            threading.Thread(target=act, args=pair, daemon=True) for pair in enumerate(works)
        ]
        for thread in threads:
            thread.start()
            assert self._arrived.acquire(timeout=90)
        for actor in order:
            if not self._running:
                break
            if actor in self._running:
                self._turns[actor].release()
                assert self._arrived.acquire(timeout=90)
        for thread in threads:
            thread.join(10)
        if failures:
            raise failures[0]


class Stepwise(ClockedStore):
    """One actor's way to a store that all share."""

    def __init__(self, shared: ClockedStore, step: Callable[[], None]) -> None:
        super().__init__()
        self._shared, self._step = shared, step

    def put(self, name, parts, *, create=False):
        self._step()
        self._shared.put(name, parts)

    def get(self, name):
        self._step()
        return self._shared.get(name)

    def info(self, name):
        self._step()
        return self._shared.info(name)

    def list(self, prefix):
        self._step()
        return iter(list(self._shared.list(prefix)))

    def delete(self, names):
        self._step()
        self._shared.delete(names)


@contextmanager
def on_hosts_of_their_own(seed: int) -> Iterator[None]:
    """Let no actor know of the others' processes, and chance be chosen."""
    chance = random.Random(seed)

    def new_id() -> str:
        return chance.randbytes(16).hex()

    with (
        mock.patch.object(leases_module, "fate_of", return_value=Fate.UNKNOWN),
        mock.patch.object(leases_module, "is_given_up", return_value=False),
        mock.patch.object(leases_module, "_new_id", side_effect=new_id),
        mock.patch.object(leases_module, "random", chance),
    ):
        yield


class Stage:
    """Actors with a store in common, and who holds what at this moment."""

    def __init__(self, count: int) -> None:
        self.store = ClockedStore()
        self.schedule = Schedule(count)
        self.inside: dict[int, Wish] = {}
        self.leases = [self._leases(actor) for actor in range(count)]
        self.got = [0] * count

    def _leases(self, actor: int) -> Leases:
        def step() -> None:
            self.schedule.step(actor)

        def pause(seconds: float) -> None:
            for _ in range(round(seconds * 10)):
                step()

        return Leases(Stepwise(self.store, step), RING, timing=Timing(pause=pause))

    def enter(self, actor: int, of: Wish):
        lease = self.leases[actor].acquire(of)
        self.inside[actor] = of
        self.got[actor] += 1
        for one, other in combinations(self.inside.values(), 2):
            assert conflicts(one, other) is None
        return lease

    def leave(self, actor: int, lease) -> None:
        del self.inside[actor]
        lease.release()


def fairly(count: int, rounds: Sequence[Sequence[int]]) -> Iterator[int]:
    """Give each one step in each round, in the order that the round has."""
    yield from itertools.chain.from_iterable(rounds)
    yield from itertools.cycle(range(count))


WISHES = [WRITE, DELETE, READ, GC, wish(LeaseKind.WRITE, OTHER_MACHINE), wish(LeaseKind.REPAIR)]


@settings(deadline=None, max_examples=150)
@given(
    wishes=st.lists(st.sampled_from(WISHES), min_size=2, max_size=3),
    steps=st.lists(st.integers(0, 2), max_size=150),
    seed=st.integers(0, 1 << 32),
)
def test_never_two_that_exclude_each_other(wishes, steps, seed):
    stage = Stage(len(wishes))

    def work(actor: int) -> None:
        for _ in range(2):
            try:
                lease = stage.enter(actor, wishes[actor])
            except Busy:
                continue
            stage.schedule.step(actor)
            stage.leave(actor, lease)

    works = [lambda actor=actor: work(actor) for actor in range(len(wishes))]
    order = itertools.chain(steps, itertools.cycle(range(len(wishes))))
    with on_hosts_of_their_own(seed):
        stage.schedule.run(works, (actor % len(wishes) for actor in order))
    assert stage.store.names() == []
    assert sum(stage.got) > 0


@settings(deadline=None, max_examples=150)
@given(
    rounds=st.integers(2, 3).flatmap(
        lambda count: st.lists(st.permutations(range(count)), min_size=1, max_size=60)
    ),
    seed=st.integers(0, 1 << 32),
)
def test_of_those_who_come_together_one_gets_it(rounds, seed):
    count = len(rounds[0])
    stage = Stage(count)
    held = []

    def work(actor: int) -> None:
        with suppress(Busy):
            held.append(stage.enter(actor, WRITE))

    works = [lambda actor=actor: work(actor) for actor in range(count)]
    with on_hosts_of_their_own(seed):
        stage.schedule.run(works, fairly(count, rounds))
    assert [lease.name for lease in held] == stage.store.names()
    assert len(held) == 1
    stage.schedule.free = True
    held[0].release()


def test_threads_take_turns():
    """As many as want it, each with a repository of its own: all get it in the end."""
    store, inside, most = ClockedStore(), [], []
    timing = Timing(pause=lambda seconds: clock.sleep(seconds / 200))

    def work() -> None:
        leases = Leases(store, RING, timing=timing)
        for _ in range(5):
            while True:
                try:
                    lease = leases.acquire(WRITE)
                    break
                except Busy:
                    clock.sleep(0.002 * random.random())
            inside.append(lease.id)
            most.append(len(inside))
            clock.sleep(0.001)
            inside.remove(lease.id)
            lease.release()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert most == [1] * 20
    assert store.names() == []


# --- processes

_RACER = """
import sys
from pathlib import Path
from sendense import clock
from sendense.errors import Busy
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease import Timing
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.leases import Leases
from sendense.storage.local import LocalStore

ring = KeyRing.from_bytes(bytes.fromhex(sys.argv[2]))
timing = Timing(pause=lambda seconds: clock.sleep(seconds / 50))
leases = Leases(LocalStore(Path(sys.argv[1])), ring, timing=timing)
wish = Wish(LeaseKind.WRITE, "a racer", "0" * 32)
print("ready", flush=True)
while sys.stdin.readline():
    try:
        lease = leases.acquire(wish)
    except Busy:
        print("busy", flush=True)
        sys.stdin.readline()
    else:
        print("got", flush=True)
        sys.stdin.readline()
        lease.release()
    print("done", flush=True)
"""


@pytest.fixture
def racers():
    with memory_folder() as folder:
        command = [sys.executable, "-c", _RACER, str(folder), RING.to_bytes().hex()]
        started = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
            for _ in range(2)
        ]
        try:
            yield folder, started
        finally:
            for racer in started:
                racer.kill()
                racer.communicate()


def test_two_processes_race(racers: tuple[Path, list[subprocess.Popen[str]]]):
    folder, started = racers

    def say(text: str) -> list[str]:
        for racer in started:
            assert racer.stdin is not None
            racer.stdin.write(text)
        return [racer.stdout.readline().strip() for racer in started if racer.stdout]

    assert say("") == ["ready", "ready"]
    outcomes = []
    for _ in range(50):
        outcomes.append(say("go\n"))
        assert say("end\n") == ["done", "done"]
    assert all(outcome.count("got") <= 1 for outcome in outcomes)
    assert sum(outcome.count("got") for outcome in outcomes) >= 40
    assert not list((folder / "leases").iterdir())
