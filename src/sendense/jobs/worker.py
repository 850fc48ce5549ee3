"""A worker: a process, or a part of the server's, that carries jobs out.

``sendense worker`` is :func:`run_worker` on any machine that reaches the database.  A worker has a
name; two processes on one machine cannot have the same, and of two machines the later one wins.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sendense import __version__, clock
from sendense.catalog.catalog import Catalog
from sendense.errors import Busy, NotAllowed, SendenseError
from sendense.jobs import durable, flows
from sendense.jobs.durable import Engine
from sendense.jobs.execution import Execution
from sendense.jobs.handlers import JobHandlers
from sendense.jobs.keeper import Keeper
from sendense.jobs.settings import JobSettings
from sendense.model.running import Worker

_LOG = logging.getLogger(__name__)
_TAKE_BACK_S = 20.0
"""For handlers that were broken off: to take back what is half done."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is started with."""

    name: str
    database_url: str
    state_folder: Path
    """For the lock on its name."""
    jobs: JobSettings = field(default_factory=JobSettings)


class JobWorker:
    """Carries jobs out, in threads of this process; there can be one in a process."""

    def __init__(self, settings: WorkerSettings, catalog: Catalog, handlers: JobHandlers) -> None:
        """Prepare; nothing is carried out before :meth:`start`."""
        self._settings = settings
        self._catalog = catalog
        now = clock.now()
        self.worker = Worker(
            name=settings.name,
            incarnation=secrets.token_hex(8),
            slots=settings.jobs.slots,
            version=__version__,
            flows=durable.WORKFLOW_VERSION,
            started_at=now,
            seen_at=now,
        )
        self.keeper = Keeper(catalog, self.worker, settings.jobs)
        self._engine = Engine(settings.database_url, settings.name, self.worker.incarnation)
        flows.use(Execution(catalog, self.keeper, handlers, settings.jobs))

    def start(self) -> None:
        """Carry out what is given to it from now on."""
        self.keeper.start()
        self._engine.start()
        _LOG.info("the worker %s takes %d jobs at once", self.worker.name, self.worker.slots)

    def stop(self) -> None:
        """End in order: jobs may end by themselves for a while, then they are broken off.

        Another worker goes on with those at once.
        """
        with suppress(SendenseError):  # without the database nothing is given to it anyway
            self._catalog.workers.resize(self.worker.name, self.worker.incarnation, 0)
        self._wait(self._settings.jobs.drain_s)
        self.keeper.leaving = True
        self._wait(_TAKE_BACK_S)
        if self.keeper.held:
            _LOG.warning("broken off: %s", ", ".join(self.keeper.held))
        self._engine.stop()
        self.keeper.stop()
        _LOG.info("the worker %s has stopped", self.worker.name)

    def _wait(self, patience_s: float) -> None:
        end = clock.monotonic() + patience_s
        while self.keeper.held and clock.monotonic() < end:
            clock.sleep(0.1)


def run_worker(settings: WorkerSettings, catalog: Catalog, handlers: JobHandlers) -> None:
    """Be a worker until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    durable.prepare(settings.database_url)
    with only_one_named(settings.name, settings.state_folder):
        worker = JobWorker(settings, catalog, handlers)
        worker.start()
        while not ended.wait(1.0):
            if worker.keeper.replaced:
                raise NotAllowed(
                    f"another machine runs a worker named {settings.name!r}",
                    hint="give each worker a name of its own",
                )
        worker.stop()


@contextmanager
def only_one_named(name: str, folder: Path) -> Iterator[None]:
    """Refuse a second worker of a name on this machine."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"worker-{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Busy(f"a worker named {name!r} runs on this machine already") from None
    finally:
        os.close(descriptor)
