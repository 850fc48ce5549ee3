"""Looks at one running machine for what a backup would stumble over, or has left.

A machine with nothing to say gives no finding: on a host with a hundred of them
only the odd ones should be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import libvirt

from sendense.capture.connection import errors
from sendense.capture.domainxml import agent_connected
from sendense.capture.journal import claim
from sendense.capture.session import HostSettings
from sendense.capture.survey import active_job, survey_running
from sendense.errors import Busy, SendenseError
from sendense.model.finding import Finding, Level
from sendense.model.machine import SourceKind
from sendense.model.survey import DiskSurvey, Survey, is_own


def examine_machine(domain: libvirt.virDomain, settings: HostSettings) -> Iterator[Finding]:
    """Look at a running machine; whatever cannot be looked at is a finding as well."""
    try:
        with errors("examining a machine"):
            name = domain.name()
            xml = domain.XMLDesc(0)
            state = tuple(domain.state(0))
        yield from _state(name, state)
        yield from _agent(name, xml)
        yield from _job(domain, name, settings)
        yield from _survey(survey_running(domain), settings)
    except SendenseError as error:
        # A machine that ends while it is looked at is no trouble.
        if error.code != "not-found":
            yield Finding("machine", Level.WARNING, f"a machine was not examined: {error}")


def _state(name: str, state: tuple[int, ...]) -> Iterator[Finding]:
    if state == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
        yield Finding(
            "paused",
            Level.PROBLEM,
            f"{name} is paused by an I/O error: a full disk, or storage that failed "
            f"('virsh domblkerror {name}' tells which); mend that, then resume it",
            f"virsh resume {name}",
        )
    elif state[0] == libvirt.VIR_DOMAIN_PAUSED:
        yield Finding("paused", Level.OK, f"{name} is paused; it is captured as it is")


def _agent(name: str, xml: str) -> Iterator[Finding]:
    connected = agent_connected(xml)
    if connected is None:
        yield Finding(
            "agent",
            Level.WARNING,
            f"{name} has no guest agent channel: its points are crash-consistent",
            f"virt-xml {name} --add-device --channel "
            "unix,target.type=virtio,target.name=org.qemu.guest_agent.0",
        )
    elif not connected:
        yield Finding(
            "agent",
            Level.WARNING,
            f"{name} has no guest agent running: its points are crash-consistent; "
            "install the package qemu-guest-agent in the guest, and start it there",
            "systemctl enable --now qemu-guest-agent",
        )


def _job(domain: libvirt.virDomain, name: str, settings: HostSettings) -> Iterator[Finding]:
    job = active_job(domain)
    if job is None:
        return
    ours = job.socket is not None and Path(job.socket).parent == Path(settings.socket_dir)
    if not ours:
        yield Finding("job", Level.WARNING, f"another program runs a {job} on {name}")
    elif _is_claimed(domain.UUIDString(), settings):
        yield Finding("job", Level.OK, f"a backup of {name} runs now")
    else:
        yield Finding(
            "job",
            Level.PROBLEM,
            f"{name} has a backup job whose run died: it blocks snapshots and migration, "
            f"and its scratch file grows ('virsh domjobabort {name}' ends one without a journal)",
            "sendense doctor --repair",
        )


def _is_claimed(uuid: str, settings: HostSettings) -> bool:
    """Tell whether a living run of ours works on the machine."""
    try:
        claim(Path(settings.state_dir), uuid, operation="examination").release()
    except Busy:
        return True
    return False


def _survey(survey: Survey, settings: HostSettings) -> Iterator[Finding]:
    name = survey.machine.name
    foreign = {item for item in survey.checkpoints if not is_own(item)}
    own: set[str] = set()
    broken: set[str] = set()
    for disk in survey.disks:
        foreign |= {item.name for item in disk.bitmaps if not is_own(item.name)}
        own |= {item.name for item in disk.bitmaps if is_own(item.name)}
        broken |= {item.name for item in disk.bitmaps if is_own(item.name) and item.inconsistent}
        yield from _disk(name, disk)
    if broken:
        yield Finding(
            "bitmaps",
            Level.PROBLEM,
            f"{name} has bitmaps of ours that a crash broke ({_list(broken)}): "
            "they keep its disks from being resized and copied; the next backup removes them",
            f"sendense release {name}",
        )
    if len(own) > settings.max_bitmaps_per_vm:
        yield Finding(
            "bitmaps",
            Level.WARNING,
            f"{name} has {len(own)} bitmaps of ours, more than max_bitmaps_per_vm; "
            "the next backup removes the oldest",
            f"sendense release {name}",
        )
    if foreign:
        yield Finding(
            "foreign",
            Level.OK,
            f"{name} has checkpoints or bitmaps of another program ({_list(foreign)}); "
            "they are left alone",
        )
    if survey.machine.tpm:
        yield Finding(
            "tpm",
            Level.WARNING,
            f"{name} has an emulated TPM, whose state no backup holds: keep the recovery keys "
            "of an encrypted guest",
        )


def _disk(name: str, survey: DiskSurvey) -> Iterator[Finding]:
    disk = survey.disk
    where = f"disk {disk.target} of {name}"
    if survey.memory_snapshot:
        held = [item.name for item in survey.bitmaps if is_own(item.name)]
        yield Finding(
            "snapshots",
            Level.PROBLEM if held else Level.WARNING,
            f"{where} has internal snapshots: "
            + (
                f"its bitmap {_list(held)} makes their revert kill the guest"
                if held
                else "it is read in full each time, because a bitmap would break their revert"
            ),
            f"sendense release {name}" if held else f"virsh snapshot-list {name}",
        )
    if disk.shareable:
        yield Finding(
            "shareable",
            Level.WARNING,
            f"{where} is shared with other machines: what they write is not frozen with it",
        )
    if not disk.holds_bitmaps and not disk.read_only:
        kind = "network" if disk.kind is SourceKind.NETWORK else disk.format
        yield Finding(
            "no-bitmaps",
            Level.OK,
            f"{where} is {kind} and holds no bitmaps: it is read in full, "
            "and what changed is found by hash",
        )


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
