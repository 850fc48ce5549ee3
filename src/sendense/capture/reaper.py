"""Finds runs that died, and has them taken back.

Runs before every capture of a machine, and for all machines in ``doctor
--repair``.  Whether the dead run's point was committed is asked of the
repository: a committed point keeps its checkpoint, which is the base of the
next incremental.
"""

from __future__ import annotations

import logging
from typing import Callable

from sendense.capture.journal import Facts, JournalEntry
from sendense.capture.link import DomainLink
from sendense.capture.offline import undo_offline
from sendense.capture.undo import Undone, undo_online

log = logging.getLogger(__name__)

IsCommitted = Callable[[Facts], bool]
"""Tells whether the point named in the facts is in its repository."""


def reap(
    entry: JournalEntry, *, is_committed: IsCommitted, agent_timeout_s: int
) -> tuple[str, ...]:
    """Take back the run that a claimed ``entry`` describes; gives what was done.

    Raises where something cannot be settled now; the facts then stay.
    """
    facts = entry.facts
    if not facts:
        return ()
    if facts.get("unreadable"):
        entry.clear()
        return ("a journal entry that could not be read was removed",)
    keep = bool(facts.get("committed")) or is_committed(facts)
    if facts.get("kind") == "offline":
        undone = Undone(tuple(undo_offline(facts, keep_bitmaps=keep)), may_be_frozen=False)
    else:
        link = DomainLink(facts["uri"], facts["machine"])
        try:
            undone = undo_online(link, facts, keep_checkpoint=keep, agent_timeout_s=agent_timeout_s)
        finally:
            link.close()
    entry.settle(may_be_frozen=undone.may_be_frozen)
    for line in undone.done:
        log.info("after a dead run of %s: %s", facts.get("name"), line)
    return undone.done
