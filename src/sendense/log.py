"""Logging: one line per event an operator would put in a timeline.

``info`` is the timeline, ``debug`` is per request, ``warning`` is what the
operator should look at.  Each line carries the run it belongs to (job and
instance), set once with :func:`context` and inherited by the threads that the
run starts through :func:`contextvars.copy_context`.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_RUN: ContextVar[str] = ContextVar("run", default="-")

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s [%(run)s] %(message)s"


class _RunFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.run = _RUN.get()
        return True


@contextmanager
def context(run: str) -> Iterator[None]:
    """Mark every log line inside with ``run``, for example ``backup i-2-10-VM``."""
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


def configure(*, level: int, syslog: bool = False) -> None:
    """Send log lines to standard error, or to syslog; called by entry points only."""
    handler: logging.Handler
    if syslog:
        handler = logging.handlers.SysLogHandler(address="/dev/log")
        handler.setFormatter(logging.Formatter("sendense: %(levelname)s [%(run)s] %(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(_FORMAT))
    handler.addFilter(_RunFilter())
    root = logging.getLogger("sendense")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
