"""What any released version wrote, this one reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sendense.model.decision import Method
from sendense.repository.dedup.opening import open_dedup
from sendense.repository.protocol import VerifyLevel
from sendense.storage.urls import open_store
from tests.support.dedup import PASSPHRASE
from tests.support.dedup_fixture import DISK, SIZE, contents, words
from tests.support.points import BLOCK, Write, data, restored, store

FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.fixture(params=["dedup-1"])
def repository(request, tmp_path):
    shutil.copytree(FIXTURES / request.param, tmp_path / "repository")
    opened = open_dedup(open_store(str(tmp_path / "repository")), lambda: PASSPHRASE, cache=None)
    yield opened
    opened.close()


def test_its_points_restore(repository):
    assert [point.id for point in repository.points()] == ["p1", "p2"]
    for name, content in contents().items():
        assert restored(repository, name) == content
        assert repository.verify(name, VerifyLevel.DATA).sound
    with repository.open("p1") as reader:
        assert reader.attachment("domain.xml") == b"<domain/>"
        assert reader.attachment("nvram.fd") == bytes(range(256)) * 300
    assert [hold.note for hold in repository.holds()] == ["kept for ever"]


def test_it_goes_on(repository):
    store(repository, "p3", Write(DISK, SIZE, (data(0, words(2000)),), Method.BITMAP))
    expected = words(2000) + contents()["p2"][BLOCK:]
    assert restored(repository, "p3") == expected
