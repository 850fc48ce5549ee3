"""Starting a restored machine on this host."""

from __future__ import annotations

from dataclasses import dataclass

from sendense.capture.host import Host
from sendense.model.point import RecoveryPoint
from sendense.targets.domainxml import ShapedDomain


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
