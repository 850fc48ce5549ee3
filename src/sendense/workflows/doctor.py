"""Doctor: look at the host and say what stands in the way; repair what dead runs left."""

from __future__ import annotations

import logging

from sendense.capture.host import Host
from sendense.capture.journal import claim, stale_machines
from sendense.capture.probe import examine_host, prepare_folders
from sendense.errors import Busy, SendenseError
from sendense.model.finding import Finding, Level
from sendense.settings import Settings
from sendense.targets.marks import half_restored
from sendense.workflows.claiming import reap_entry

log = logging.getLogger(__name__)


def examine(host: Host, settings: Settings) -> tuple[Finding, ...]:
    """Look at everything a capture needs; changes nothing."""
    return (*examine_host(host.settings), *_dead_runs(settings), *_half_restored(settings))


def repair(host: Host, settings: Settings) -> tuple[str, ...]:
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
            done.extend(reap_entry(entry, agent_timeout_s=settings.agent_timeout))
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
            findings.append(
                Finding(
                    check="dead-run",
                    level=Level.PROBLEM,
                    message=f"a run of {entry.facts.get('name', machine)} died and left traces",
                    fix="sendense doctor --repair",
                )
            )
        entry.release()
    return tuple(findings)


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
