"""Starting a restored machine on this host."""

from __future__ import annotations

from dataclasses import dataclass

from sendense.capture.host import Host
from sendense.errors import Rejected
from sendense.model.point import RecoveryPoint
from sendense.targets.domainxml import Identity, ShapedDomain


def ensure_startable(host: Host, point: RecoveryPoint, identity: Identity) -> None:
    """Refuse to start from new disks what this host knows already.

    libvirt would take the restored machine for a new definition of the known one, and forget
    where its disks are; that must not come as a surprise.
    """
    copied = identity.name not in (None, point.machine.name)
    for machine in host.machines():
        if copied and machine.name == identity.name:
            raise Rejected(
                f"there is a machine {machine.name} on this host already",
                hint="choose another name",
                machine=machine.uuid,
            )
        if not copied and machine.uuid == point.machine.uuid:
            raise Rejected(
                f"{machine.name} is on this host already, and would lose its definition",
                hint="start a copy with --name, restore with --in-place, or undefine it first",
                machine=machine.uuid,
            )


@dataclass(frozen=True)
class HostStarter:
    """Starts machines on a host, as the kind that the point's machine was."""

    host: Host
    point: RecoveryPoint
    in_place: bool

    def start(self, domain: ShapedDomain) -> None:
        """Start it; what libvirt keeps is started as it is defined, since only disks changed."""
        known = {machine.uuid for machine in self.host.machines()}
        if self.in_place and domain.uuid in known:
            self.host.start_known(domain.uuid)
        else:
            self.host.start_from_xml(domain.xml, persistent=self.point.machine.persistent)
