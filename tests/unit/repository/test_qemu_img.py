"""What is said when ``qemu-img`` fails."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from sendense.errors import Busy, Damaged, OutOfSpace, Unsupported
from sendense.model.progress import Progress, silent
from sendense.repository.chain import locks, qemu_img


@pytest.fixture
def pair(tmp_path):
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", lower, "1M"], check=True)
    backing = ["-b", lower, "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, upper], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 64k", upper], check=True)
    return upper, lower


@pytest.fixture
def lock(tmp_path):
    with locks.exclusive(tmp_path / ".lock", "a test") as held:
        yield held


def test_a_commit_reports_its_progress(pair, lock):
    seen: list[Progress] = []
    qemu_img.commit(*pair, lock=lock, progress=seen.append)
    assert seen[-1].phase == "merge"
    assert seen[-1].done == seen[-1].total


def test_a_check(pair, tmp_path):
    assert qemu_img.check(pair[0]) is None
    os.truncate(pair[0], 70000)
    assert qemu_img.check(pair[0])
    (tmp_path / "none").write_bytes(b"no image")
    assert qemu_img.check(tmp_path / "none")


def test_an_image_that_is_not_one(pair, lock):
    pair[0].write_bytes(b"no image")
    with pytest.raises(Damaged, match="commit failed"):
        qemu_img.commit(*pair, lock=lock, progress=silent)


def test_an_image_that_somebody_has_open(pair, lock, tmp_path):
    process = subprocess.Popen(
        ["qemu-nbd", "-f", "qcow2", "-k", tmp_path / "socket", "-r", pair[1]],
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (tmp_path / "socket").exists():
            time.sleep(0.01)
        with pytest.raises(Busy, match="another program"):
            qemu_img.commit(*pair, lock=lock, progress=silent)
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"No space left on device", OutOfSpace),
        (b"File too large", OutOfSpace),
        (b'Failed to get "write" lock', Busy),
        (b"Image is corrupt", Damaged),
    ],
)
def test_the_error_tells_what_to_do(text, kind):
    with pytest.raises(kind):
        qemu_img._judge(["qemu-img", "commit", "x"], 1, b"qemu-img: " + text)


def test_no_program(pair, lock, monkeypatch):
    monkeypatch.setattr(qemu_img, "PROGRAM", "qemu-img-that-is-not-there")
    with pytest.raises(Unsupported, match="not installed"):
        qemu_img.check(pair[0])
    with pytest.raises(Unsupported, match="not installed"):
        qemu_img.commit(*pair, lock=lock, progress=silent)
