"""Guards a running guest while a capture reads its disks.

Whatever the guest overwrites during a capture is first copied to the scratch
file.  If that cannot grow, QEMU **pauses the guest** (libvirt.md F1.6).  The
watchdog ends the capture before, or at the latest when that happens: it aborts
the job, which frees the scratch in milliseconds, and resumes the guest where
it was paused by an I/O error and by nothing else.

Three signs, because each alone misses cases: the free space of the scratch file
system (``disk_temp_used`` read 0 while it was full), libvirt's block threshold
event, and the state of the domain itself.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any, Callable, Optional

import libvirt

from sendense.capture.link import DomainLink, GuestOff
from sendense.errors import OutOfSpace, SendenseError, SourceChanged
from sendense.units import format_size

log = logging.getLogger(__name__)

_POLL_S = 0.5
_RETRY_S = 1.0
_ALERT_POLL_S = 0.05
"""Once a scratch file has taken half of its share of the room."""


class Watchdog:
    """Polls in a thread of its own; :attr:`verdict` is set once, when the capture is lost."""

    def __init__(
        self,
        link: DomainLink,
        *,
        scratch_dir: Path,
        reserve_bytes: int,
        abort: Callable[[], None],
    ) -> None:
        """Watch the domain behind ``link``; ``abort`` ends its backup job."""
        self._link = link
        self._scratch_dir = scratch_dir
        self._reserve_bytes = reserve_bytes
        self._abort = abort
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._poll_s = _POLL_S
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._events: Optional[tuple[Any, int]] = None
        self.verdict: Optional[SendenseError] = None

    def start(self, scratch_indexes: dict[str, str]) -> None:
        """Begin to watch; ``scratch_indexes`` are the job's scratch files in libvirt's words."""
        self._arm_thresholds(scratch_indexes)
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._events is not None:
            connection, number = self._events
            try:
                connection.domainEventDeregisterAny(number)
            except libvirt.libvirtError:
                log.debug("the event handler went with its connection")

    def check(self) -> None:
        """Raise the verdict, if there is one."""
        if self.verdict is not None:
            raise self.verdict

    def _arm_thresholds(self, scratch_indexes: dict[str, str]) -> None:
        """Have libvirt tell when a scratch file passes half of its share of the room left."""
        room = free_bytes(self._scratch_dir) - self._reserve_bytes
        share = max(room // max(len(scratch_indexes), 1) // 2, 1)
        try:
            connection = self._link.connection()
            number = connection.domainEventRegisterAny(
                self._link.call("looking at the domain", lambda domain: domain),
                libvirt.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD,
                self._on_threshold,
                None,
            )
            self._events = (connection, number)
            devices = [f"{target}[{index}]" for target, index in scratch_indexes.items()]

            def arm(domain: Any) -> None:
                for device in devices:
                    domain.setBlockThreshold(device, share, 0)

            self._link.call("setting scratch thresholds", arm)
        except (SendenseError, libvirt.libvirtError) as error:
            # Polling below covers it; the event only makes it quicker.
            log.info("no threshold event on this host (%s); polling only", error)

    def _on_threshold(self, *arguments: Any) -> None:
        log.debug("scratch threshold reached: %s", arguments[2:5])
        self._poll_s = _ALERT_POLL_S
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(self._poll_s)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                verdict = self._look()
            except SendenseError as error:
                log.warning("the watchdog cannot see: %s", error)
                continue
            except Exception as error:
                # A guest is never left without its watch: then rather without its backup.
                log.exception("the watchdog failed")
                verdict = SendenseError(f"the watchdog failed, so the capture was ended: {error}")
            if verdict is not None:
                self._give_up(verdict)
                return

    def _look(self) -> Optional[SendenseError]:
        """Decide whether the capture has to end, and why."""
        free = free_bytes(self._scratch_dir)
        if free < self._reserve_bytes:
            return OutOfSpace(
                f"only {format_size(free)} are left for scratch in {self._scratch_dir}, "
                f"the reserve is {format_size(self._reserve_bytes)}; the capture was ended "
                "so that the guest is not paused",
                hint="free space there, set scratch_dir to a larger local disk, "
                "or run while the guest writes less",
            )
        state = self._state()
        if state is None:
            return SourceChanged(
                "the guest stopped during the capture",
                hint="run it again: a stopped machine can be captured too",
            )
        if paused_by_io_error(state):
            return OutOfSpace(
                "the guest was paused by an I/O error during the capture; it was resumed",
                hint="check the free space of scratch_dir and of the guest's storage",
            )
        return None

    def _state(self) -> Optional[tuple[int, int]]:
        try:
            state, reason = self._link.call("reading the state", lambda domain: domain.state(0))
        except GuestOff:
            return None
        gone = state in (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED)
        return None if gone else (state, reason)

    def _give_up(self, verdict: SendenseError) -> None:
        log.warning("ending the capture: %s", verdict)
        self.verdict = verdict
        while not self._stop.is_set():
            try:
                self._abort()
            except GuestOff:
                return
            except Exception:
                # Without libvirt nobody can end the job, so there is nothing better to do.
                log.exception("ending the backup job failed; trying again")
                self._stop.wait(_RETRY_S)
            else:
                return


def paused_by_io_error(state: tuple[int, int]) -> bool:
    """Tell the one pause that a capture can cause from all the others."""
    return state == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR)


def resume_if_paused(link: DomainLink) -> bool:
    """Resume a guest that an I/O error paused; any other pause is somebody's wish."""

    def act(domain: Any) -> bool:
        if not paused_by_io_error(tuple(domain.state(0))):
            return False
        domain.resume()
        return True

    resumed = link.call("resuming the guest", act)
    if resumed:
        log.warning("the guest was paused by an I/O error and has been resumed")
    return resumed


def free_bytes(folder: Path) -> int:
    """Give the bytes that an ordinary process may still write in a folder."""
    usage = os.statvfs(folder)
    return usage.f_bavail * usage.f_frsize
