"""Whether a request may be served: the ticket that comes with it.

The signature is checked before anything else of a ticket is believed, then the agent it was
made for, then its expiry, then what it is for.  Whether it was used before is the
:mod:`~sendense.agent.ledger`'s memory.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Optional

from sendense import clock
from sendense.agent.ledger import ensure_id
from sendense.errors import NotAllowed, Rejected
from sendense.model.secret import Secret
from sendense.model.ticket import SCHEME, Action, Ticket, check


class TicketDesk:
    """Checks the tickets of one agent."""

    def __init__(self, agent: str, secret: Secret, *, skew: timedelta) -> None:
        """Accept tickets for ``agent`` that were signed with ``secret``."""
        self._agent = agent
        self._secret = secret
        self.skew = skew
        """By how much the clocks may differ; it can be changed at any time."""

    def to_look(self, header: Optional[str]) -> Ticket:
        """Accept a ticket that allows to look."""
        ticket = self._known(header)
        _ensure_action(ticket, Action.LOOK)
        self.ensure_fresh(ticket)
        return ticket

    def to_act(self, header: Optional[str], action: Action) -> Ticket:
        """Accept a ticket for an action; whether it is fresh matters only before its first use."""
        ticket = self._known(header)
        _ensure_action(ticket, action)
        ensure_id(ticket)
        return ticket

    def to_follow(self, header: Optional[str], action: Action, identity: str) -> Ticket:
        """Accept the ticket that began a work: it is the key to that one, and to no other."""
        ticket = self.to_act(header, action)
        if ticket.id != identity:
            raise NotAllowed("the ticket is for other work than the request names")
        return ticket

    def ensure_fresh(self, ticket: Ticket) -> None:
        """Refuse a ticket that has expired by this host's clock."""
        now = clock.now()
        if now <= ticket.expires_at + self.skew:
            return
        raise NotAllowed(
            f"the ticket expired at {clock.format_utc(ticket.expires_at)}; by this host's clock "
            f"it is {clock.format_utc(now)}, and {self.skew.total_seconds():.0f} s are tolerated",
            hint="compare the clocks of this host and of the control plane",
            expires_at=clock.format_utc(ticket.expires_at),
            now=clock.format_utc(now),
        )

    def _known(self, header: Optional[str]) -> Ticket:
        if not header:
            raise NotAllowed(
                "the request brings no ticket", hint=f"Authorization: {SCHEME} <ticket>"
            )
        scheme, _, text = header.partition(" ")
        if scheme != SCHEME:
            raise NotAllowed(f"the request brings no ticket: its scheme is not {SCHEME}")
        ticket = check(text.strip(), self._secret)
        if ticket.agent != self._agent:
            raise NotAllowed("the ticket was made for another agent")
        if ticket.expires_at.tzinfo is None:
            raise Rejected("the ticket's expiry has no zone")
        return ticket


def _ensure_action(ticket: Ticket, action: Action) -> None:
    if ticket.action is not action:
        raise NotAllowed(
            f"the ticket is to {ticket.action.value}, and the request wants to {action.value}"
        )
