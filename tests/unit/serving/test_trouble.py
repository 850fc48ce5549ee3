"""What goes wrong is told once for each place, and summed up."""

from __future__ import annotations

import logging

import pytest

from sendense.errors import Damaged, Unavailable
from sendense.serving import trouble as module
from sendense.serving.trouble import BadRange, Trouble, Troubles, read_trouble


@pytest.fixture
def troubles(tmp_path):
    return Troubles(tmp_path, "p1")


def _damage(offset):
    return Damaged(f"bad at {offset}", offset=offset, length=65536)


def test_damage_is_told_once_for_each_place(troubles, tmp_path, caplog):
    with caplog.at_level(logging.ERROR, logger="sendense"):
        for request in (0, 4096, 8192):
            troubles.note("vda", request, 4096, _damage(0))
        troubles.note("vdb", 0, 4096, _damage(0))
    assert len(caplog.records) == 2
    assert "point p1, disk vda, offset 0, 65536 bytes" in caplog.text
    found = read_trouble(tmp_path)
    assert found.damaged == (
        BadRange("vda", 0, 65536, "bad at 0"),
        BadRange("vdb", 0, 65536, "bad at 0"),
    )
    error = found.error("p1")
    assert isinstance(error, Damaged)
    assert "vda at 0+65536" in error.message


def test_much_damage_is_counted(troubles, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "_MOST", 3)
    for number in range(10):
        troubles.note("vda", number, 1, _damage(number * 65536))
    troubles.flush()
    found = read_trouble(tmp_path)
    assert (len(found.damaged), found.more) == (3, 7)
    assert "and 7 more" in str(found.error("p1"))
    assert len(caplog.records) == 3


def test_other_failures_are_counted_and_the_last_is_told(troubles, tmp_path):
    for _ in range(5):
        troubles.note("vda", 0, 1, Unavailable("the store is away"))
    troubles.note("vda", 0, 1, OSError(28, "No space left on device"))
    troubles.flush()
    found = read_trouble(tmp_path)
    assert (found.failed, found.damaged) == (6, ())
    error = found.error("p1")
    assert isinstance(error, Unavailable)
    assert "6 requests" in error.message
    assert "No space left" in error.message


def test_an_error_that_nobody_foresaw_comes_with_its_traceback(troubles, caplog):
    troubles.note("vda", 0, 1, ZeroDivisionError("a bug"))
    assert caplog.records[0].exc_info


def test_nothing_went_wrong(troubles, tmp_path):
    troubles.flush()
    assert list(tmp_path.iterdir()) == []
    assert not read_trouble(tmp_path)
    assert Trouble().error("p1") is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"damaged": [{}]}', '{"damaged": [], "x": 1}'])
def test_a_summary_that_cannot_be_read_is_none(tmp_path, text):
    (tmp_path / module.FILE).write_text(text)
    assert read_trouble(tmp_path) == Trouble()


def test_a_summary_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    troubles = Troubles(tmp_path / "gone", "p1")
    troubles.note("vda", 0, 1, _damage(0))
    assert "is not kept" in caplog.text
