"""What a store does wrong must neither give a lease to two nor leave one behind for long."""

from __future__ import annotations

import logging

import pytest

from sendense import log
from sendense.errors import Busy, NotFound, Unavailable
from sendense.repository.dedup.leases import LOOKS, Leases
from tests.unit.repository.dedup.clocked_store import ClockedStore
from tests.unit.repository.dedup.lease_stage import (
    GC,
    READ,
    RING,
    WRITE,
    Clockwork,
    await_renewal,
    eventually,
    somebody_elses,
)


class Faults:
    """Lets chosen calls fail, a number of times."""

    def __init__(self, call: str, times: int, error: BaseException | None = None) -> None:
        self.call, self.times = call, times
        self.error = error or Unavailable("no answer")

    def __call__(self, call: str, name: str) -> None:
        if call == self.call and self.times:
            self.times -= 1
            raise self.error


@pytest.fixture
def store():
    return ClockedStore()


@pytest.fixture
def clockwork():
    return Clockwork()


@pytest.fixture
def leases(store, clockwork):
    return Leases(store, RING, timing=clockwork.timing(retry_s=0.01))


FOR_EVER = 1 << 30


@pytest.mark.parametrize("error", [Unavailable("no answer"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("call", ["put", "list", "get"])
def test_a_fault_on_the_way_in_leaves_nothing(leases, store, call, error):
    other = somebody_elses(store, READ)
    store.before = Faults(call, 1, error)
    with pytest.raises(type(error)):
        leases.acquire(WRITE)
    eventually(lambda: store.names() == [f"leases/{other}"])
    leases.acquire(WRITE).release()


def test_a_lost_answer_leaves_nothing(leases, store):
    store.after = Faults("put", 1)
    with pytest.raises(Unavailable):
        leases.acquire(WRITE)
    assert store.names() == []


def test_a_write_that_takes_effect_late_is_removed(leases, store):
    """A request that hung in a proxy: it is done after the lease was given up and removed."""
    hung = []

    def hang(call, name):
        if call == "put":
            hung.append(name)
            raise Unavailable("no answer")

    def done_at_last(call, name):
        if call == "delete" and hung:
            store.write(hung.pop(), b"late")

    store.before, store.after = hang, done_at_last
    with pytest.raises(Unavailable):
        leases.acquire(WRITE)
    assert len(store.names()) == 1
    eventually(lambda: leases._rounds._thread is None)
    assert store.names() == []


def test_a_write_that_takes_effect_even_later_is_removed(leases, store):
    hung, removals = [], []

    def hang(call, name):
        if call == "put":
            hung.append(name)
            raise Unavailable("no answer")

    def done_at_last(call, name):
        removals.append(name)
        if len(removals) == 2:
            store.write(hung.pop(), b"late")

    store.before, store.after = hang, done_at_last
    with pytest.raises(Unavailable):
        leases.acquire(WRITE)
    eventually(lambda: leases._rounds._thread is None)
    assert (len(removals), store.names()) == (3, [])


def test_a_renewal_that_takes_effect_late(store, clockwork):
    leases = Leases(store, RING, timing=clockwork.timing(retry_s=60))
    lease = leases.acquire(WRITE)
    content = store.objects[lease.name]
    store.before = Faults("put", 1)
    assert not lease.keep()
    lease.release()
    store.objects[lease.name] = content
    leases.acquire(WRITE).release()
    assert store.names() == []


def test_a_write_that_is_done_twice(leases, store):
    def repeat(call, name):
        if call == "put":
            store.write(name, store.objects[name][0])

    store.after = repeat
    with leases.acquire(WRITE), pytest.raises(Busy):
        leases.acquire(WRITE)
    assert store.names() == []


@pytest.mark.parametrize("times", [1, 5])
def test_what_cannot_be_removed_is_removed_later(leases, store, times, caplog):
    with leases.acquire(WRITE):
        store.before = Faults("delete", times)
    assert "not removed yet" in caplog.text
    eventually(lambda: store.names() == [])
    eventually(lambda: leases._rounds._thread is None)


def test_what_cannot_be_removed_does_not_keep_its_own_process(leases, store, clockwork):
    store.before = Faults("delete", FOR_EVER)
    leases.acquire(WRITE).release()
    elsewhere = Leases(store, RING, timing=clockwork.timing(retry_s=0.01))
    for again in (leases, elsewhere):
        with again.acquire(WRITE) as lease:
            assert [found.id for found in again.active()] == [lease.id]
    store.before = lambda call, name: None
    eventually(lambda: store.names() == [])


def test_a_signal_in_the_middle_of_giving_up(leases, store):
    lease = leases.acquire(WRITE)
    store.before = Faults("delete", 1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        lease.release()
    assert store.names() == []


# --- listings that lag


class Lagging(ClockedStore):
    """Gives the names of an earlier moment for a number of listings."""

    def __init__(self) -> None:
        super().__init__()
        self.lag = 0
        self.old: list[str] = []
        self.gone: dict[str, object] = {}

    def stand_still(self, listings: int) -> None:
        self.old, self.lag = [*self.names("")], listings
        self.gone = {name: self._info(name) for name in self.old}

    def list(self, prefix):
        if self.lag == 0:
            yield from super().list(prefix)
            return
        self.lag -= 1
        yield from [self.gone[name] for name in self.old if name.startswith(prefix)]


@pytest.fixture
def lagging():
    return Lagging()


def test_a_listing_that_does_not_show_ones_own_lease_is_not_believed(lagging, clockwork):
    leases = Leases(lagging, RING, timing=clockwork.timing())
    lagging.stand_still(LOOKS)
    with pytest.raises(Unavailable, match="does not list"):
        leases.acquire(WRITE)
    assert lagging.names() == []
    lagging.stand_still(LOOKS - 1)
    with leases.acquire(WRITE) as lease:
        assert lagging.names() == [lease.name]


def test_a_rival_is_found_when_the_listing_has_caught_up(lagging, clockwork):
    leases = Leases(lagging, RING, timing=clockwork.timing())
    lagging.stand_still(2)
    somebody_elses(lagging, WRITE)
    with pytest.raises(Busy):
        leases.acquire(WRITE)


@pytest.mark.parametrize("known", [True, False])
def test_nobody_is_refused_for_what_is_listed_but_gone(store, clockwork, known):
    leases = Leases(store, RING, timing=clockwork.timing())
    other = somebody_elses(store, WRITE)
    if known:
        leases.active()
    name = f"leases/{other}"
    content = store.objects[name]

    def vanish(call, asked):
        if asked == name:
            raise NotFound("it is gone")

    store.before = vanish
    leases.acquire(WRITE).release()
    assert store.objects[name] == content


# --- renewal


def test_a_renewal_that_fails_is_told_once_and_tried_again(leases, store, caplog):
    caplog.set_level(logging.INFO, "sendense")
    with leases.acquire(WRITE) as lease:
        store.before = Faults("put", 3)
        assert [lease.keep() for _ in range(5)] == [False, False, False, True, True]
        lease.check()
    assert caplog.text.count("is not renewed") == 1
    assert caplog.text.count("renewed again") == 1


def test_check_says_why_it_was_not_renewed(leases, store, clockwork):
    with leases.acquire(WRITE) as lease:
        store.before = Faults("info", FOR_EVER, Unavailable("the bucket is on fire"))
        assert not lease.keep()
        lease.check()
        clockwork.seconds += 3601
        with pytest.raises(Unavailable, match="on fire"):
            lease.check()


def test_the_thread_tries_again_soon(store, clockwork):
    timing = clockwork.timing(renewal_s=0.05, retry_s=0.01)
    leases = Leases(store, RING, timing=timing)
    with leases.acquire(WRITE) as lease:
        store.before = faults = Faults("info", 5)
        await_renewal(store, lease)
        assert faults.times == 0


def test_one_lease_that_is_removed_does_not_keep_the_others_from_renewal(store, clockwork, caplog):
    leases = Leases(store, RING, timing=clockwork.timing(renewal_s=0.01))
    with leases.acquire(WRITE) as removed, leases.acquire(READ) as kept:
        del store.objects[removed.name]
        for _ in range(3):
            await_renewal(store, kept)
    assert caplog.text.count("removed by somebody else") == 1


def test_a_bug_in_a_round_does_not_end_renewal(store, clockwork, caplog):
    timing = clockwork.timing(renewal_s=0.01, retry_s=0.01)
    leases = Leases(store, RING, timing=timing)
    with leases.acquire(GC) as lease:
        store.before = Faults("info", 1, ZeroDivisionError())
        before = store.objects[lease.name][1]
        eventually(lambda: store.objects[lease.name][1] > before)
    assert "ZeroDivisionError" in caplog.text


def test_the_thread_logs_as_the_run_that_took_the_lease(store, clockwork):
    runs = []

    class Listener(logging.Handler):
        def emit(self, record):
            runs.append(log._RUN.get())

    listener, logger = Listener(), logging.getLogger("sendense.repository.dedup.lease")
    logger.addHandler(listener)
    try:
        leases = Leases(store, RING, timing=clockwork.timing(renewal_s=0.01, retry_s=0.01))
        with log.context("backup one"):
            first = leases.acquire(WRITE)
        with log.context("restore two"):
            second = leases.acquire(READ)
        store.before = Faults("put", FOR_EVER)
        eventually(lambda: len(runs) >= 2)
        store.before = lambda call, name: None
        first.release()
        second.release()
    finally:
        logger.removeHandler(listener)
    assert set(runs[:2]) == {"backup one", "restore two"}
