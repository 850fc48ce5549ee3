"""The machines of one host: those that run, those that libvirt keeps, and one from a file.

CloudStack's domains are *transient*: when the guest is off, libvirt knows
nothing of them.  Such a machine is captured by its XML, given as a file; it has
no domain object, and :func:`machine_from_xml` is its way in.
"""

from __future__ import annotations

import difflib
import logging
import uuid
from pathlib import Path
from typing import Optional

import libvirt

from sendense.capture.connection import errors
from sendense.capture.domainxml import parse_machine
from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.model.machine import Machine, PowerState, SourceKind

log = logging.getLogger(__name__)

_XML_FILE_MOST = 4 << 20
"""Far more than libvirt writes for hundreds of disks."""

_NO_DOMAIN = 42

_POWER = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    # Shutting down: QEMU still holds the images.
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.STOPPED,
    # Crashed: stopped, or preserved for a look at it; `isActive` tells which.
    libvirt.VIR_DOMAIN_CRASHED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.PAUSED,
}


def list_machines(connection: libvirt.virConnect) -> tuple[Machine, ...]:
    """List all machines that libvirt knows, by name."""
    with errors("listing the machines"):
        domains = connection.listAllDomains(0)
    machines = [_machine_if_there(domain) for domain in domains]
    return tuple(sorted((item for item in machines if item), key=lambda item: item.name))


def find_domain(connection: libvirt.virConnect, name: str) -> libvirt.virDomain:
    """Give the domain with that UUID or name; :class:`NotFound` says which names are near."""
    lookups = [connection.lookupByName]
    if _is_uuid(name):
        lookups.insert(0, connection.lookupByUUIDString)
    with errors(f"looking for the machine {name!r}"):
        for look_up in lookups:
            try:
                return look_up(name)
            except libvirt.libvirtError as error:
                if error.get_error_code() != _NO_DOMAIN:
                    raise
        known = sorted(domain.name() for domain in connection.listAllDomains(0))
    raise NotFound(f"no machine {name!r} on this host", hint=_near(name, known), machine=name)


def machine_of(domain: libvirt.virDomain) -> Machine:
    """Describe a domain as it is now."""
    with errors("reading the machine"):
        connection = domain.connect()
        return parse_machine(
            domain.XMLDesc(0),
            power=power_state(domain),
            persistent=bool(domain.isPersistent()),
            resolve_volume=lambda pool, volume: _resolve_volume(connection, pool, volume),
        )


def power_state(domain: libvirt.virDomain) -> PowerState:
    """Tell whether the guest runs."""
    with errors("reading the machine's state"):
        if not domain.isActive():
            return PowerState.STOPPED
        return _POWER.get(domain.state(0)[0], PowerState.RUNNING)


def machine_from_xml(path: Path) -> Machine:
    """Describe a stopped machine by its XML file: the way to a transient one that is off."""
    return machine_from_text(read_xml_file(path), source=str(path))


def machine_from_text(xml: str, *, source: str) -> Machine:
    """Describe a stopped machine by its XML; ``source`` names it in errors."""
    machine = parse_machine(xml, power=PowerState.STOPPED, persistent=False)
    if not machine.name or not machine.uuid:
        raise Rejected(
            f"{source} has no <name> or no <uuid>",
            hint="a backup is kept under the machine's UUID; use the output of 'virsh dumpxml'",
        )
    return machine


def read_xml_file(path: Path) -> str:
    """Read a domain XML file; of any size it is refused rather than loaded."""
    try:
        with path.open("rb") as file:
            content = file.read(_XML_FILE_MOST + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except PermissionError as error:
        raise NotAllowed(f"the file {path} may not be read", hint="run as root") from error
    except IsADirectoryError as error:
        raise Rejected(f"{path} is a folder, not a domain's XML") from error
    if len(content) > _XML_FILE_MOST:
        raise Rejected(f"{path} is too large for a domain's XML")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Rejected(f"{path} is not text in UTF-8") from error


def _machine_if_there(domain: libvirt.virDomain) -> Optional[Machine]:
    try:
        return machine_of(domain)
    except NotFound:
        # Transient domains vanish between the list and the look.
        log.debug("a domain went away while it was listed")
        return None


def _resolve_volume(
    connection: libvirt.virConnect, pool: str, volume: str
) -> Optional[tuple[SourceKind, str]]:
    """Ask libvirt where a pool's volume is; only files and block devices have a path."""
    try:
        found = connection.storagePoolLookupByName(pool).storageVolLookupByName(volume)
        kind, path = found.info()[0], found.path()
    except libvirt.libvirtError as error:
        log.debug("volume %s/%s: %s", pool, volume, error)
        return None
    kinds = {
        libvirt.VIR_STORAGE_VOL_FILE: SourceKind.FILE,
        libvirt.VIR_STORAGE_VOL_BLOCK: SourceKind.BLOCK,
    }
    return (kinds[kind], path) if kind in kinds else None


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _near(name: str, known: list[str]) -> str:
    if not known:
        return "libvirt knows no machine at all; one that is off may need its XML file"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return "a machine of CloudStack that is off is not known to libvirt: give its XML file"
