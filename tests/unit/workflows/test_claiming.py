"""Whether the point of a dead run is committed: doubt keeps its checkpoint."""

from __future__ import annotations

import pytest

from sendense.errors import Damaged, NotAllowed, NotFound, Rejected, Unavailable
from sendense.repository.opening import open_repository
from sendense.workflows.claiming import is_committed
from tests.support.dedup import dedup_repository
from tests.support.memory_repository import MemoryRepository
from tests.support.points import Write, data, disk, noise, store

FACTS = {"repository": "/r", "point": "p1"}


def refusing(error: Exception):
    def opener(location: str):
        raise error

    return opener


def test_no_repository_is_named():
    assert is_committed({}, refusing(AssertionError())) is False


def test_the_repository_knows():
    repository = MemoryRepository()
    assert is_committed(FACTS, lambda location: repository) is False
    store(repository, "p1", Write(disk(), 1 << 20, (data(0, noise(65536)),)))
    assert is_committed(FACTS, lambda location: repository) is True


@pytest.mark.parametrize("kind", [NotFound, Unavailable, Rejected, NotAllowed, Damaged])
def test_a_repository_that_cannot_be_opened(kind):
    assert is_committed(FACTS, refusing(kind("no"))) is True


def test_a_point_that_cannot_be_read(monkeypatch):
    repository = MemoryRepository()
    monkeypatch.setattr(repository, "point", refusing(Damaged("torn")))
    assert is_committed(FACTS, lambda location: repository) is True
    monkeypatch.setattr(repository, "point", refusing(Unavailable("away")))
    with pytest.raises(Unavailable):
        is_committed(FACTS, lambda location: repository)


def test_an_encrypted_repository_without_its_passphrase(tmp_path):
    from sendense.storage.urls import open_store

    dedup_repository(open_store(str(tmp_path / "r"))).close()
    facts = {"repository": str(tmp_path / "r"), "point": "p1"}
    assert is_committed(facts, open_repository) is True
