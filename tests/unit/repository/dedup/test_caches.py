"""What a machine keeps of a repository is a cache: without it, or with a wrong one, all is well."""

from __future__ import annotations

import os
import shutil

import pytest

from sendense.errors import Unavailable
from sendense.repository.dedup.checking.facade import check
from sendense.repository.dedup.checking.findings import CheckLevel
from sendense.repository.dedup.header import read_header
from sendense.repository.dedup.opening import index_file_of, open_dedup
from sendense.repository.dedup.seen_points import SeenPoints, file_of
from tests.support.dedup import PASSPHRASE, dedup_repository
from tests.support.dedup_site import back_up_again, build
from tests.support.dict_store import DictStore
from tests.support.points import Write, data, disk, noise, restored, store


@pytest.fixture(scope="module")
def site():
    return build()


@pytest.fixture
def place(site):
    return site.store()


def opened(place, cache):
    return open_dedup(place, lambda: PASSPHRASE, cache=cache)


def filled(place, cache):
    """Fill a cache; give its files."""
    repository = opened(place, cache)
    repository.info()
    repository.close()
    folder = cache / read_header(place).id
    return folder / index_file_of(place.location), folder / file_of(place.location)


def without(index, seen):
    shutil.rmtree(index.parent.parent)


def without_index(index, seen):
    for path in index.parent.glob(index.name + "*"):
        path.unlink()


def empty(index, seen):
    index.write_bytes(b"")
    seen.write_bytes(b"")


def garbage(index, seen):
    index.write_bytes(os.urandom(20_000))
    seen.write_bytes(os.urandom(500))


def torn_in_the_middle(index, seen):
    content = bytearray(index.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 512] = os.urandom(512)
    index.write_bytes(content)


def cut(index, seen):
    index.write_bytes(index.read_bytes()[:5000])
    seen.write_bytes(seen.read_bytes()[:-3])


def of_another_repository(index, seen):
    repository = dedup_repository(DictStore(), cache=index.parent / "elsewhere")
    store(repository, "x1", Write(disk("vda"), 1 << 20, (data(0, noise(1 << 20)),)))
    repository.info()
    repository.close()
    (other,) = (index.parent / "elsewhere").rglob("index*.sqlite")
    shutil.copy(other, index)


def folders_in_their_place(index, seen):
    without(index, seen)
    seen.mkdir(parents=True)


@pytest.mark.parametrize(
    "harm",
    [
        without,
        without_index,
        empty,
        garbage,
        torn_in_the_middle,
        cut,
        of_another_repository,
        folders_in_their_place,
    ],
)
def test_a_cache_that_is_lost_or_wrong(site, place, tmp_path, harm):
    before = opened(place, None)
    harm(*filled(place, tmp_path / "cache"))
    repository = opened(place, tmp_path / "cache")
    assert repository.points() == before.points()
    for (point, identity), content in site.contents.items():
        assert read_at_last(repository, point, identity) == content
    assert repository.rebuild() == len(before.points())
    back_up_again(repository, site)
    assert check(repository, CheckLevel.DATA).findings == ()
    repository.close()


def read_at_last(repository, point, identity):
    """Read a disk; a torn cache may say once that it is made anew."""
    try:
        return restored(repository, point, identity)
    except Unavailable as error:
        said = error.hint or ""
    assert "made anew" in said
    repository.rebuild()
    return restored(repository, point, identity)


def test_a_check_does_not_believe_the_cache(site, place, tmp_path):
    repository = opened(place, tmp_path / "cache")
    repository.info()
    for name in place.names("index/"):
        place.objects[name] = place.objects[name][:-1]
    assert restored(repository, *next(iter(site.contents))), "the cache still serves"
    assert not check(repository, CheckLevel.STRUCTURE).sound
    repository.close()


# --- points that were seen ---


def test_what_was_seen_is_kept_across_processes(tmp_path):
    path = tmp_path / "seen"
    one, other = SeenPoints(path), SeenPoints(path)
    one.add(["points/a", "points/b"])
    other.add(["points/c"])
    assert one.names() == other.names() == {"points/a", "points/b", "points/c"}
    other.forget(["points/a"])
    assert one.names() == SeenPoints(path).names() == {"points/b", "points/c"}
    one.add(["points/b"])
    assert path.stat().st_mode & 0o077 == 0
    one.clear()
    assert other.names() == frozenset()


def test_what_cannot_be_kept_is_kept_in_memory(tmp_path):
    seen = SeenPoints(tmp_path / "nowhere" / "seen")
    seen.add(["points/a"])
    seen.forget(["points/b"])
    assert seen.names() == {"points/a"}


def test_what_is_known_costs_no_second_look(tmp_path):
    path = tmp_path / "seen"
    seen = SeenPoints(path)
    seen.add(["points/a"])
    path.unlink()
    seen.add(["points/a"])
    assert not path.exists()


def test_what_was_seen_survives_the_process_and_is_missed(place, tmp_path):
    repository = opened(place, tmp_path)
    assert repository.points()
    repository.close()
    newest = [name for name in place.names("points/") if name.endswith("-p2")]
    place.delete(newest)
    place.delete([name for name in place.names("sequences/")])
    repository = opened(place, tmp_path)
    assert check(repository, CheckLevel.STRUCTURE).touched == ("p2",)
    repository.close()
