"""Doctor: look at the host and say what stands in the way; repair what dead runs left."""

from __future__ import annotations

import logging

from sendense.capture.host import Host
from sendense.capture.journal import Facts, claim, stale_machines
from sendense.capture.parking import is_parked
from sendense.capture.probe import examine_host, prepare_folders
from sendense.errors import Busy, SendenseError
from sendense.model.finding import Finding, Level
from sendense.repository.opening import open_repository
from sendense.settings import Settings
from sendense.targets.marks import half_restored
from sendense.workflows.claiming import Opener, reap_entry

log = logging.getLogger(__name__)


def examine(host: Host, settings: Settings) -> tuple[Finding, ...]:
    """Look at everything a capture needs; changes nothing."""
    return (*examine_host(host.settings), *_dead_runs(settings), *_half_restored(settings))


def repair(host: Host, settings: Settings, opener: Opener = open_repository) -> tuple[str, ...]:
    """Take back what dead runs left, and make our folders; gives what was done.

    Runs that live are left alone.
    """
    done = list(prepare_folders(host.settings))
    for machine in stale_machines(settings.state_dir):
        try:
            entry = claim(settings.state_dir, machine, operation="repair")
        except Busy:
            continue  # its holder lives
        try:
            done.extend(reap_entry(entry, agent_timeout_s=settings.agent_timeout, opener=opener))
        except SendenseError as error:
            # It stays in the journal, and in the findings; the others need not wait for it.
            log.warning("what a run of %s left stays for now: %s", machine, error)
        finally:
            entry.release()
    return tuple(done)


def _dead_runs(settings: Settings) -> tuple[Finding, ...]:
    findings = []
    for machine in stale_machines(settings.state_dir):
        try:
            entry = claim(settings.state_dir, machine, operation="examination")
        except Busy:
            continue
        if entry.stale:
            findings.append(_left(entry.facts, machine))
        entry.release()
    return tuple(findings)


def _left(facts: Facts, machine: str) -> Finding:
    """Say what facts are of that nobody holds: a run that died, or a capture that waits."""
    name = facts.get("name", machine)
    if facts.get("work") and is_parked(facts):
        return Finding(
            check="parked-capture",
            level=Level.WARNING,
            message=f"a capture of {name} by this host's agent is parked: the guest is free, and "
            f"both checkpoints stay until it is known whether the point {facts.get('point')} "
            "is stored",
            fix="nothing: its job at the control plane settles it, or else the next backup of the "
            "machine; only where neither will come: sendense doctor --repair",
        )
    return Finding(
        check="dead-run",
        level=Level.PROBLEM,
        message=f"a run of {name} died and left traces",
        fix="sendense doctor --repair",
    )


def _half_restored(settings: Settings) -> tuple[Finding, ...]:
    """Name the disks that an interrupted restore left neither old nor new."""
    return tuple(
        Finding(
            check="half-restored",
            level=Level.PROBLEM,
            message=f"the restore of {mark.machine} onto {mark.path} did not complete "
            f"({mark.state}, since {mark.since})",
            fix=mark.again or f"sendense restore {mark.point} with the same destination again",
        )
        for mark in half_restored(settings.state_dir)
    )
