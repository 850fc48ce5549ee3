"""A machine has to stay off while its disks are overwritten.

``qemu-nbd`` locks the files that it may write, so that a start of their machine fails.  For block
devices that does not hold: a lock belongs to a device's node, and libvirt gives each machine a
``/dev`` of its own (measured: by another node of the device, its machine starts beside a writable
``qemu-nbd``).  Guest and worker would write over each other.  So libvirt is asked a few times a
second, as for captures of machines that are off, and the writing ends when it shows the machine.

A start that a lock is about to refuse shows for a moment too.  Where all places have locks, it is
given the time to fail.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Callable, Optional

from sendense import clock
from sendense.capture.stillness import Stillness
from sendense.errors import Rejected
from sendense.model.machine import Machine, PowerState

_POLL_S = 0.1
_REFUSAL_S = 3.0
"""For a start that a lock refuses to fail (0.4 s seen)."""
_JOIN_S = 5.0


class KeptOff:
    """The watch over one machine, in a ``with`` block."""

    def __init__(
        self,
        machine: Machine,
        *,
        uri: str,
        locked: bool,
        on_start: Callable[[Rejected], None],
    ) -> None:
        """Watch nothing yet; ``locked`` where all its disks have locks that keep it off."""
        self._name = machine.name
        self._source = Stillness(machine, (), uri=uri)
        self._grace_s = _REFUSAL_S if locked else 0.0
        self._on_start = on_start
        self._failure: Optional[Rejected] = None
        self._asking = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kept-off", daemon=True)

    def __enter__(self) -> KeptOff:
        """Watch from now on."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Watch no longer."""
        self._end.set()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            self._source.end()

    def check(self) -> None:
        """Look now; raises where the machine was started since the watch began."""
        if self._failure is None and self._runs():
            self._fail()
        if self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        while not self._end.wait(_POLL_S):
            if self._runs():
                self._on_start(self._fail())
                return

    def _runs(self) -> bool:
        """Ask libvirt; one that does not answer starts nothing either."""
        deadline = clock.monotonic() + self._grace_s
        while self._active():
            if clock.monotonic() >= deadline:
                return True
            if self._end.wait(_POLL_S):
                return False
        return False

    def _active(self) -> bool:
        with self._asking:
            return bool(self._source.ask())

    def _fail(self) -> Rejected:
        if self._failure is None:
            self._failure = Rejected(
                f"the machine {self._name} was started while its disks were overwritten: "
                "they are half restored",
                hint="stop it, and repeat the restore",
            )
        return self._failure


def unknown_machine(uuid: str) -> Machine:
    """Describe a machine that libvirt has forgotten, as it does with transient ones that stop."""
    return Machine(uuid, uuid, PowerState.STOPPED, False, (), 0, 0)
