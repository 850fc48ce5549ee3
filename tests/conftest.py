"""For all tests: the same signals however they are started, and the log as it was."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """Let children hear what this run is told to ignore: a hang-up under ``nohup``, and SIGINT
    in the background of a script.

    An ignored signal stays ignored in every program that is started; one with a handler is its
    default there.  The run itself goes on as before.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo what a command or an agent inside of this process makes of the log."""
    logger = logging.getLogger("sendense")
    level, propagate, handlers = logger.level, logger.propagate, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.propagate = propagate
    logger.handlers[:] = handlers
