"""Release: take everything of ours off a machine.

Bitmaps block the revert of internal snapshots, and broken ones block resizing
and storage migration (libvirt.md 2.7, section 6).  After a release the machine
is as if we had never been there; its next backup is a full.
"""

from __future__ import annotations

from dataclasses import dataclass

from sendense.capture.host import Host
from sendense.capture.releasing import release_running, release_stopped
from sendense.model.machine import Machine, PowerState
from sendense.repository.opening import open_repository
from sendense.settings import Settings
from sendense.workflows.claiming import Opener, claimed


@dataclass(frozen=True)
class ReleaseResult:
    """What a release removed."""

    machine: Machine
    dropped: tuple[str, ...]
    """Names of checkpoints and bitmaps."""
    repaired: tuple[str, ...]


def release(
    host: Host, settings: Settings, machine: Machine, opener: Opener = open_repository
) -> ReleaseResult:
    """Remove our checkpoints and bitmaps from a machine, running or stopped."""
    with claimed(machine, settings, "release", opener) as claim:
        if machine.power is PowerState.STOPPED:
            dropped = release_stopped(machine)
        else:
            dropped = release_running(host.settings.uri, machine)
    return ReleaseResult(machine, dropped, claim.repaired)
