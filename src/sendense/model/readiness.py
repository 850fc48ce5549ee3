"""Whether a backup of an instance may begin now, by what its cloud says at this moment.

Right before a capture the instance is asked for once more, with the jobs that CloudStack has on it:
the inventory is minutes old, and only a Running or Stopped instance with Ready volumes stands
still.  What passes by itself is :class:`BusyNow` and tried again; what somebody has to change is
:class:`Refused`.  A state that no version known to us has counts as busy: it may pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Optional, Union

from sendense.errors import Busy, Conflict
from sendense.model.ascend_steps import MARKER
from sendense.model.cloud import CloudInstance, CloudVolume
from sendense.model.places import disks_of

RETRY = timedelta(minutes=2)
"""Until a start, a stop or a job has probably ended."""
LONG_RETRY = timedelta(minutes=10)
"""Until a copy of a whole volume may have ended."""

_STEADY = frozenset({"Running", "Stopped"})
_GONE = frozenset({"Destroyed", "Expunging", "Error", "Allocated", "Unmanaged"})
_LONG = frozenset({"Migrating", "Snapshotting", "RevertSnapshotting", "Copying", "Restoring"})
_LOST_VOLUMES = frozenset(
    {"Destroy", "Destroying", "Expunging", "Expunged", "UploadError", "UploadAbandoned"}
)


@dataclass(frozen=True)
class CloudJob:
    """An asynchronous job of CloudStack that has not ended."""

    id: str
    command: str
    """What it does: ``MigrateVMCmd``; the package of the Java class may be before it."""
    account: str = ""

    @property
    def words(self) -> str:
        """Name it for people."""
        name = self.command.rpartition(".")[2] or self.id
        return f"{name} of {self.account}" if self.account else name


@dataclass(frozen=True)
class Ready:
    """It may begin."""

    warning: str = ""


@dataclass(frozen=True)
class BusyNow:
    """Something is under way that passes."""

    reason: str
    retry: timedelta = RETRY
    """When to look again."""


@dataclass(frozen=True)
class Refused:
    """It does not pass by itself."""

    reason: str
    hint: str


class Restoring(str, Enum):
    """What is known of the restore that the tag of an instance names."""

    UNDER_WAY = "under-way"
    ENDED = "ended"
    """Or not known; what succeeds takes its tag away."""


Readiness = Union[Ready, BusyNow, Refused]


def readiness_of(
    instance: Optional[CloudInstance],
    jobs: Iterable[CloudJob] = (),
    *,
    beside_cloudstack: bool = False,
    restoring: Optional[Restoring] = None,
) -> Readiness:
    """Tell whether a backup may begin.

    ``instance`` is as the cloud shows it now, none where it is gone; ``jobs`` are those on it and
    its volumes; ``beside_cloudstack`` is the policy's word that CloudStack's own backup may exist;
    ``restoring`` is what is known of the restore that its tag names: none where a restore itself
    asks, for the point that undoes it.
    """
    if instance is None:
        return Refused(
            "the cloud does not have the instance any more",
            "its points stay; restore it, or take it out of its policy",
        )
    found = (
        _by_offering(instance, beside_cloudstack)
        or _by_state(instance)
        or _by_restore(instance, restoring)
    )
    return found or _by_volumes(instance) or _by_jobs(jobs) or Ready(_warning(instance))


def ensure_ready(readiness: Readiness) -> None:
    """Raise what is in the way: :class:`Busy` is tried again, :class:`Conflict` is not."""
    if isinstance(readiness, BusyNow):
        raise Busy(
            readiness.reason, hint="it is tried again", retry_s=readiness.retry.total_seconds()
        )
    if isinstance(readiness, Refused):
        raise Conflict(readiness.reason, hint=readiness.hint)


def _by_offering(instance: CloudInstance, beside_cloudstack: bool) -> Optional[Readiness]:
    if not instance.backup_offering or beside_cloudstack:
        return None
    return Refused(
        f"CloudStack backs up {instance.shown_name} itself ({instance.backup_offering})",
        "take it off the backup offering, or allow both in the policy and keep the schedules apart",
    )


def _by_state(instance: CloudInstance) -> Optional[Readiness]:
    if instance.state in _STEADY:
        return None
    if instance.state in _GONE:
        hint = "recover it in CloudStack" if instance.state == "Destroyed" else "look at its events"
        return Refused(f"{instance.shown_name} is {instance.state}", hint)
    retry = LONG_RETRY if instance.state in _LONG else RETRY
    return BusyNow(f"{instance.shown_name} is {instance.state or 'in no known state'}", retry)


def _by_restore(instance: CloudInstance, restoring: Optional[Restoring]) -> Optional[Readiness]:
    job = instance.tags.get(MARKER)
    if job is None or restoring is None:
        return None
    if restoring is Restoring.UNDER_WAY:
        return BusyNow(f"{instance.shown_name} is being restored by job {job}", LONG_RETRY)
    return Refused(
        f"{instance.shown_name} is half restored: job {job} did not come to its end",
        f"go on with it: sendense cloud restore POINT --continue {job}; or, if its disks are as"
        f" they should be, take the tag {MARKER} away in CloudStack",
    )


def _by_volumes(instance: CloudInstance) -> Optional[Readiness]:
    disks = disks_of(instance)
    if not disks:
        return BusyNow(f"the cloud shows no volume of {instance.shown_name}")
    found = [judged for judged in map(_volume, disks) if judged is not None]
    refusals = [judged for judged in found if isinstance(judged, Refused)]
    if refusals:
        return refusals[0]
    waits = [judged for judged in found if isinstance(judged, BusyNow)]
    return max(waits, key=lambda wait: wait.retry) if waits else None


def _volume(volume: CloudVolume) -> Optional[Readiness]:
    if volume.state == "Ready":
        return None
    if volume.state == "Allocated":
        return Refused(
            f"volume {volume.name} was never made: CloudStack makes it at the first start",
            "start the instance once, or detach the volume",
        )
    if volume.state in _LOST_VOLUMES:
        return Refused(f"volume {volume.name} is {volume.state}", "detach it from the instance")
    retry = LONG_RETRY if volume.state in _LONG else RETRY
    return BusyNow(f"volume {volume.name} is {volume.state or 'in no known state'}", retry)


def _by_jobs(jobs: Iterable[CloudJob]) -> Optional[Readiness]:
    running = [job.words for job in jobs]
    return BusyNow(f"CloudStack works on it: {', '.join(running)}") if running else None


def _warning(instance: CloudInstance) -> str:
    if not instance.backup_offering:
        return ""
    return f"CloudStack backs it up as well ({instance.backup_offering})"
