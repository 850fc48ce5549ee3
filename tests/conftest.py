"""For all tests: the same signals however they are started, the log as it was, no files left."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.open_files import OpenFilesWatch

_SLOW_S = 900

settings.register_profile(
    "loaded machine",
    # Where this is a build service it is Hypothesis' profile for one: the same examples each time.
    parent=settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("loaded machine")


def pytest_configure() -> None:
    """Let children hear what this run is told to ignore: a hang-up under ``nohup``, and SIGINT
    in the background of a script.

    An ignored signal stays ignored in every program that is started; one with a handler is its
    default there.  The run itself goes on as before.
    """
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what is slow more time than the rest: it takes several times as long beside others."""
    for item in items:
        slow = item.get_closest_marker("slow") or item.get_closest_marker("vm")
        if slow and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_SLOW_S))


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo what a command or an agent inside of this process makes of the log."""
    logger = logging.getLogger("sendense")
    level, propagate, handlers = logger.level, logger.propagate, logger.handlers[:]
    yield
    logger.setLevel(level)
    logger.propagate = propagate
    logger.handlers[:] = handlers


class _Watching:
    """Has the open files counted; a run that leaves many open has failed."""

    def __init__(self) -> None:
        self._watch = OpenFilesWatch()
        self._complaint = ""

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Count after each test."""
        self._watch.look(nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge, when all fixtures are gone."""
        self._complaint = self._watch.complaint()
        if self._complaint and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say so, before the last line."""
        if self._complaint:
            terminalreporter.section("open files", red=True)
            terminalreporter.write_line(self._complaint)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to count when all is imported."""
    session.config.pluginmanager.register(_Watching())
