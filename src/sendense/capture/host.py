"""One KVM host as the workflows see it: its machines, and captures of them.

The wiring of this package: workflows call this class, and need not know which
kind of capture a machine gets.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Optional, Union

import libvirt

from sendense import __version__
from sendense.capture import connection as connections
from sendense.capture.domains import (
    find_domain,
    list_machines,
    machine_from_text,
    machine_of,
    read_xml_file,
)
from sendense.capture.journal import JournalEntry
from sendense.capture.offline import OfflineCapture
from sendense.capture.online import OnlineCapture
from sendense.capture.session import HostSettings
from sendense.capture.survey import backup_by_versions, survey_running, survey_stopped
from sendense.model.machine import Machine, PowerState
from sendense.model.plan import CapturePlan
from sendense.model.survey import Survey


class Host:
    """The libvirt of this host, connected when first needed."""

    def __init__(self, settings: HostSettings) -> None:
        """Connect to nothing yet."""
        self.settings = settings
        self.name = socket.gethostname()
        self.versions = f"sendense {__version__}"
        """Our version; libvirt's and QEMU's too once they were reached."""
        self._connection: Optional[libvirt.virConnect] = None
        self._connecting = threading.Lock()
        self._definitions: dict[str, str] = {}
        """XML of the machines that were given as a file, by UUID."""

    def __enter__(self) -> Host:
        """Do nothing: the connection is made when needed."""
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Close the connection."""
        if self._connection is not None:
            connections.close(self._connection)
            self._connection = None

    @property
    def connection(self) -> libvirt.virConnect:
        """Give the open libvirt connection; a dead one is replaced."""
        with self._connecting:
            if self._connection is not None and not _alive(self._connection):
                connections.close(self._connection)
                self._connection = None
            if self._connection is None:
                self._connection = connections.connect(self.settings.uri)
                with connections.errors("asking for versions"):
                    daemon = _dotted(self._connection.getLibVersion())
                    qemu = _dotted(self._connection.getVersion())
                self.versions = f"sendense {__version__}, libvirt {daemon}, QEMU {qemu}"
            return self._connection

    def incremental(self) -> bool:
        """Tell whether libvirt and the installed QEMU offer incremental backup."""
        connection = self.connection
        with connections.errors("asking for versions"):
            return backup_by_versions(connection.getLibVersion(), connection.getVersion())

    def machines(self) -> tuple[Machine, ...]:
        """List all machines that libvirt knows, by name."""
        return list_machines(self.connection)

    def find(self, name: str) -> Machine:
        """Give the machine with that name or UUID."""
        return machine_of(find_domain(self.connection, name))

    def from_xml(self, path: Path) -> Machine:
        """Give a machine that is off, by its XML."""
        return self.from_text(read_xml_file(path), source=str(path))

    def from_text(self, xml: str, *, source: str) -> Machine:
        """Give a machine that is off, by its XML; ``source`` names that in errors."""
        machine = self.described(xml, source=source)
        self._definitions[machine.uuid] = xml
        return machine

    def described(self, xml: str, *, source: str) -> Machine:
        """Give the machine that an XML describes, to look at it: no capture gets that XML."""
        return machine_from_text(xml, source=source)

    def forget(self, uuid: str) -> None:
        """Forget the XML that a machine was given by."""
        self._definitions.pop(uuid, None)

    def survey(self, machine: Machine) -> Survey:
        """Look at a machine's disks; changes nothing."""
        if machine.power is PowerState.STOPPED:
            return survey_stopped(machine)
        with connections.errors("looking at the machine"):
            domain = self.connection.lookupByUUIDString(machine.uuid)
        return survey_running(domain)

    def start_known(self, uuid: str) -> None:
        """Start a machine that libvirt keeps."""
        with connections.errors("starting the machine"):
            self.connection.lookupByUUIDString(uuid).create()

    def define(self, xml: str) -> None:
        """Have libvirt keep a machine, without starting it."""
        with connections.errors("defining the machine"):
            self.connection.defineXML(xml)

    def start_from_xml(self, xml: str, *, persistent: bool) -> None:
        """Start a machine from its XML; libvirt keeps a persistent one."""
        with connections.errors("starting the machine"):
            if persistent:
                self.connection.defineXML(xml).create()
            else:
                self.connection.createXML(xml, 0)

    def capture(
        self, plan: CapturePlan, entry: JournalEntry
    ) -> Union[OnlineCapture, OfflineCapture]:
        """Give the capture that carries out a plan; it begins when its ``with`` is entered."""
        if plan.survey.machine.power is PowerState.STOPPED:
            given = self._definitions.get(plan.survey.machine.uuid)
            return OfflineCapture(plan, self.settings, entry, domain_xml=given)
        return OnlineCapture(plan, self.settings, entry)


def _alive(connection: libvirt.virConnect) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def _dotted(number: int) -> str:
    """Write libvirt's version number, ``9000000``, as ``9.0.0``."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
