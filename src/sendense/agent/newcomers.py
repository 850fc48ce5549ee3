"""A machine that a restore makes must be new to its host.

libvirt takes a definition with the UUID and name of a machine that it keeps for a new version of
that machine, even while it runs: the old definition, and with it where the disks are, is gone
without a word.  So a restore to new disks may only bring a machine that the host does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from sendense.agent.ledger import NewMachine
from sendense.capture.domainxml import parse_document
from sendense.capture.host import Host
from sendense.errors import NotFound, Rejected
from sendense.model.machine import Machine, PowerState


def ensure_newcomer(host: Host, xml: str) -> None:
    """Refuse a machine whose UUID or name the host's libvirt knows."""
    for key in _names_of(xml):
        known = _known(host, key)
        if known is not None:
            raise Rejected(
                f"{known.name} ({known.uuid}) is on this host already, and would lose its "
                "definition",
                hint="make it a machine of its own with another name (--name), or undefine the "
                "one that is there first",
                machine=known.uuid,
            )


def make_machine(host: Host, makes: NewMachine) -> None:
    """Define or start a machine, as a restore was told to."""
    if makes.new:
        # It may have come while the disks were written.
        ensure_newcomer(host, makes.domain_xml)
    if makes.start:
        host.start_from_xml(makes.domain_xml, persistent=makes.define)
    else:
        host.define(makes.domain_xml)


def make_missing_machine(host: Host, makes: NewMachine, disks: Iterable[str]) -> None:
    """Do what is left of that, where an agent died over it; ``disks`` are the new ones.

    A machine of that UUID on those disks can only be the one that the dead agent made.
    """
    uuid, _name = _names_of(makes.domain_xml)
    known = _known(host, uuid)
    if known is None or not set(disks) <= {disk.path for disk in known.disks}:
        make_machine(host, makes)
    elif makes.start and known.power is PowerState.STOPPED:
        if makes.new:
            host.start_known(known.uuid)
        else:
            make_machine(host, makes)


def _names_of(xml: str) -> tuple[str, str]:
    root = parse_document(xml)
    uuid, name = (root.findtext("uuid") or "").strip(), (root.findtext("name") or "").strip()
    if not uuid or not name:
        raise Rejected("the XML of the new machine has no <uuid> or no <name>")
    return uuid, name


def _known(host: Host, key: str) -> Optional[Machine]:
    try:
        return host.find(key)
    except NotFound:
        return None
