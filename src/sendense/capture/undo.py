"""Takes back a capture of a running machine, by the facts in its journal entry.

The same code serves a run that failed and a run that died: what cleans up after
a crash is thereby what every failing test exercises.  It goes by the facts
alone, so it touches what is ours and nothing else:

1. thaw, if the guest may be frozen (an agent that does not answer is no reason
   to leave the rest: the fact stays, and the next run tries again);
2. end the backup job, if its description names our socket, and resume the guest
   if an I/O error paused it;
3. drop the new checkpoint, unless its point was committed: its changes stay
   recorded in the older one;
4. remove scratch files and the socket.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from sendense import clock
from sendense.capture import backupxml, checkpoints
from sendense.capture.freeze import thaw_once
from sendense.capture.images import remove_bitmap_if_idle
from sendense.capture.journal import Facts
from sendense.capture.link import DomainLink, GuestOff
from sendense.capture.watchdog import resume_if_paused
from sendense.errors import SendenseError, Unavailable

log = logging.getLogger(__name__)

_END_S = 10.0

FROZEN_WARNING = (
    "THE GUEST MAY BE FROZEN: its agent does not answer; 'sendense doctor --repair' tries again"
)


@dataclass(frozen=True)
class Undone:
    """What taking a capture back came to."""

    done: tuple[str, ...]
    """In sentences."""
    may_be_frozen: bool
    """The agent did not confirm the thaw: to be tried again."""


def undo_online(
    link: DomainLink, facts: Facts, *, keep_checkpoint: bool, agent_timeout_s: int
) -> Undone:
    """Take back what ``facts`` describe.  May be repeated.

    Raises where something other than the thaw cannot be settled now.
    """
    done: list[str] = []
    frozen = bool(facts.get("may_be_frozen")) and not _thaw(link, agent_timeout_s, done)
    try:
        if facts.get("begun"):
            end_job(link, facts["socket"], done)
        if not keep_checkpoint and facts.get("checkpoint"):
            link.call(
                "dropping the new checkpoint",
                lambda domain: checkpoints.drop(domain, facts["checkpoint"]),
            )
    except GuestOff:
        # Its bitmaps are in the images now.
        if not keep_checkpoint:
            done.extend(_remove_from_images(facts))
    done.extend(remove_files([*facts.get("scratch", []), facts.get("socket", "")]))
    return Undone(tuple(done), frozen)


def end_job(link: DomainLink, socket: str, done: list[str]) -> None:
    """End the backup job that uses our socket, and resume a guest it got paused."""

    def act(domain: Any) -> bool:
        if not own_job(domain, socket):
            return False
        try:
            domain.abortJob()
        except libvirt.libvirtError as error:
            # "no job is active": it is ending already, by a run that was killed just now.
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
                raise
        return True

    if link.call("ending the backup job", act):
        _wait_for_end(link, socket)
        done.append("backup job ended")
    if resume_if_paused(link):
        done.append("guest resumed after an I/O error")


def _wait_for_end(link: DomainLink, socket: str) -> None:
    """Wait until libvirt has put the job away: milliseconds (measured: 13)."""
    deadline = clock.monotonic() + _END_S
    while link.call("waiting for the job's end", lambda domain: own_job(domain, socket)):
        if clock.monotonic() >= deadline:
            raise Unavailable("libvirt does not end the backup job")
        clock.sleep(0.01)


def own_job(domain: Any, socket: str) -> bool:
    """Tell whether the domain's running job is the backup that uses our socket."""
    try:
        return backupxml.mentions_path(domain.backupGetXMLDesc(0), socket)
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code in (libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_OPERATION_INVALID):
            return False  # no job, or the domain is off
        raise


def remove_files(paths: Iterable[str]) -> list[str]:
    """Remove our files: libvirt takes its scratch along, a QEMU that died leaves its socket."""
    done = []
    for path in paths:
        if path and _unlink(Path(path)):
            done.append(f"{path} removed")
    return done


def _unlink(path: Path) -> bool:
    # libvirt may be removing the same file just now, so "exists" would be a race.
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _thaw(link: DomainLink, timeout_s: int, done: list[str]) -> bool:
    try:
        thawed = thaw_once(link, timeout_s=timeout_s) is not None
    except SendenseError as error:
        log.debug("thaw: %s", error)
        thawed = False
    done.append("guest thawed" if thawed else FROZEN_WARNING)
    return thawed


def _remove_from_images(facts: Facts) -> Iterable[str]:
    for path in facts.get("images", {}).values():
        if remove_bitmap_if_idle(path, facts["checkpoint"]):
            yield f"bitmap {facts['checkpoint']} removed from {path}"
