"""Captures that are ended before anybody said whether their point was stored.

A worker or an agent may die at any moment between the storing of a point and the answer to its
commit.  Dropping the new checkpoint would cost a full if the point is there; dropping the old one
would cost a full if it is not.  So both stay, which costs a bitmap, while everything that can
hurt the guest is ended: the freeze, the job, the scratch files.  The journal remembers it as
``parked`` until somebody who knows settles it, or the next capture of the machine does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sendense.capture import checkpoints, images
from sendense.capture.journal import Facts, JournalEntry
from sendense.capture.link import DomainLink, GuestOff
from sendense.capture.offline import undo_offline
from sendense.capture.undo import undo_online
from sendense.errors import NotFound, SendenseError
from sendense.model.survey import is_own

log = logging.getLogger(__name__)


def is_parked(facts: Facts) -> bool:
    """Tell whether facts are of a capture that waits for its verdict, and for nothing else."""
    unsettled = facts.get("begun") or facts.get("may_be_frozen")
    return bool(facts.get("parked")) and not unsettled


def park_dead(entry: JournalEntry, *, agent_timeout_s: int) -> tuple[str, ...]:
    """Park the capture of a run that died, by its claimed ``entry``; gives what was done.

    May be repeated.  Raises where something cannot be settled now; the facts then stay.
    """
    facts = entry.facts
    if facts.get("kind") == "offline":
        done = tuple(undo_offline(facts, keep_bitmaps=True))
        entry.update(parked=True, begun=False)
    else:
        link = DomainLink(facts["uri"], facts["machine"])
        try:
            undone = undo_online(link, facts, keep_checkpoint=True, agent_timeout_s=agent_timeout_s)
        finally:
            link.close()
        done = undone.done
        # The job is gone: whatever runs on the machine from now on is not ours to end.
        entry.update(parked=True, begun=False, may_be_frozen=undone.may_be_frozen)
    for line in done:
        log.info("after a dead run of %s: %s", facts.get("name"), line)
    return done


def drop_superseded(facts: Facts, superseded: Iterable[str], *, most: int) -> tuple[str, ...]:
    """Drop what a parked capture superseded, once its point is known to be stored; gives warnings.

    The machine may have been stopped, started or moved away meanwhile: what cannot be
    reached now stays, and goes with a later capture.
    """
    names = tuple(superseded)
    try:
        if not _dropped_online(facts, names, most):
            _drop_in_images(facts, names, most)
    except SendenseError as error:
        return (f"superseded checkpoints stay for now: {error}",)
    return ()


def _dropped_online(facts: Facts, superseded: tuple[str, ...], most: int) -> bool:
    """Drop through libvirt; not done where the guest does not run here."""

    def act(domain: Any) -> None:
        own = checkpoints.own_names(domain)
        new = facts["checkpoint"]
        for name in checkpoints.surplus(own, new=new, dropped=superseded, most=most):
            checkpoints.drop(domain, name)

    link = DomainLink(facts["uri"], facts["machine"])
    try:
        link.call("dropping superseded checkpoints", act)
    except GuestOff:
        return False
    finally:
        link.close()
    return True


def _drop_in_images(facts: Facts, superseded: tuple[str, ...], most: int) -> None:
    for path in facts.get("images", {}).values():
        if not Path(path).exists():
            continue
        try:
            top = images.image_chain(path, "qcow2")[0]
        except NotFound:
            continue
        own = [bitmap.name for bitmap in top.bitmaps if is_own(bitmap.name)]
        new = facts["checkpoint"]
        for name in checkpoints.surplus(own, new=new, dropped=superseded, most=most):
            images.remove_bitmap_if_idle(path, name)
