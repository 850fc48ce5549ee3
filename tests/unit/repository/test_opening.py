"""Making and opening repositories: what is refused, and with which words."""

from __future__ import annotations

import json

import pytest

from sendense.errors import Damaged, NotFound, Rejected, Unsupported
from sendense.repository import sealed
from sendense.repository.opening import RepositorySettings, create_repository, open_repository
from tests.support.points import Write, disk, store


@pytest.mark.parametrize("form", ["{}", "qcow2:{}"])
def test_made_and_opened(tmp_path, form):
    url = form.format(tmp_path / "deep" / "inside")
    made = create_repository(url)
    opened = open_repository(url)
    assert opened.location == made.location == str(tmp_path / "deep" / "inside")
    assert opened.info() == made.info()
    assert opened.info().kind == "qcow2-chain"
    assert opened.info().free_bytes


def test_an_empty_directory_may_become_a_repository(tmp_path):
    create_repository(str(tmp_path))
    with pytest.raises(Rejected, match="already"):
        create_repository(str(tmp_path))


def test_a_directory_of_somebody_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.odt").touch()
    with pytest.raises(Rejected, match="not empty"):
        create_repository(str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(Rejected, match="not empty"):
        create_repository(str(tmp_path / "file"))


def test_no_repository_there(tmp_path):
    with pytest.raises(NotFound) as caught:
        open_repository(str(tmp_path))
    assert "mounted" in str(caught.value.hint)


@pytest.mark.parametrize("url", ["s3://bucket/x", "dedup:/x"])
def test_a_kind_that_is_not_known(url):
    with pytest.raises(Unsupported, match="no kind of repository"):
        open_repository(url)


@pytest.mark.parametrize("url", ["", "qcow2:"])
def test_no_path(url):
    with pytest.raises(Rejected):
        create_repository(url)


@pytest.mark.parametrize("level", [0, 20, -1])
def test_a_compression_level_that_is_none(tmp_path, level):
    with pytest.raises(Rejected):
        create_repository(str(tmp_path), RepositorySettings(level))


def test_a_newer_format(tmp_path):
    create_repository(str(tmp_path))
    path = tmp_path / "sendense-repository.json"
    content = json.loads(path.read_bytes())["content"]
    path.write_bytes(sealed.render("sendense-repository", content, version=2))
    with pytest.raises(Unsupported, match="newer"):
        open_repository(str(tmp_path))


@pytest.mark.parametrize("change", [{"id": None}, {"created_at": "yesterday"}, {}])
def test_a_description_that_describes_nothing(tmp_path, change):
    create_repository(str(tmp_path))
    content = {"created_at": "x", **change}
    path = tmp_path / "sendense-repository.json"
    path.write_bytes(sealed.render("sendense-repository", content))
    with pytest.raises(Damaged):
        open_repository(str(tmp_path))


def test_a_repository_may_be_moved(tmp_path):
    made = create_repository(str(tmp_path / "here"))
    point = store(made, "p1", Write(disk(), 512, ()))
    (tmp_path / "here").rename(tmp_path / "there")
    assert open_repository(str(tmp_path / "there")).points() == (point,)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".p1", "-x", "x" * 200])
def test_a_point_stays_in_its_machine(tmp_path, name):
    repository = create_repository(str(tmp_path))
    with pytest.raises(Rejected):
        store(repository, name, Write(disk(), 512, ()))
    with pytest.raises(Rejected):
        repository.point(name)
