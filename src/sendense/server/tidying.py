"""Forgetting what is old in the catalogue, once an hour."""

from __future__ import annotations

import logging
import threading

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.catalog.tidying import tidy
from sendense.errors import SendenseError

log = logging.getLogger(__name__)

_EVERY_S = 3600.0


class Tidier:
    """Tidies a catalogue, again and again, until it is stopped."""

    def __init__(self, catalog: Catalog, *, every_s: float = _EVERY_S) -> None:
        """Tidy every so many seconds."""
        self._catalog = catalog
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way is waited for."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                log.debug("forgotten: %s", tidy(self._catalog, clock.now()))
            except SendenseError as error:
                log.warning("the catalogue is not tidied: %s", error)
            self._stop.wait(self._every_s)
