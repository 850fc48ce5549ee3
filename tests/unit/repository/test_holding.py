"""Pins and locks in a QCOW2 chain: they lie with their point, and a bad file frees nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime, timedelta

import pytest

from sendense import clock, steps
from sendense.errors import Busy, Held, NotAllowed, NotFound, Rejected, Unsupported
from sendense.model.decision import Method
from sendense.model.hold import Hold, HoldKind
from sendense.repository import sealed
from sendense.repository.chain import holding, locks
from sendense.repository.opening import create_repository, open_repository
from tests.support.points import BLOCK, MACHINE_UUID, Write, data, disk, noise, restored, store

MADE = datetime(2026, 1, 31, 12, tzinfo=UTC)
PIN = Hold("p2", HoldKind.PIN, None, "before the upgrade", MADE)
LOCK = Hold("p2", HoldKind.LOCK, datetime(2999, 1, 1, tzinfo=UTC), "", MADE)


class Stop(Exception):
    """The test's stop at a step."""


@pytest.fixture
def repository(tmp_path):
    made = create_repository(f"qcow2:{tmp_path / 'r'}")
    size = 8 * BLOCK
    store(made, "p1", Write(disk(), size, (data(0, noise(4 * BLOCK)),)))
    for number in (2, 3):
        change = (data(number * BLOCK, noise(BLOCK, number)),)
        store(made, f"p{number}", Write(disk(), size, change, Method.BITMAP))
    return made


@pytest.fixture
def machine(repository, tmp_path):
    return tmp_path / "r" / "machines" / MACHINE_UUID


@pytest.fixture
def file(machine):
    return machine / "p2" / "holds.json"


def test_they_are_there_for_the_next_who_opens(repository, file):
    repository.hold(LOCK)
    repository.hold(PIN)
    assert open_repository(repository.location).holds() == (LOCK, PIN)
    content = json.loads(file.read_bytes())["content"]["holds"]
    assert content[1] == {
        "point_id": "p2",
        "kind": "pin",
        "until": None,
        "note": "before the upgrade",
        "made_at": "2026-01-31T12:00:00Z",
    }


def test_no_file_where_nothing_holds(repository, file):
    repository.hold(PIN)
    repository.release_hold("p2", HoldKind.PIN)
    assert not file.exists()
    assert repository.delete(["p2"]) == ("p2",)


@pytest.mark.parametrize(
    "hurt",
    [
        lambda raw: raw[:-20],
        lambda raw: raw.replace(b"upgrade", b"upgrabe"),
        lambda _: b"",
        lambda _: sealed.render(holding.KIND, {"holds": "all"}),
        lambda _: sealed.render(holding.KIND, {"holds": [{"kind": "pin"}]}),
        lambda raw: _altered(raw, point_id="p3"),
        lambda raw: _altered(raw, kind="glue"),
        lambda raw: _altered(raw, kind="lock"),
        lambda raw: _altered(raw, made_at="2026-01-31T12:00:00"),
        lambda raw: _altered(raw, note="\x1b[2J"),
        lambda raw: sealed.render(holding.KIND, json.loads(raw)["content"], version=2),
    ],
)
def test_a_file_that_cannot_be_read_is_a_pin(repository, file, hurt):
    repository.hold(PIN)
    file.write_bytes(hurt(file.read_bytes()))
    (found,) = repository.holds()
    assert (found.point_id, found.kind, found.note) == ("p2", HoldKind.PIN, holding.UNREADABLE)
    with pytest.raises(Held):
        repository.delete(["p2"])
    assert [point.id for point in repository.points()] == ["p1", "p2", "p3"]


def _altered(raw, **values):
    (hold,) = json.loads(raw)["content"]["holds"]
    return sealed.render(holding.KIND, {"holds": [{**hold, **values}]})


def test_a_damaged_file_goes_with_the_pin(repository, file):
    file.write_bytes(b"{")
    repository.hold(LOCK)
    assert {hold.kind for hold in repository.holds()} == {HoldKind.PIN, HoldKind.LOCK}
    file.write_bytes(b"{")
    repository.release_hold("p2", HoldKind.PIN)
    assert not file.exists()


def test_a_file_of_a_newer_version_is_left_alone(repository, file):
    repository.hold(PIN)
    newer = sealed.render(holding.KIND, json.loads(file.read_bytes())["content"], version=2)
    file.write_bytes(newer)
    with pytest.raises(Unsupported):
        repository.hold(LOCK)
    with pytest.raises(Unsupported):
        repository.release_hold("p2", HoldKind.PIN)
    assert file.read_bytes() == newer


def test_a_lost_point_can_be_held(repository, machine):
    (machine / "p3" / "manifest.json").write_bytes(b"lost")
    pin = Hold("p3", HoldKind.PIN, None, "", MADE)
    repository.hold(pin)
    assert repository.holds(MACHINE_UUID) == (pin,)
    with pytest.raises(Held):
        repository.delete(["p3"])
    repository.release_hold("p3", HoldKind.PIN)
    assert repository.delete(["p3"]) == ("p3",)


def test_a_point_that_is_being_deleted_cannot_be_held_any_more(repository):
    def stop(step):
        if step == "delete:tombstoned":
            raise Stop

    steps.listen(stop)
    try:
        with pytest.raises(Stop):
            repository.delete(["p2"])
    finally:
        steps.unlisten()
    with pytest.raises(NotFound):
        repository.hold(PIN)


def test_a_held_child_takes_over_from_its_parents(repository):
    expected = restored(repository, "p2")
    repository.hold(LOCK)
    repository.delete(["p1"])
    assert repository.point("p2").disks[0].parent is None
    assert restored(repository, "p2") == expected
    assert repository.holds() == (LOCK,)


def test_a_deletion_and_a_hold_exclude_each_other(repository, machine):
    with locks.exclusive(machine / ".readers", "a deletion"), pytest.raises(Busy):
        repository.hold(PIN)
    assert repository.holds() == ()


def _pin(location):
    repository = open_repository(location)
    for number in range(30):
        end = clock.now() + timedelta(days=1 + (os.getpid() + number) % 7)
        try:
            repository.hold(Hold("p2", HoldKind.LOCK, end, str(os.getpid()), MADE))
        except (Busy, Held):
            continue


def test_locks_by_many_at_once_only_get_longer(repository):
    workers = [
        multiprocessing.get_context("fork").Process(target=_pin, args=(repository.location,))
        for _ in range(3)
    ]
    ends = []
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        ends += [hold.until for hold in repository.holds()]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    # All may have ended before the first look.
    ends += [hold.until for hold in repository.holds()]
    assert ends == sorted(ends)
    assert ends


def test_a_repository_that_cannot_be_written_holds_nothing_new(repository, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "refused")

    monkeypatch.setattr("sendense.storage.durable.replace_file", refuse)
    with pytest.raises(NotAllowed):
        repository.hold(PIN)


def test_the_file_is_no_attachment(repository):
    with (
        pytest.raises(Rejected),
        repository.begin(repository.points()[0].machine, "p4") as writer,
    ):
        writer.attach("holds.json", b"{}")


def test_what_a_killed_writer_left_aside_says_nothing(repository, file):
    aside = file.with_name(".holds.json.new")
    aside.write_bytes(b"half")
    assert repository.holds() == ()
    repository.hold(PIN)
    assert repository.holds() == (PIN,)
    assert not aside.exists()
