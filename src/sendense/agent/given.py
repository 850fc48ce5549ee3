"""A machine that is off and that this host's libvirt has forgotten, by the XML that is brought.

CloudStack's domains are transient: libvirt knows them while they run.  Of one that is off only the
control plane knows what it was made of.  What libvirt does know wins: it tells whether the machine
runs, and an XML that is brought does not.

A ticket is no reason to open any file of the host, so the disks must lie in the agent's pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from sendense.agent.exports import inside_pool
from sendense.agent.settings import AgentSettings
from sendense.capture.host import Host
from sendense.errors import NotAllowed, NotFound
from sendense.model.machine import Machine
from sendense.model.survey import Survey


def survey_given(host: Host, xml: str, settings: AgentSettings) -> Survey:
    """Look at the machine that an XML describes; changes nothing, and remembers nothing."""
    given = host.described(xml, source="the request's domain XML")
    try:
        known = host.find(given.uuid)
    except NotFound:
        ensure_in_pools(given, settings, source="the request's domain XML")
        return host.survey(given)
    return host.survey(known)


def ensure_in_pools(
    machine: Machine, settings: AgentSettings, *, source: str, only: Optional[Iterable[str]] = None
) -> None:
    """Refuse a machine whose disks (``only`` some targets) or UEFI variables lie elsewhere."""
    pools = settings.pools
    if machine.nvram is not None and not inside_pool(
        Path(machine.nvram), (*pools, settings.nvram_dir)
    ):
        raise NotAllowed(
            f"the UEFI variables of {source} lie neither in 'nvram_dir' nor in a pool of this host",
            hint="mend the agent's setting 'nvram_dir'",
        )
    wanted = {disk.target for disk in machine.disks} if only is None else set(only)
    for disk in machine.disks:
        if disk.target in wanted and not inside_pool(Path(disk.path), pools):
            raise NotAllowed(
                f"disk {disk.target} of {source} lies in no pool of this host",
                hint="add its directory to the agent's setting 'pools'",
            )
