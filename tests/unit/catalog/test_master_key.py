"""Where the master key comes from, and what is refused."""

from __future__ import annotations

import stat
import threading

import pytest

from sendense.catalog.master_key import (
    CREDENTIAL,
    VARIABLE,
    find_keys,
    make_file,
    parse,
    read_file,
)
from sendense.catalog.sealing import MasterKey, MasterKeys, Place
from sendense.errors import AlreadyExists, Damaged, NotAllowed, NotFound, Rejected
from sendense.model.secret import Secret

LINE = f"{'01' * 8} {'02' * 32}"
PLACE = Place("t", "r", "c")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "master.key"


def test_a_first_start_makes_it(file):
    first, second = find_keys(file, {}), find_keys(file, {})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert second.open(first.seal(Secret("x"), PLACE), PLACE) == Secret("x")
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_of_many_first_starts_one_makes_it(file):
    found = []
    threads = [threading.Thread(target=lambda: found.append(find_keys(file, {}))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({keys.current for keys in found}) == 1


def test_the_environment_comes_first_then_the_credential(file, tmp_path):
    (tmp_path / CREDENTIAL).write_text(f"{'03' * 8} {'04' * 32}\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert find_keys(file, environment).current == b"\x03" * 8
    assert find_keys(file, environment | {VARIABLE: LINE}).current == b"\x01" * 8
    assert not file.exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(file, mode):
    make_file(file)
    file.chmod(mode)
    with pytest.raises(NotAllowed):
        read_file(file)


def test_it_is_never_overwritten(file):
    make_file(file)
    before = file.read_bytes()
    with pytest.raises(AlreadyExists):
        make_file(file)
    assert file.read_bytes() == before
    with pytest.raises(NotFound):
        read_file(file.with_name("other"))
    with pytest.raises(NotAllowed):
        make_file(file.parent / "none" / "key")


def test_a_key_is_added_and_the_old_ones_go(file):
    make_file(file)
    old = MasterKeys(read_file(file))
    sealed = old.seal(Secret("x"), PLACE)
    with file.open("a") as out:
        out.write(f"{LINE}\n")
    both = MasterKeys(read_file(file))
    assert both.current == b"\x01" * 8
    assert both.open(sealed, PLACE) == Secret("x")
    file.write_text(f"{LINE}\n")
    with pytest.raises(Rejected, match="not here"):
        MasterKeys(read_file(file)).open(sealed, PLACE)


@pytest.mark.parametrize("line", ["x", LINE[:-2], f"{LINE} {LINE}", "zz " + "02" * 32, "\xff"])
def test_a_line_that_is_none(line):
    with pytest.raises(Rejected, match="line 2") as caught:
        parse(Secret(f"# comment\n{line}"))
    assert "0202" not in str(caught.value.to_dict())


def test_no_key_at_all():
    with pytest.raises(Rejected):
        MasterKeys(parse(Secret("\n# nothing\n")))


@pytest.mark.parametrize(
    "place",
    [Place("t", "r", "d"), Place("t", "s", "c"), Place("u", "r", "c"), Place("t", "", "rc")],
)
def test_a_secret_opens_in_its_place_only(place):
    keys = MasterKeys([MasterKey.new()])
    with pytest.raises(Damaged):
        keys.open(keys.seal(Secret("x"), PLACE), place)


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 12, 21, 30])
def test_a_sealed_value_that_is_cut(cut):
    keys = MasterKeys([MasterKey.new()])
    with pytest.raises((Damaged, Rejected)):
        keys.open(keys.seal(Secret("x"), PLACE)[:cut], PLACE)


def test_the_same_secret_is_never_sealed_to_the_same():
    keys = MasterKeys([MasterKey.new()])
    assert len({keys.seal(Secret("x"), PLACE) for _ in range(100)}) == 100
