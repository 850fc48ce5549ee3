"""Durable jobs as a part of the server: a dispatcher, and a worker beside it where it is wanted."""

from __future__ import annotations

import secrets
import threading
from contextlib import ExitStack

from sendense.catalog.catalog import Catalog
from sendense.jobs.dispatcher import Dispatcher
from sendense.jobs.durable import Mailboxes, prepare
from sendense.jobs.handlers import JobHandlers
from sendense.jobs.worker import JobWorker, WorkerSettings, only_one_named


class JobService:
    """Started with the server, and stopped with it."""

    def __init__(
        self, settings: WorkerSettings, catalog: Catalog, handlers: JobHandlers | None
    ) -> None:
        """Prepare; without handlers it dispatches only, for workers elsewhere."""
        prepare(settings.database_url)
        self._mailboxes = Mailboxes(settings.database_url)
        name = f"{settings.name}-{secrets.token_hex(4)}"
        self._dispatcher = Dispatcher(catalog, self._mailboxes, settings.jobs, name)
        self._settings = settings
        self._worker = None if handlers is None else JobWorker(settings, catalog, handlers)
        self._name = ExitStack()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._dispatcher.run, args=(self._stop,), name="job-dispatcher", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        if self._worker is not None:
            lock = only_one_named(self._settings.name, self._settings.state_folder)
            self._name.enter_context(lock)
            self._worker.start()
        self._thread.start()

    def wake(self) -> None:
        """Say that a job was submitted: it is looked at now, not in half a second."""
        self._dispatcher.wake()

    def stop(self) -> None:
        """End in order; jobs that run here go on at another worker, or after the next start."""
        self._stop.set()
        self._dispatcher.wake()
        self._thread.join()
        if self._worker is not None:
            self._worker.stop()
        self._name.close()
        self._mailboxes.close()
