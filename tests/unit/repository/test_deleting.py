"""Deletions that cannot be finished at once, and what they leave to others."""

from __future__ import annotations

import pytest

from sendense import steps
from sendense.errors import Busy, Damaged, NotFound
from sendense.model.decision import Method
from sendense.repository.chain import qemu_img
from sendense.repository.opening import create_repository, open_repository
from sendense.repository.protocol import VerifyLevel
from tests.support.points import BLOCK, MACHINE_UUID, Write, data, disk, noise, restored, store

SIZE = 8 * BLOCK


class Stop(Exception):
    """The test's stop at a step."""


@pytest.fixture
def repository(tmp_path):
    made = create_repository(f"qcow2:{tmp_path}")
    store(made, "p1", Write(disk(), SIZE, (data(0, noise(4 * BLOCK)),)))
    for number in (2, 3, 4):
        change = (data(number * BLOCK, noise(BLOCK, number)),)
        store(made, f"p{number}", Write(disk(), SIZE, change, Method.BITMAP))
    return made


@pytest.fixture
def stop_at():
    """Stop at a step, as an error would."""

    def arrange(name):
        def stop(step):
            if step == name:
                raise Stop

        steps.listen(stop)

    yield arrange
    steps.unlisten()


def names(repository):
    return [point.id for point in repository.points()]


def interrupt(repository, stop_at, name, chosen):
    stop_at(name)
    with pytest.raises(Stop):
        repository.delete(chosen)
    steps.unlisten()


def test_a_backup_does_not_wait_for_readers_to_finish_a_deletion(repository, stop_at):
    expected = restored(repository, "p4")
    interrupt(repository, stop_at, "delete:tombstoned", ["p2"])
    with repository.open("p4"):
        store(repository, "p5", Write(disk(), SIZE, (data(0, noise(BLOCK, 9)),), Method.BITMAP))
    assert names(repository) == ["p1", "p3", "p4", "p5"]
    assert restored(repository, "p4") == expected
    repository.delete(["p5"])
    assert names(repository) == ["p1", "p3", "p4"]
    assert restored(repository, "p4") == expected


def test_a_reader_finishes_a_merge_first(repository, stop_at, tmp_path):
    expected = restored(repository, "p3")
    interrupt(repository, stop_at, "merge:image-moved", ["p2"])
    assert (tmp_path / "machines" / MACHINE_UUID / ".merge.json").exists()
    assert restored(repository, "p3") == expected
    assert not (tmp_path / "machines" / MACHINE_UUID / ".merge.json").exists()
    with pytest.raises(NotFound):
        repository.open("p2")


def test_a_merge_that_damage_stops_leaves_the_others_usable(repository, stop_at, tmp_path):
    """The parent's image is lost between two steps: its child is lost with it, nothing else."""
    expected = restored(repository, "p1")
    interrupt(repository, stop_at, "merge:journal-written", ["p2"])
    folder = tmp_path / "machines" / MACHINE_UUID
    (folder / "p2" / "vda.qcow2").write_bytes(b"lost")
    assert restored(repository, "p1") == expected
    for name in ("p3", "p4"):
        with pytest.raises(Damaged):
            restored(repository, name)
    states = {point.id: point.state.value for point in repository.points()}
    assert states == {"p1": "complete", "p3": "damaged", "p4": "damaged"}
    full = Write(disk(), SIZE, (data(0, noise(BLOCK, 9)),))
    store(repository, "p5", full)
    assert repository.verify("p5", VerifyLevel.DATA).sound
    repository.delete(["p3", "p4"])
    assert names(repository) == ["p1", "p5"]
    assert not (folder / "p2").exists()
    assert restored(repository, "p1") == expected


def test_an_image_that_is_in_use_elsewhere_stops_a_merge_for_now(repository, monkeypatch):
    expected = restored(repository, "p3")

    def busy(*_, **__):
        raise Busy("another program has an image of the repository open")

    with monkeypatch.context() as patch:
        patch.setattr(qemu_img, "commit", busy)
        with pytest.raises(Busy):
            repository.delete(["p2"])
        with pytest.raises(Busy):
            restored(repository, "p3")
        with pytest.raises(Busy):
            store(repository, "p5", Write(disk(), SIZE, ()))
        assert restored(repository, "p1")
    assert restored(repository, "p3") == expected
    assert names(repository) == ["p1", "p3", "p4"]


def test_a_deletion_costs_what_the_child_holds(repository, monkeypatch):
    """Points that nobody needs go without a merge, and each merge is between neighbours."""
    merged = []
    commit = qemu_img.commit

    def count(upper, lower, **options):
        merged.append((upper.parent.name, lower.parent.name))
        commit(upper, lower, **options)

    monkeypatch.setattr(qemu_img, "commit", count)
    repository.delete(["p4", "p1", "p2"])
    assert merged == [("p2", "p1"), ("p3", "p2")]
    repository.delete(["p3"])
    assert len(merged) == 2
    assert open_repository(repository.location).points() == ()


def test_a_journal_that_names_something_else_is_not_followed(repository, stop_at, tmp_path):
    interrupt(repository, stop_at, "merge:journal-written", ["p2"])
    journal = tmp_path / "machines" / MACHINE_UUID / ".merge.json"
    content = journal.read_bytes()
    journal.write_bytes(content.replace(b'"p2"', b'"/x"'))
    with pytest.raises(Damaged):
        repository.delete(["p4"])
    assert restored(repository, "p1")
    journal.write_bytes(content)
    repository.delete(["p4"])
    assert names(repository) == ["p1", "p3"]
