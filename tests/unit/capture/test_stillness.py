"""Fingerprints of images: what shows a write, and what is none."""

from __future__ import annotations

import os
import time

import pytest

from sendense.capture.stillness import Stillness, fingerprint, fingerprints
from sendense.errors import NotFound, SourceChanged
from tests.support.builders import a_machine

NOWHERE = "qemu+unix:///system?socket=/nonexistent"


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    time.sleep(0.01)  # the clock of file times ticks every 4 ms
    return path


def overwrite(path):
    with path.open("r+b") as file:
        file.write(b"x")


def overwrite_and_set_the_time_back(path):
    facts = path.stat()
    overwrite(path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def replace_by_a_copy(path):
    facts = path.stat()
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    copy.rename(path)


TOUCHES = [
    overwrite,
    overwrite_and_set_the_time_back,
    replace_by_a_copy,
    lambda path: os.truncate(path, 8192),
    lambda path: path.chmod(0o600 if path.stat().st_mode & 0o077 else 0o644),
]


@pytest.mark.parametrize("touch", TOUCHES)
def test_whatever_touches_an_image_shows(image, touch):
    before = fingerprint(str(image))
    touch(image)
    assert fingerprint(str(image)) != before


def test_reading_does_not_show(image):
    before = fingerprint(str(image))
    image.read_bytes()
    assert fingerprint(str(image)) == before


def test_another_owner_of_a_template_does_not_show_but_a_write_does(image):
    before = fingerprint(str(image), top=False)
    image.chmod(0o600)
    assert fingerprint(str(image), top=False) == before
    overwrite(image)
    assert fingerprint(str(image), top=False) != before


def test_devices_have_none_and_names_that_are_no_paths_are_left_out(image):
    taken = fingerprints([(str(image), "json:{}"), ("pool/volume",)])
    assert list(taken) == [str(image)]


def test_a_missing_image_says_so(tmp_path):
    with pytest.raises(NotFound, match="cannot be opened"):
        fingerprint(str(tmp_path / "missing"))


@pytest.mark.parametrize("touch", [*TOUCHES, lambda path: path.unlink()])
def test_the_watch_ends_a_capture_for_good(image, touch):
    stillness = Stillness(a_machine(), [(str(image),)], uri=NOWHERE)
    assert stillness.ask() is None
    stillness.begin()
    try:
        stillness.check()
        assert not stillness.broken
        touch(image)
        time.sleep(0.01)
        for _ in range(2):
            with pytest.raises(SourceChanged, match="did not stay off") as caught:
                stillness.check()
        assert caught.value.retryable
        assert stillness.broken
    finally:
        stillness.end()
        stillness.end()
