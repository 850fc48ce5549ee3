"""Tables: nothing is ever cut; a narrow terminal goes without minor columns."""

from __future__ import annotations

import pytest

from tests.support.builders import a_point
from tests.unit.cli.stage import Stage

TAKEN = "2026-01-01 12:00:00 UTC"


@pytest.fixture
def listed(stage: Stage, capsys, monkeypatch):
    def show(columns: int | None) -> list[str]:
        if columns is not None:
            monkeypatch.setenv("COLUMNS", str(columns))
        stage.add(a_point("01a206f5019164340b90", 1))
        assert stage.run("points", "list", "-r", "mem") == 0
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return show


@pytest.mark.parametrize("columns", [40, 80, 100, 120, 200, None])
def test_nothing_is_cut(listed, columns):
    head, row = listed(columns)
    assert head.startswith("point")
    for whole in ("01a206f5019164340b90", "i-2-10-VM", TAKEN, "complete"):
        assert whole in row


def test_a_narrow_terminal_goes_without_minor_columns(listed):
    assert len(max(listed(80), key=len)) <= 80
    for title in ("disks", "size", "consistency"):
        assert title not in listed(70)[0]
    assert "consistency" in listed(120)[0]


@pytest.mark.parametrize("columns", [200, None])
def test_a_wide_terminal_and_a_pipe_have_all(listed, columns):
    for title in ("mode", "disks", "size", "consistency", "warnings"):
        assert title in listed(columns)[0]
