"""Work beside other work: begun at once, waited for, its errors raised where it is asked for."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from sendense.repository.dedup.ahead import beside

PATIENCE_S = 20.0


def test_it_runs_while_the_block_runs():
    met = threading.Barrier(2)

    def work():
        met.wait(PATIENCE_S)
        return "done"

    with beside(work) as result:
        met.wait(PATIENCE_S)
        assert result() == "done"


def test_what_it_raises_is_raised_where_it_is_asked_for():
    def work():
        raise LookupError("nothing there")

    with beside(work) as result, pytest.raises(LookupError, match="nothing there"):
        result()


def test_the_block_that_breaks_off_still_waits_for_it():
    going_on, ended = threading.Event(), []

    def work():
        assert going_on.wait(PATIENCE_S)
        ended.append(True)

    def broken_off():
        with beside(work):
            going_on.set()
            raise LookupError("of the block")

    with pytest.raises(LookupError, match="of the block"):
        broken_off()
    assert ended


def test_it_belongs_to_the_run_that_asked():
    run: ContextVar[str] = ContextVar("run")
    run.set("nightly")
    with beside(run.get) as result:
        assert result() == "nightly"
