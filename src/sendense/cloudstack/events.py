"""What happened in a cloud, newest first: hints where to look, never the truth.

CloudStack purges its events, and reads the dates of its own filter in the time zone of its
server, which it does not tell.  So no date is sent: pages are read from the newest back to the
moment that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sendense.cloudstack.answers import Row, moment, text
from sendense.cloudstack.client import CloudClient

PAGES: Final = 40
"""A cloud in which more happened is better read whole."""


@dataclass(frozen=True)
class CloudEvent:
    """One event."""

    id: str
    kind: str
    """``VM.START``."""
    created: datetime | None
    state: str = ""
    level: str = ""
    description: str = ""
    resource_id: str = ""
    resource_kind: str = ""
    account: str = ""
    domain_id: str = ""
    parent_id: str = ""


def events(client: CloudClient, since: datetime, **params: Any) -> Iterator[list[CloudEvent]]:
    """Give the events since a moment by the cloud's clock, newest first, each once."""
    scopes: tuple[dict[str, Any], ...] = ({},)
    if client.features().takes("listEvents", "projectid"):
        scopes = ({}, {"projectid": "-1"})
    seen: set[str] = set()
    for scope in scopes:
        pages = client.every(
            "listEvents", "event", listall=True, isrecursive=True, **scope, **params
        )
        for number, page in enumerate(pages, 1):
            found = [event(row) for row in page]
            recent = [one for one in found if one.created is None or one.created >= since]
            fresh = [one for one in recent if one.id not in seen]
            seen.update(one.id for one in fresh)
            if fresh:
                yield fresh
            if not recent or number >= PAGES:
                break


def event(row: Row) -> CloudEvent:
    """Read an event."""
    return CloudEvent(
        id=text(row, "id"),
        kind=text(row, "type"),
        created=moment(row.get("created")),
        state=text(row, "state"),
        level=text(row, "level"),
        description=text(row, "description"),
        resource_id=text(row, "resourceid"),
        resource_kind=text(row, "resourcetype"),
        account=text(row, "account"),
        domain_id=text(row, "domainid"),
        parent_id=text(row, "parentid"),
    )
