"""Images by a real qemu-img: their chains, their bitmaps, and who has them open."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sendense.capture import images
from sendense.errors import (
    Busy,
    Damaged,
    NotAllowed,
    NotFound,
    OutOfSpace,
    SendenseError,
    Stalled,
    Unsupported,
)

MIB = 1 << 20


def create(path: Path, *options: str, size: str = "8M") -> str:
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), size], check=True
    )
    return str(path)


@contextmanager
def opened(path: str, at: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let another program have the image open."""
    command = ["qemu-nbd", "-t", "-f", "qcow2", *options, "-k", str(at), path]
    with subprocess.Popen(command) as process:
        try:
            wait_for_greeting(at)
            yield process
        finally:
            process.terminate()


def wait_for_greeting(path: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(str(path))
            if client.recv(8) == b"NBDMAGIC":
                return
        time.sleep(0.01)
    raise AssertionError("qemu-nbd did not answer")


def test_a_chain_with_bitmaps_and_snapshots(tmp_path):
    base = create(tmp_path / "base")
    top = create(tmp_path / "top, with a comma", "-b", base, "-F", "qcow2")
    images.add_bitmap(top, "sendense-1", granularity=4096)
    subprocess.run(["qemu-img", "bitmap", "--add", "--disable", top, "theirs"], check=True)
    subprocess.run(["qemu-img", "snapshot", "-c", "before", top], check=True)
    first, second = images.image_chain(top, "qcow2")
    assert (first.path, first.backing, first.size) == (top, base, 8 * MIB)
    assert first.snapshots == ("before",)
    own, theirs = first.bitmaps
    assert (own.name, own.granularity, own.recording, own.persistent, own.inconsistent) == (
        ("sendense-1", 4096, True, True, False)
    )
    assert not theirs.recording
    assert (second.path, second.backing, second.bitmaps) == (base, None, ())


def test_a_relative_backing_file_has_its_path(tmp_path):
    create(tmp_path / "base")
    top = create(tmp_path / "top", "-b", "base", "-F", "qcow2", size="16M")
    assert [item.path for item in images.image_chain(top, "qcow2")] == [
        top,
        str(tmp_path / "base"),
    ]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/plain", "/plain"),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/x"}}', "/x"),
        ('json:{"driver":"raw","file":{"driver":"rbd","image":"x"}}', None),
        ("json:broken", None),
    ],
)
def test_the_path_in_qemus_name_of_an_image(name, path):
    assert images.plain_path(name) == (path or name)


def test_a_bitmap_of_ours_is_removed_once_and_theirs_never(tmp_path):
    path = create(tmp_path / "image")
    images.add_bitmap(path, "sendense-1", granularity=65536)
    assert images.remove_bitmap_if_idle(path, "sendense-1")
    assert not images.remove_bitmap_if_idle(path, "sendense-1")
    assert not images.remove_bitmap_if_idle(str(tmp_path / "missing"), "sendense-1")
    with pytest.raises(ValueError, match="not ours"):
        images.remove_bitmap(path, "theirs")


def test_an_image_in_use_is_busy_for_everybody(tmp_path):
    path = create(tmp_path / "image")
    images.add_bitmap(path, "sendense-1", granularity=65536)
    images.ensure_unused(path, "qcow2")
    with opened(path, tmp_path / "socket"):
        for touch in (
            lambda: images.ensure_unused(path, "qcow2"),
            lambda: images.image_chain(path, "qcow2"),
            lambda: images.add_bitmap(path, "sendense-2", granularity=65536),
            lambda: images.remove_bitmap_if_idle(path, "sendense-1"),
        ):
            with pytest.raises(Busy, match=r"image .* is in use"):
                touch()
        assert images.image_chain(path, "qcow2", shared=True)[0].size == 8 * MIB
    images.ensure_unused(path, "qcow2")


def test_a_bitmap_that_qemu_did_not_save_is_inconsistent(tmp_path):
    path = create(tmp_path / "image")
    images.add_bitmap(path, "sendense-1", granularity=65536)
    with opened(path, tmp_path / "socket") as process:
        process.kill()
        process.wait()
    (bitmap,) = images.image_chain(path, "qcow2")[0].bitmaps
    assert bitmap.inconsistent
    assert not bitmap.recording
    images.remove_bitmap(path, "sendense-1")
    assert images.image_chain(path, "qcow2")[0].bitmaps == ()


def test_other_troubles_are_not_called_busy(tmp_path):
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(MIB))
    for path, image_format, kind in (
        (str(tmp_path / "missing"), "qcow2", NotFound),
        (str(raw), "qcow2", Damaged),
        (str(tmp_path), "raw", Unsupported),
    ):
        with pytest.raises(SendenseError) as caught:
            images.ensure_unused(path, image_format)
        assert type(caught.value) is kind
        assert path in caught.value.message


def test_a_raw_disk_is_never_probed(tmp_path):
    """A guest may write a qcow2 header, with any backing file, into its raw disk."""
    raw = Path(create(tmp_path / "raw", "-u", "-b", "/etc/shadow", "-F", "raw"))
    (found,) = images.image_chain(str(raw), "raw")
    assert (found.format, found.backing, found.size) == ("raw", None, 197120)


@pytest.mark.parametrize(
    ("complaint", "kind"),
    [
        ("qemu-img: Could not open '/x': Permission denied", NotAllowed),
        ("qemu-img: Failed to write: No space left on device", OutOfSpace),
        ("qemu-img: something new", SendenseError),
    ],
)
def test_complaints(complaint, kind):
    error = images.failure_of(complaint, "/x")
    assert type(error) is kind
    assert "/x" in error.message


def test_a_tool_that_hangs_is_given_up():
    began = time.monotonic()
    with pytest.raises(Stalled, match="sleep did not answer"):
        images.run_tool(["sleep", "30"], timeout_s=0.1)
    assert time.monotonic() - began < 20


def test_a_tool_that_is_missing_says_what_to_install():
    with pytest.raises(NotFound) as caught:
        images.run_tool(["no-such-program"])
    assert "install" in (caught.value.hint or "")


def test_the_size_of_a_device(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(5 * 512))
    assert images.block_device_size(str(path)) == 2560
    with pytest.raises(NotFound):
        images.block_device_size(str(tmp_path / "missing"))


def test_this_qemu_img_knows_bitmaps():
    assert images.bitmaps_supported()
