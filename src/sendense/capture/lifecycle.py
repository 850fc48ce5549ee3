"""What happens to the machines of a host, as libvirt tells it while it happens.

Events are hints: one that falls into a restart of libvirtd is lost, so whoever listens looks
at the inventory too.  A migration is told apart by its detail: at its source the machine
*stops*, at its target it *starts*, and both say "migrated".
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable, Optional

import libvirt

from sendense.capture import connection as connections
from sendense.errors import SendenseError
from sendense.model.agent_status import EventKind

log = logging.getLogger(__name__)

_RETRY_S = 5.0

_DEFINED, _UNDEFINED, _STARTED, _SUSPENDED, _RESUMED, _STOPPED, _CRASHED = 0, 1, 2, 3, 4, 5, 8
_STARTED_MIGRATED = 1
_STOPPED_MIGRATED = 3
"""virDomainEventType and its details, by number: older bindings lack some names."""

Listener = Callable[[EventKind, str, str], None]
"""Gets what happened, the machine's UUID and its name."""


def kind_of(event: int, detail: int) -> Optional[EventKind]:
    """Give what a lifecycle event of libvirt means; none for what nobody needs to know."""
    if event == _STARTED:
        return EventKind.MIGRATED_HERE if detail == _STARTED_MIGRATED else EventKind.STARTED
    if event == _STOPPED:
        return EventKind.MIGRATED_AWAY if detail == _STOPPED_MIGRATED else EventKind.STOPPED
    if event in (_DEFINED, _UNDEFINED, _SUSPENDED, _RESUMED, _CRASHED):
        return EventKind.CHANGED
    return None


class LifecycleWatch:
    """Listens to one libvirt, and connects again whenever it went away."""

    def __init__(self, uri: str, listener: Listener) -> None:
        """Listen to nothing yet; ``listener`` is called on libvirt's thread and must be quick."""
        self._uri = uri
        self._listener = listener
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lifecycle", daemon=True)
        self.connected = False
        """Whether events would be heard now."""

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_RETRY_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._listen()
            except (SendenseError, libvirt.libvirtError) as error:
                log.debug("no events of libvirt: %s", error)
            except Exception:
                # Without this thread nobody would hear of a migration any more.
                log.exception("listening to libvirt failed")
            self.connected = False
            self._stop.wait(_RETRY_S)

    def _listen(self) -> None:
        connection = connections.connect(self._uri)
        try:
            numbers = [
                connection.domainEventRegisterAny(
                    None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None
                )
            ]
            for name in ("DEVICE_ADDED", "DEVICE_REMOVED"):
                event = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}")
                numbers.append(
                    connection.domainEventRegisterAny(None, event, self._on_device, None)
                )
            self.connected = True
            while not self._stop.wait(1.0) and connection.isAlive() == 1:
                pass
            for number in numbers:
                connection.domainEventDeregisterAny(number)
        finally:
            connections.close(connection)

    def _on_event(self, _connection: Any, domain: Any, event: int, detail: int, _: Any) -> None:
        kind = kind_of(event, detail)
        if kind is not None:
            self._tell(kind, domain)

    def _on_device(self, _connection: Any, domain: Any, _device: str, _: Any) -> None:
        self._tell(EventKind.CHANGED, domain)

    def _tell(self, kind: EventKind, domain: Any) -> None:
        try:
            self._listener(kind, domain.UUIDString(), domain.name())
        except libvirt.libvirtError as error:
            log.debug("an event of a machine that is gone: %s", error)
