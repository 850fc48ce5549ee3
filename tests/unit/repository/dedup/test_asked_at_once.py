"""What a repository asks a store at once: each of these would otherwise wait for the one before."""

from __future__ import annotations

import threading

import pytest

from sendense.units import MIB
from tests.support.dedup import dedup_repository, reopened
from tests.support.points import MACHINE_UUID, Write, data, disk, machine, noise, store
from tests.support.timed_store import TimedStore

PATIENCE_S = 20.0
LISTED = ("list", "condemned"), ("list", "damage"), ("list", "points")
VDA = disk("vda")


class Meeting:
    """Lets a call go on when all that are waited for were made; none is waited for twice."""

    def __init__(self, *expected: tuple[str, str]) -> None:
        self._expected = set(expected)
        self._met = threading.Barrier(len(expected))
        self._lock = threading.Lock()

    def __call__(self, verb: str, name: str) -> None:
        call = verb, name.partition("/")[0]
        with self._lock:
            waits = call in self._expected
            self._expected.discard(call)
        if waits:
            self._met.wait(PATIENCE_S)

    @property
    def held(self) -> bool:
        """Tell whether all of them came, at once."""
        return not self._expected and not self._met.broken


@pytest.fixture
def objects():
    return TimedStore()


@pytest.fixture
def repository(objects):
    made = dedup_repository(objects)
    yield made
    made.close()


def back_up(repository, point):
    content = noise(MIB)
    store(repository, point, Write(VDA, MIB, (data(0, content),)))


def test_opening_a_point(repository, objects):
    back_up(repository, "p1")
    objects.before = meeting = Meeting(*LISTED)
    with repository.open("p1"):
        assert meeting.held


def test_looking_at_a_point(repository, objects):
    back_up(repository, "p1")
    objects.before = meeting = Meeting(("list", "damage"), ("list", "points"))
    assert repository.point("p1").id == "p1"
    assert meeting.held


def test_beginning_a_point(repository, objects):
    back_up(repository, "p1")
    objects.before = meeting = Meeting(*LISTED)
    with repository.begin(machine(MACHINE_UUID, VDA), "p2"):
        assert meeting.held


def test_points_are_read_several_at_once(repository, objects):
    for number in range(4):
        back_up(repository, f"p{number}")
    fresh = reopened(objects, repository)
    both = threading.Barrier(2)

    def meet(verb, name):
        if verb == "get" and name.startswith("points/"):
            both.wait(PATIENCE_S)

    objects.before = meet
    assert [point.id for point in fresh.points()] == ["p0", "p1", "p2", "p3"]
    fresh.close()
