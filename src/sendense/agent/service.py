"""What the service manager is told: that the agent serves, that it lives, that it ends.

systemd's protocol is a line of text to a unix socket that it names in the environment.  It
starts what waits for the agent when it hears ``READY=1``, and kills and restarts an agent from
which no ``WATCHDOG=1`` came for ``WatchdogSec``.  Without systemd nobody listens, and all of it
does nothing.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import MutableMapping
from typing import Optional

from sendense import clock

log = logging.getLogger(__name__)


class SystemdNotifier:
    """A :class:`~sendense.agent.faces.Notifier`."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take the socket's name out of the environment: programs we start shall not have it."""
        self._address = _address_of(environment.pop("NOTIFY_SOCKET", ""))
        self._every_s = _watchdog_s(environment)
        self._alive_at: Optional[float] = None
        self._status = ""
        self._sending = threading.Lock()

    @classmethod
    def of_process(cls) -> SystemdNotifier:
        """Tell the manager that started this process."""
        return cls(os.environ)

    @property
    def wanted(self) -> bool:
        """Whether somebody listens."""
        return self._address is not None

    def ready(self) -> None:
        """Say that the agent serves, at first and after a reload."""
        self._send("READY=1")

    def alive(self) -> None:
        """Say that it is not stuck, as often as the manager wants to hear it."""
        if self._every_s is None:
            return
        now = clock.monotonic()
        if self._alive_at is None or now - self._alive_at >= self._every_s:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the settings are read again; :meth:`ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(clock.monotonic() * 1_000_000)}")

    def stopping(self) -> None:
        """Say that it ends."""
        self._send("STOPPING=1\nSTATUS=ending: guests are freed first")

    def status(self, text: str) -> None:
        """Have ``systemctl status`` show a line."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with self._sending, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                # A manager that does not read must not hold the agent up.
                connection.settimeout(1.0)
                connection.sendto(message.encode(), self._address)
        except OSError as error:
            # It goes on all the same; the watchdog decides if that matters.
            log.warning("the service manager cannot be told: %s", error)


def _address_of(name: str) -> Optional[str]:
    # An '@' stands for the zero byte of an abstract name.
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_s(environment: MutableMapping[str, str]) -> Optional[float]:
    """Give how often the manager is told: three times in the time after which it kills."""
    pid = environment.pop("WATCHDOG_PID", "")
    text = environment.pop("WATCHDOG_USEC", "")
    if not text.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000 / 3
