"""New files: whole or absent, and what QEMU reads out of them is the disk."""

from __future__ import annotations

import os

import pytest

from sendense.errors import Busy, NotFound, OutOfSpace, Rejected
from sendense.targets import staging
from sendense.targets.newfile import new_file
from tests.integration.targets.test_nbd import content, fill, fill_up
from tests.integration.transfer.servers import MIB

SIZE = 8 * MIB + 512
FORMATS = pytest.mark.parametrize("image_format", ["raw", "qcow2"])


@FORMATS
def test_a_file_appears_with_its_content(tmp_path, image_format):
    path = tmp_path / f"vda.{image_format}"
    with new_file(path, SIZE, image_format=image_format) as target:
        wanted = fill(target, SIZE)
        target.finish()
        assert not path.exists()
        target.publish()
    assert content(path, image_format) == wanted
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []
    assert path.stat().st_mode & 0o777 == 0o600


@FORMATS
def test_what_is_not_published_leaves_nothing(tmp_path, image_format):
    with new_file(tmp_path / "vda", SIZE, image_format=image_format) as target:
        target.write(0, b"x" * 65536)
    with new_file(tmp_path / "vda", SIZE, image_format=image_format) as target:
        target.finish()
    assert list(tmp_path.iterdir()) == []


@FORMATS
def test_a_name_that_is_taken_is_refused_and_kept(tmp_path, image_format):
    path = tmp_path / "vda"
    path.write_text("mine")
    with pytest.raises(Rejected, match="exists already"):
        new_file(path, SIZE, image_format=image_format)
    assert [path.read_text()] == ["mine"]
    with new_file(path, SIZE, image_format=image_format, overwrite=True) as target:
        target.finish()
        assert path.read_text() == "mine"
        target.publish()
    assert content(path, image_format) == bytes(SIZE)


@FORMATS
def test_a_name_that_is_taken_meanwhile_is_kept(tmp_path, image_format):
    path = tmp_path / "vda"
    with new_file(path, SIZE, image_format=image_format) as target:
        target.finish()
        path.write_text("theirs")
        with pytest.raises(Rejected, match="exists already"):
            target.publish()
    assert {item.name: item.read_text() for item in tmp_path.iterdir()} == {"vda": "theirs"}


@FORMATS
def test_a_full_storage_is_out_of_space(small_storage, image_format):
    path = small_storage / "vda"
    with (
        new_file(path, 64 * MIB, image_format=image_format) as target,
        pytest.raises(OutOfSpace),
    ):
        fill_up(target)
    assert list(small_storage.iterdir()) == []


def test_no_directory(tmp_path):
    with pytest.raises(NotFound):
        new_file(tmp_path / "none" / "vda", SIZE, image_format="raw")


def test_a_raw_file_of_zeroes_takes_no_space(tmp_path):
    with new_file(tmp_path / "vda", 1 << 40, image_format="raw") as target:
        target.zero(0, 1 << 40)
        target.finish()
        target.publish()
    assert (tmp_path / "vda").stat().st_size == 1 << 40
    assert (tmp_path / "vda").stat().st_blocks == 0


def test_parts_of_a_dead_restore_are_swept_and_those_of_a_living_one_are_not(tmp_path):
    folder = tmp_path / "made" / "here"
    part = staging.part_of(folder / "vda.raw")
    with staging.locked_folder(folder):
        part.write_text("living")
        with pytest.raises(Busy, match="another restore"), staging.locked_folder(folder):
            pass
        assert part.exists()
    (folder / "other").write_text("kept")
    with staging.locked_folder(folder):
        assert [item.name for item in folder.iterdir()] == ["other"]


def test_small_files_replace_what_is_there_and_keep_its_owner(tmp_path):
    path = tmp_path / "vars.fd"
    path.write_bytes(b"old")
    path.chmod(0o640)
    os.chown(path, 1234, 1235)
    staging.replace_content(path, b"new")
    status = path.stat()
    assert path.read_bytes() == b"new"
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1234, 1235, 0o640)
    assert list(tmp_path.iterdir()) == [path]
