"""Making and opening repositories: what is refused, and with which words."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sendense.errors import AlreadyExists, Damaged, NotAllowed, NotFound, Rejected, Unsupported
from sendense.model.secret import Secret
from sendense.repository import sealed
from sendense.repository.opening import (
    PLAIN,
    Access,
    RepositorySettings,
    create_repository,
    open_repository,
)
from tests.support.dedup import PASSPHRASE
from tests.support.points import Write, disk, store

ACCESS = Access(secret=lambda _new: PASSPHRASE)
KINDS = {"{}": "dedup", "dedup:{}": "dedup", "file://{}": "dedup", "qcow2:{}": "qcow2-chain"}


@pytest.fixture(params=["dedup:", "qcow2:"])
def kind(request):
    return request.param


def lasting(repository):
    """Give what does not change; what is free does, as the file system is not ours alone."""
    return replace(repository.info(), free_bytes=0)


def files_open_below(folder):
    """Give what this process has open in a folder, or of it."""
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [link for link in links if Path(link).is_relative_to(folder)]


def test_one_that_cannot_be_opened_or_made_is_not_held_open(tmp_path):
    """A server tries again and again, and would run out of file descriptors."""
    folder = tmp_path / "r"
    create_repository(f"dedup:{folder}", PLAIN, ACCESS).close()
    with pytest.raises(NotAllowed):
        open_repository(f"dedup:{folder}", Access(secret=lambda _new: Secret(b"another one")))
    with pytest.raises(Rejected):
        create_repository(f"dedup:{folder}", PLAIN, ACCESS)
    (folder / "sendense-repository").write_bytes(b"no header")
    with pytest.raises(Damaged):
        open_repository(f"dedup:{folder}", ACCESS)
    assert files_open_below(folder) == []


@pytest.mark.parametrize("form", KINDS)
def test_made_and_opened(tmp_path, form):
    url = form.format(tmp_path / "deep" / "inside")
    made = create_repository(url, PLAIN, ACCESS)
    opened = open_repository(url, ACCESS)
    assert opened.location == made.location == str(tmp_path / "deep" / "inside")
    assert lasting(opened) == lasting(made)
    assert opened.info().kind == KINDS[form]
    assert opened.info().free_bytes
    # The directory says which kind it is.
    assert lasting(open_repository(opened.location, ACCESS)) == lasting(opened)
    for repository in (made, opened):
        repository.close()


def test_an_empty_directory_may_become_a_repository(tmp_path, kind):
    create_repository(f"{kind}{tmp_path}", PLAIN, ACCESS).close()
    for other in ("dedup:", "qcow2:"):
        with pytest.raises((AlreadyExists, Rejected)):
            create_repository(f"{other}{tmp_path}", PLAIN, ACCESS)


@pytest.mark.parametrize("name", ["thesis.odt", "my thesis.odt", ".hidden"])
def test_a_directory_of_somebody_is_not_taken_over(tmp_path, kind, name):
    (tmp_path / name).touch()
    with pytest.raises(Rejected, match="not empty"):
        create_repository(f"{kind}{tmp_path}", PLAIN, ACCESS)
    (tmp_path / "file").touch()
    with pytest.raises(Rejected, match=r"not (empty|a directory)"):
        create_repository(f"{kind}{tmp_path / 'file'}", PLAIN, ACCESS)


def test_a_new_file_system_is_empty(tmp_path):
    (tmp_path / "lost+found").mkdir()
    create_repository(str(tmp_path), PLAIN, ACCESS).close()


@pytest.mark.parametrize("form", KINDS)
@pytest.mark.parametrize("place", ["empty", "missing"])
def test_no_repository_there(tmp_path, form, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound) as caught:
        open_repository(form.format(tmp_path / place), ACCESS)
    assert caught.value.hint
    assert not (tmp_path / "missing").exists()


def test_the_other_kind(tmp_path):
    create_repository(f"dedup:{tmp_path / 'd'}", PLAIN, ACCESS).close()
    create_repository(f"qcow2:{tmp_path / 'c'}").close()
    with pytest.raises(NotFound):
        open_repository(f"qcow2:{tmp_path / 'd'}")
    with pytest.raises(Rejected, match="QCOW2"):
        open_repository(f"dedup:{tmp_path / 'c'}", ACCESS)


def test_no_passphrase(tmp_path):
    with pytest.raises(Rejected, match="no passphrase"):
        create_repository(str(tmp_path))
    assert not list(tmp_path.iterdir())
    create_repository(str(tmp_path), PLAIN, ACCESS).close()
    with pytest.raises(Rejected, match="no passphrase"):
        open_repository(str(tmp_path))
    with pytest.raises(NotAllowed):
        open_repository(str(tmp_path), Access(secret=lambda _new: Secret("wrong horse")))


@pytest.mark.parametrize("url", ["ftp://host/x", "dedup:ftp://host/x"])
def test_a_kind_that_is_not_known(url):
    with pytest.raises(Rejected, match="no kind of store"):
        open_repository(url)


@pytest.mark.parametrize("url", ["", "qcow2:", "dedup:", "file://"])
def test_no_path(url):
    with pytest.raises(Rejected):
        create_repository(url, PLAIN, ACCESS)


@pytest.mark.parametrize("level", [0, 20, -1])
def test_a_compression_level_that_is_none(tmp_path, kind, level):
    with pytest.raises(Rejected):
        create_repository(f"{kind}{tmp_path}", RepositorySettings(level), ACCESS)


def test_a_newer_format(tmp_path):
    create_repository(f"qcow2:{tmp_path}")
    path = tmp_path / "sendense-repository.json"
    content = json.loads(path.read_bytes())["content"]
    path.write_bytes(sealed.render("sendense-repository", content, version=2))
    with pytest.raises(Unsupported, match="newer"):
        open_repository(str(tmp_path))


@pytest.mark.parametrize("change", [{"id": None}, {"created_at": "yesterday"}, {}])
def test_a_description_that_describes_nothing(tmp_path, change):
    create_repository(f"qcow2:{tmp_path}")
    content = {"created_at": "x", **change}
    path = tmp_path / "sendense-repository.json"
    path.write_bytes(sealed.render("sendense-repository", content))
    with pytest.raises(Damaged):
        open_repository(str(tmp_path))


def test_a_repository_may_be_moved(tmp_path, kind):
    made = create_repository(f"{kind}{tmp_path / 'here'}", PLAIN, ACCESS)
    point = store(made, "p1", Write(disk(), 512, ()))
    made.close()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = open_repository(str(tmp_path / "there"), ACCESS)
    assert moved.points() == (point,)
    moved.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".p1", "-x", "x" * 200])
def test_a_point_stays_in_its_machine(tmp_path, kind, name):
    repository = create_repository(f"{kind}{tmp_path}", PLAIN, ACCESS)
    with pytest.raises(Rejected):
        store(repository, name, Write(disk(), 512, ()))
    with pytest.raises(Rejected):
        repository.point(name)
    repository.close()
