"""Proves that a stopped machine was not touched while its disks were read.

The reading of a stopped machine keeps nobody out (see
:mod:`~sendense.capture.servers`), so the machine may be started at any time, here
or on another host, or a tool may write one of its images.  What was read is then
worth nothing and must be thrown away.  Two signs tell:

* every write changes an image's times.  A start shows even before the guest
  writes: QEMU marks the bitmaps in the image as in use, libvirt changes its owner
  (measured: mtime of each tracked image, ctime of each image).  The file is opened
  for the look, because that is when NFS asks the server for its newest state;
* libvirt on this host shows the machine as active, asked a few times a second.  For
  block devices, which have no such times, it is the only sign.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

import libvirt

from sendense import clock
from sendense.capture import connection as connections
from sendense.errors import NotFound, SendenseError, SourceChanged
from sendense.model.machine import Machine

log = logging.getLogger(__name__)

_POLL_S = 0.1
_PATIENCE_S = 1.0
"""Between two tries to reach a libvirt that does not answer."""

_JOIN_S = 5.0
"""libvirt answers late while it starts a machine (0.4 s seen); a hung one is left behind."""

_REFRESH_S = 0.005
"""A look is not repeated within this time.  From QEMU's opening of an image to the first
instruction of its guest more passes (measured: 80 ms and up), so no read can slip between."""

_NO_DOMAIN = 42


@dataclass(frozen=True)
class Fingerprint:
    """What changes with every write to a file."""

    device: int
    inode: int
    size: int
    written_ns: int
    changed_ns: int


def fingerprint(path: str, *, top: bool = True) -> Optional[Fingerprint]:
    """Take the fingerprint of an image; block devices have none.

    Of a backing file (not ``top``) the change of owner is left out: that is done to a
    template whenever another machine starts from it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(f"the image {path} cannot be opened: {error.strerror}") from error
    try:
        facts = os.fstat(handle)
    finally:
        os.close(handle)
    if stat.S_ISBLK(facts.st_mode):
        return None
    changed = facts.st_ctime_ns if top else 0
    return Fingerprint(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, changed)


def fingerprints(chains: Iterable[tuple[str, ...]]) -> dict[str, Fingerprint]:
    """Take the fingerprints of all files of some chains, each top first."""
    found: dict[str, Fingerprint] = {}
    for chain in chains:
        for level, path in enumerate(chain):
            # What is neither a file nor a device has a name that is no path.
            taken = fingerprint(path, top=level == 0) if path.startswith("/") else None
            if taken is not None:
                found.setdefault(path, taken)
    return found


class Stillness:
    """The watch over one machine, from the fingerprints on to the end."""

    def __init__(self, machine: Machine, chains: Iterable[tuple[str, ...]], *, uri: str) -> None:
        """Watch nothing yet."""
        self._machine = machine
        self._chains = tuple(chains)
        self._uri = uri
        self._before: Mapping[str, Fingerprint] = {}
        self._looked = 0.0
        self._failure: Optional[SourceChanged] = None
        self._connection: Optional[libvirt.virConnect] = None
        self._end = threading.Event()
        self._thread: Optional[threading.Thread] = None

    @property
    def broken(self) -> bool:
        """Tell whether the machine was seen to be touched."""
        return self._failure is not None

    def ask(self) -> Optional[bool]:
        """Ask libvirt whether the machine is active; ``None`` where it cannot be asked."""
        try:
            if self._connection is None:
                self._connection = connections.connect(self._uri)
            return _active(self._connection, self._machine)
        except (SendenseError, libvirt.libvirtError) as error:
            log.debug("libvirt cannot say whether %s runs: %s", self._machine.name, error)
            self._drop_connection()
            return None

    def begin(self) -> None:
        """Take the fingerprints, and watch from now on."""
        self._before = fingerprints(self._chains)
        self._thread = threading.Thread(target=self._watch, name="stillness", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise :class:`SourceChanged` where the machine was touched since :meth:`begin`."""
        if self._failure is None and clock.monotonic() - self._looked > _REFRESH_S:
            self._look()
        if self._failure is not None:
            raise self._failure

    def end(self) -> None:
        """Watch no longer; may be repeated."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        if self._thread is None or not self._thread.is_alive():
            self._drop_connection()

    def _look(self) -> None:
        self._looked = clock.monotonic()
        try:
            now = fingerprints(self._chains)
        except NotFound as error:
            self._break(str(error), "image-gone")
            return
        changed = sorted(path for path, taken in self._before.items() if now.get(path) != taken)
        if changed:
            self._break(f"{', '.join(changed)} was written or changed hands", "image-changed")

    def _watch(self) -> None:
        pause_s = _POLL_S
        while not self._end.wait(pause_s):
            active = self.ask()
            if active:
                self._break("libvirt has it running or starting", "instance-starting")
                return
            pause_s = _PATIENCE_S if active is None else _POLL_S

    def _break(self, what: str, reason: str) -> None:
        if self._failure is None:
            log.info("%s did not stay off: %s", self._machine.name, what)
            self._failure = SourceChanged(
                f"the machine {self._machine.name} did not stay off while it was read: {what}",
                hint="run the backup again; it will read the machine as it is then",
                reason=reason,
            )

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connections.close(connection)


def _active(connection: libvirt.virConnect, machine: Machine) -> bool:
    """Ask by UUID, then by name: a machine may be defined again under a new UUID."""
    for look_up, key in (
        (connection.lookupByUUIDString, machine.uuid),
        (connection.lookupByName, machine.name),
    ):
        try:
            if look_up(key).isActive():
                return True
        except libvirt.libvirtError as error:
            if error.get_error_code() != _NO_DOMAIN:
                raise
    return False
