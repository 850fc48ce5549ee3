"""Release: our bitmaps and checkpoints off one machine, once for each ticket."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Optional

from sendense.agent.ledger import Record
from sendense.agent.leftovers import settle_before
from sendense.agent.orders import ensure_uuid
from sendense.agent.work import Means
from sendense.capture.journal import claim
from sendense.capture.releasing import release_running, release_stopped
from sendense.errors import Busy, SendenseError, Unavailable
from sendense.model.agent_status import WorkState
from sendense.model.machine import PowerState
from sendense.model.ticket import Ticket

log = logging.getLogger(__name__)


class Releases:
    """Carries out releases while their request waits: they take seconds."""

    def __init__(self, means: Means) -> None:
        """Work with ``means``."""
        self._means = means

    def release(self, ticket: Ticket, known: Optional[Record]) -> tuple[str, ...]:
        """Release the ticket's machine; sent again it gives what was removed, and goes on."""
        machine = ticket.release or ""
        ensure_uuid(machine)
        if known is not None and known.removed is not None:
            return known.removed
        record = known or Record(
            ticket.id, ticket.action, ticket.expires_at, WorkState.STARTING, machine
        )
        if known is None and not self._means.ledger.use(record):
            raise Busy("the release is under way")
        if known is not None and known.final:
            raise Unavailable(
                "this release failed before", hint="ask for it again with a new ticket"
            )
        try:
            removed = self._carry_out(machine)
        except SendenseError:
            self._means.ledger.put(replace(record, state=WorkState.FAILED))
            raise
        self._means.ledger.put(replace(record, state=WorkState.COMMITTED, removed=removed))
        log.info("released %s: %d checkpoints", machine, len(removed))
        return removed

    def _carry_out(self, uuid: str) -> tuple[str, ...]:
        means = self._means
        entry = claim(
            means.settings().state_dir,
            uuid,
            operation=f"release of {uuid}",
            wait_s=means.host.settings.lock_wait_s,
        )
        try:
            settle_before(entry, (), means)
            machine = means.host.find(uuid)
            if machine.power is PowerState.STOPPED:
                return release_stopped(machine)
            return release_running(means.settings().libvirt_uri, machine)
        finally:
            entry.release()
