"""The settings in force, read again on SIGHUP and when their file changes.

A file that is wrong changes nothing: the agent goes on with what it has, and says so in its
health until the file is mended.  What cannot change while the agent runs keeps its value, and
is named.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from sendense.agent.settings import AgentSettings, keep_fixed, load_settings, needs_restart
from sendense.errors import SendenseError
from sendense.model.agent_status import HealthCheck, Level

log = logging.getLogger(__name__)

Signature = tuple[int, int, int]
"""What changes when a file does."""


class LiveSettings:
    """The settings of a running agent; also a source of its health."""

    def __init__(self, file: Path) -> None:
        """Read the file; one that is wrong raises, as there is nothing to go on with."""
        self._file = file
        self._lock = threading.Lock()
        self._seen = _signature(file)
        self._current = load_settings(file)
        self._wrong: Optional[SendenseError] = None
        self._waiting: tuple[str, ...] = ()
        self._listeners: list[Callable[[AgentSettings], None]] = []

    def __call__(self) -> AgentSettings:
        """Give the settings in force."""
        return self._current

    def on_change(self, listener: Callable[[AgentSettings], None]) -> None:
        """Call ``listener`` with new settings."""
        self._listeners.append(listener)

    def look(self) -> bool:
        """Read the file again if it changed; gives whether it was read."""
        if _signature(self._file) == self._seen:
            return False
        self.reload()
        return True

    def reload(self) -> None:
        """Read the file again."""
        with self._lock:
            self._seen = _signature(self._file)
            try:
                wanted = load_settings(self._file)
            except SendenseError as error:
                self._wrong = error
                log.warning("the settings stay as they are: %s", error)
                return
            self._wrong = None
            self._waiting = needs_restart(self._current, wanted)
            new = keep_fixed(self._current, wanted)
            changed = new != self._current
            self._current = new
        if self._waiting:
            log.warning("takes effect with the next start: %s", ", ".join(self._waiting))
        if changed:
            log.info("new settings are in force")
            for listener in self._listeners:
                listener(new)

    def checks(self, settings: AgentSettings) -> tuple[HealthCheck, ...]:
        """Say whether the file is what is in force."""
        if self._wrong is not None:
            message = f"the file is wrong, the settings before it are in force: {self._wrong}"
            return (HealthCheck("settings", Level.WARNING, message, self._wrong.hint),)
        if self._waiting:
            message = f"takes effect with the next start: {', '.join(self._waiting)}"
            hint = "systemctl restart sendense-capture"
            return (HealthCheck("settings", Level.WARNING, message, hint),)
        return (HealthCheck("settings", Level.OK, f"{self._file} is in force"),)


def _signature(file: Path) -> Optional[Signature]:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns
