"""Leases are taken, seen, kept, and end; dead ones keep nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from sendense import clock
from sendense.errors import Busy, NotAllowed, NotFound, Unavailable
from sendense.model.secret import Secret
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.leases import Leases
from sendense.storage.local import LocalStore
from tests.unit.repository.dedup.clocked_store import ClockedStore
from tests.unit.repository.dedup.lease_stage import (
    DELETE,
    GC,
    OTHER_MACHINE,
    READ,
    RING,
    WRITE,
    Clockwork,
    await_renewal,
    eventually,
    here,
    somebody_elses,
    wish,
)


@pytest.fixture
def store():
    return ClockedStore()


@pytest.fixture
def clockwork():
    return Clockwork()


@pytest.fixture
def leases(store, clockwork):
    return Leases(store, RING, timing=clockwork.timing())


@pytest.fixture
def elsewhere(store, clockwork):
    """Give what another user of the same repository has."""
    return Leases(store, RING, timing=clockwork.timing())


# --- taking and giving up


def test_it_is_there_until_it_is_given_up(leases, store):
    with leases.acquire(WRITE) as lease:
        assert store.names() == [lease.name] == [f"leases/{lease.id}"]
        assert lease.still_there()
        lease.check()
        assert [found.id for found in leases.active()] == [lease.id]
    assert store.names() == []
    lease.release()


def test_nobody_learns_from_the_store_who_it_is(leases, store):
    with leases.acquire(Wish(LeaseKind.READ, "a reader of point p1", points=frozenset({"p1"}))):
        ((data, _),) = store.objects.values()
        assert b"reader" not in data


def test_it_says_who_holds_it(leases, elsewhere):
    with leases.acquire(DELETE) as lease:
        (found,) = elsewhere.active()
        assert found.id == lease.id
        assert found.claim is not None
        assert found.claim.wish == DELETE
        assert found.claim.holder == here()
        assert found.claim.taken_at.endswith("Z")


@pytest.mark.parametrize("same", [True, False])
def test_whoever_comes_second_is_refused(leases, elsewhere, store, same):
    second = leases if same else elsewhere
    with leases.acquire(WRITE) as lease:
        with pytest.raises(Busy, match=rf"a write test \(.*process {os.getpid()}, since 20") as got:
            second.acquire(WRITE)
        assert got.value.data["lease"] == lease.id
        assert got.value.retryable
        assert got.value.hint
        assert store.names() == [lease.name]
        second.acquire(wish(LeaseKind.WRITE, OTHER_MACHINE)).release()
        second.acquire(READ).release()
    second.acquire(WRITE).release()


def test_a_reader_of_this_process_keeps_its_deletion(leases):
    with leases.acquire(WRITE), leases.acquire(READ), pytest.raises(Busy, match="read"):
        leases.acquire(wish(LeaseKind.DELETE, OTHER_MACHINE))


def test_who_holds_it_for_certain_is_not_waited_for(leases, elsewhere, clockwork):
    with leases.acquire(WRITE) as lease:
        with pytest.raises(Busy):
            leases.acquire(WRITE)
        assert clockwork.pauses == []
        lease.note_seen([])
        with pytest.raises(Busy):
            elsewhere.acquire(WRITE)
        assert clockwork.pauses == []


def test_who_held_it_before_is_not_waited_for(leases, store, clockwork):
    somebody_elses(store, WRITE, settled=False)
    store.pass_time(minutes=1)
    with pytest.raises(Busy):
        leases.acquire(WRITE)
    assert clockwork.pauses == []


def test_who_may_have_come_together_is_waited_for(leases, store, clockwork):
    other = somebody_elses(store, WRITE, settled=False)
    clockwork.on_pause = lambda: store.objects.pop(f"leases/{other}", None)
    leases.acquire(WRITE).release()
    assert clockwork.pauses


def test_what_is_not_a_lease_is_left_alone(leases, store):
    for name in ("leases/x", "leases/" + "A" * 32, "leases/a/" + "a" * 32, "points/p"):
        store.write(name, b"somebody's")
    with leases.acquire(GC):
        assert len(leases.active()) == 1
    assert len(store.objects) == 4


def test_how_much_is_asked_of_the_store(leases, store):
    for point in ("p7", "p8", "p9"):
        somebody_elses(store, wish(LeaseKind.READ, points=(point,)))
    with leases.acquire(READ):
        assert store.calls == {"put": 1, "list": 1, "get": 3}
    assert store.calls == {"put": 1, "list": 1, "get": 3, "delete": 1}
    store.calls.clear()
    leases.acquire(READ).release()
    assert store.calls == {"put": 1, "list": 1, "delete": 1}


def test_what_is_gone_from_the_store_is_not_kept_in_mind(leases, store):
    for _ in range(10):
        other = somebody_elses(store, READ)
        leases.acquire(READ).release()
        del store.objects[f"leases/{other}"]
    leases.acquire(READ).release()
    assert leases._read == {}


def test_what_was_renewed_is_read_again(leases, elsewhere):
    with leases.acquire(READ) as lease:
        (before,) = elsewhere.active()
        lease.note_seen(["c1"])
        (after,) = elsewhere.active()
    assert (before.seen, after.seen) == (frozenset(), {"c1"})
    assert after.modified > before.modified


# --- dead ones


@pytest.mark.parametrize("days", [-1, 0, 1])
@pytest.mark.parametrize(("minutes", "refused"), [(0, True), (119, True), (121, False)])
def test_expiry_is_by_the_clock_of_the_store(leases, store, monkeypatch, days, minutes, refused):
    now = clock.now() + timedelta(days=days)
    monkeypatch.setattr(clock, "now", lambda: now)
    other = somebody_elses(store, WRITE)
    store.pass_time(minutes=minutes)
    if refused:
        with pytest.raises(Busy):
            leases.acquire(WRITE)
        assert [found.id for found in leases.active()] == [other]
    else:
        assert leases.active() == ()
        leases.acquire(WRITE).release()
    assert store.names() == ([f"leases/{other}"] if refused else [])


def test_a_dead_one_is_removed_by_whoever_passes_it_over(leases, store):
    somebody_elses(store, WRITE)
    store.pass_time(hours=3)
    with leases.acquire(WRITE) as lease:
        assert store.names() == [lease.name]


def test_a_dead_one_that_cannot_be_removed_keeps_nobody(leases, store):
    other = somebody_elses(store, WRITE)
    store.pass_time(hours=3)

    def refuse(call, name):
        if call == "delete" and other in name:
            raise NotAllowed("you may not")

    store.before = refuse
    with leases.acquire(WRITE) as lease:
        assert [found.id for found in leases.active()] == [lease.id]


def test_a_lease_of_the_same_boot_whose_process_is_gone(leases, store):
    somebody_elses(store, WRITE, holder=here(started=1))
    leases.acquire(WRITE).release()
    assert store.names() == []


def test_a_lease_of_this_process_that_nobody_in_it_holds(leases, store):
    somebody_elses(store, WRITE, holder=here())
    leases.acquire(WRITE).release()
    assert store.names() == []


_HOLD = """
import sys, time
from pathlib import Path
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.leases import Leases
from sendense.storage.local import LocalStore

ring = KeyRing.from_bytes(bytes.fromhex(sys.argv[2]))
leases = Leases(LocalStore(Path(sys.argv[1])), ring)
lease = leases.acquire(Wish(LeaseKind.WRITE, "a child", "0" * 32))
print(lease.id, flush=True)
time.sleep(300)
"""


def test_who_is_killed_keeps_nobody_waiting(tmp_path, clockwork):
    leases = Leases(LocalStore(tmp_path), RING, timing=clockwork.timing())
    command = [sys.executable, "-c", _HOLD, str(tmp_path), RING.to_bytes().hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        held = child.stdout.readline().strip()
        with pytest.raises(Busy, match=rf"a child \(.*process {child.pid}, "):
            leases.acquire(WRITE)
        assert [found.id for found in leases.active()] == [held]
        child.send_signal(signal.SIGKILL)
        child.wait()
        begun = time.monotonic()
        leases.acquire(WRITE).release()
        assert time.monotonic() - begun < 30
    assert leases.active() == ()


def test_a_forked_child_does_not_give_up_what_is_its_parents(leases, store, tmp_path):
    local = Leases(LocalStore(tmp_path), RING)
    with local.acquire(WRITE) as lease:
        child = os.fork()
        if child == 0:
            lease.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert lease.still_there()
    assert local.active() == ()


# --- unreadable ones

OLD_RING = KeyRing(
    "11111111-2222-4333-8444-555555555555", Secret(b"i" * 32), {9: Secret(b"x" * 32)}
)
FOREIGN_RING = KeyRing("99999999-2222-4333-8444-555555555555", Secret(b"i" * 32), dict(RING.epochs))


@pytest.fixture(params=["newer epoch", "other repository", "flipped", "empty", "renamed"])
def unreadable(request, store):
    ring = {"newer epoch": OLD_RING, "other repository": FOREIGN_RING}.get(request.param, RING)
    lease_id = somebody_elses(store, wish(LeaseKind.READ, points=("p7",)), ring=ring)
    name = f"leases/{lease_id}"
    data = store.objects[name][0]
    if request.param == "flipped":
        store.write(name, data[:-1] + bytes([data[-1] ^ 1]))
    elif request.param == "empty":
        store.write(name, b"")
    elif request.param == "renamed":
        del store.objects[name]
        name = "leases/" + "e" * 32
        store.write(name, data)
    return name.removeprefix("leases/")


def test_an_unreadable_one_counts_until_it_expires(leases, store, clockwork, unreadable):
    with pytest.raises(Busy, match="cannot be read"):
        leases.acquire(GC)
    assert clockwork.pauses == []
    leases.acquire(READ).release()
    (found,) = leases.active()
    assert (found.id, found.claim, found.seen) == (unreadable, None, frozenset())
    store.pass_time(hours=2, minutes=1)
    leases.acquire(GC).release()
    assert store.names() == []


# --- what an operator does


def test_survey_and_remove_dead(leases, store):
    dead = somebody_elses(store, WRITE)
    store.pass_time(hours=3)
    living = somebody_elses(store, READ)
    assert {found.record.id: found.dead for found in leases.survey()} == {
        dead: "it was not renewed",
        living: None,
    }
    assert len(store.names()) == 2
    assert [found.id for found in leases.remove_dead()] == [dead]
    assert leases.remove_dead() == ()
    assert store.names() == [f"leases/{living}"]


def test_survey_where_nobody_writes(leases, store):
    def refuse(call, name):
        if call in ("put", "delete"):
            raise NotAllowed("only for reading")

    assert leases.survey() == ()
    dead = somebody_elses(store, WRITE)
    store.pass_time(hours=3)
    living = somebody_elses(store, READ)
    store.before = refuse
    assert {found.record.id for found in leases.survey() if found.dead} == {dead}
    assert {found.record.id for found in leases.survey() if not found.dead} == {living}
    with pytest.raises(NotAllowed):
        leases.acquire(READ)


def test_a_lease_is_broken(leases, elsewhere):
    with leases.acquire(WRITE) as lease:
        elsewhere.break_lease(lease.id)
        assert not lease.still_there()
        with pytest.raises(Busy, match="removed"):
            lease.check()
        with pytest.raises(NotFound):
            elsewhere.break_lease(lease.id)
        elsewhere.acquire(WRITE).release()
        with pytest.raises(Busy, match="removed"):
            lease.note_seen(["c1"])
    with pytest.raises(NotFound):
        leases.break_lease("../points/p1")


def test_the_clock_of_the_store(leases, store):
    before = store.now
    told = leases.store_now()
    assert before < told <= store.now
    assert store.names() == []


# --- trust


def test_trust_ends_without_renewal(leases, clockwork):
    with leases.acquire(WRITE) as lease:
        clockwork.seconds += fmt.LEASE_COMMIT_S
        lease.check()
        assert lease.still_there()
        clockwork.seconds += 1
        with pytest.raises(Unavailable, match="not renewed"):
            lease.check()
        assert not lease.still_there()


def test_renewal_prolongs_trust(leases, clockwork):
    with leases.acquire(WRITE) as lease:
        for _ in range(5):
            clockwork.seconds += fmt.LEASE_COMMIT_S - 1
            assert lease.keep()
            lease.check()
            assert lease.still_there()


def test_after_a_gap_no_renewal_brings_trust_back(leases, clockwork, store):
    """A machine was suspended: others may have passed over the lease, and have gone again."""
    with leases.acquire(WRITE) as lease:
        clockwork.seconds += 3 * fmt.LEASE_COMMIT_S
        before = store.objects[lease.name]
        assert lease.keep()
        assert store.objects[lease.name] != before
        with pytest.raises(Unavailable):
            lease.check()
        assert not lease.still_there()


def test_a_gap_in_the_middle_of_a_renewal(leases, clockwork, store):
    """Suspended between look and write; passed over and removed; then written anew."""

    def suspend(call, name):
        if call == "put":
            clockwork.seconds += 3 * fmt.LEASE_COMMIT_S
            store.objects.clear()

    with leases.acquire(WRITE) as lease:
        store.before = suspend
        assert lease.keep()
        store.before = lambda call, name: None
        assert lease.keep()
        assert store.names() == [lease.name]
        assert not lease.still_there()
        with pytest.raises(Unavailable):
            lease.check()


def test_a_renewal_counts_from_its_beginning(leases, clockwork, store):
    def slow(call, name):
        clockwork.seconds += 1000

    with leases.acquire(WRITE) as lease:
        store.before = slow
        assert lease.keep()
        store.before = lambda call, name: None
        clockwork.seconds += fmt.LEASE_COMMIT_S - 1999
        with pytest.raises(Unavailable):
            lease.check()


def test_what_was_removed_is_not_renewed(leases, store):
    with leases.acquire(WRITE) as lease:
        store.objects.clear()
        assert lease.keep()
        assert lease.keep()
        assert store.names() == []
        with pytest.raises(Busy):
            lease.check()
    assert store.names() == []


def test_nothing_can_be_asked_of_one_that_was_given_up(leases):
    lease = leases.acquire(WRITE)
    lease.release()
    for ask in (lease.check, lambda: lease.note_seen([])):
        with pytest.raises(ValueError, match="given up"):
            ask()
    assert lease.keep()
    assert not lease.still_there()


def test_what_was_seen_is_told_and_stays_told(leases, elsewhere):
    with leases.acquire(WRITE) as lease:
        lease.note_seen(["c1", "c2"])
        lease.note_seen(["c3"])
        assert lease.keep()
        (found,) = elsewhere.active()
        assert found.seen == {"c1", "c2", "c3"}


def test_what_was_seen_is_told_soon_and_beside_the_work(store, elsewhere):
    leases = Leases(store, RING)
    with leases.acquire(READ) as lease:
        leases.note_soon(lease, ["c1"])
        eventually(lambda: elsewhere.active()[0].seen == {"c1"})
        assert elsewhere.active()[0].claim.settled


def test_what_could_not_be_told_is_told_later(store, elsewhere, clockwork):
    leases = Leases(store, RING, timing=clockwork.timing(retry_s=0.01))
    refused: list[str] = []

    with leases.acquire(READ) as lease:

        def refuse(verb, name):
            if (verb, name) == ("info", lease.name) and len(refused) < 2:
                refused.append(verb)
                raise Unavailable("not now")

        store.before = refuse
        leases.note_soon(lease, ["c1"])
        eventually(lambda: elsewhere.active()[0].seen == {"c1"})
    assert len(refused) == 2


def test_who_has_something_to_tell_does_not_have_the_others_renewed(store, elsewhere, clockwork):
    leases = Leases(store, RING, timing=clockwork.timing(renewal_s=1000))
    with leases.acquire(WRITE) as other, leases.acquire(READ) as lease:
        leases.note_soon(lease, ["c1"])
        eventually(lambda: any(found.seen for found in elsewhere.active()))
        assert not next(found for found in elsewhere.active() if found.id == other.id).claim.settled


# --- the thread


def test_leases_are_renewed_while_they_are_held(store, clockwork):
    leases = Leases(store, RING, timing=clockwork.timing(renewal_s=0.01))
    with leases.acquire(WRITE) as one, leases.acquire(READ) as two:
        for lease in (one, two):
            await_renewal(store, lease)
    eventually(lambda: leases._rounds._thread is None)
    assert store.names() == []


def test_the_thread_ends_with_the_last_lease(leases):
    with leases.acquire(WRITE):
        thread = leases._rounds._thread
        assert thread is not None
        assert thread.daemon
        leases.acquire(READ).release()
        assert leases._rounds._thread is thread
    thread.join(90)
    assert not thread.is_alive()
    with leases.acquire(WRITE):
        assert leases._rounds._thread is not None


def test_who_is_refused_begins_no_thread(leases, elsewhere):
    with leases.acquire(WRITE):
        with pytest.raises(Busy):
            elsewhere.acquire(WRITE)
        elsewhere.active()
        assert elsewhere._rounds._thread is None
