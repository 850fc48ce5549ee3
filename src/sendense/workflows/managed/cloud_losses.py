"""What a look at a cloud did not show: gone, or only out of sight.

A list that slips, a key that was given less and a management server that is half awake all look
like a loss.  So absence alone is believed late, and never in bulk:

- an instance is asked for by its id first, and counts as gone when the whole look before missed it
  too; at once only where CloudStack itself says that it was destroyed, expunged or unmanaged;
- where more are missing than is usual, nothing is taken for gone, and somebody is asked;
- what is around instances goes after two looks that missed it, and not most of it at once.

Taking something for gone early ends backups and users; late, it costs a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sendense import clock
from sendense.catalog.inventory import Inventory
from sendense.cloudstack import events, inventory
from sendense.cloudstack.client import CloudClient
from sendense.errors import NotFound, Rejected
from sendense.model.cloud import CloudKind

log = logging.getLogger(__name__)

OVERLAP = timedelta(seconds=30)
"""Events appear some time after what they speak of."""
FEW = 5
"""So many may be missing without a question."""
_PART = 10
"""Of instances that are shown, the part that may be missing without a question."""
_ENDED = frozenset({"Destroyed", "Expunging"})
_ENDINGS = frozenset({"VM.DESTROY", "VM.EXPUNGE", "VM.UNMANAGE"})
"""Events after which a cloud has an instance no longer."""


@dataclass(frozen=True)
class WholeLook:
    """A look at all of a cloud, while it goes on."""

    store: Inventory
    cloud_id: str
    client: CloudClient
    began: datetime
    before: datetime | None
    """When the whole look before this one began; none: there was none."""
    check: Callable[[], None]
    accept_gone: bool = False
    """Somebody's word that what is not shown is gone indeed."""


@dataclass(frozen=True)
class Losses:
    """What became of the instances that a whole look did not show."""

    gone: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    """Gone if the next whole look misses them too."""
    unseen: tuple[str, ...] = ()
    """Kept until somebody says that they are gone."""
    found: tuple[inventory.Found, ...] = ()
    """No list had them, and they are there."""
    why: str = ""
    """Why they are kept."""


def find_losses(look: WholeLook, shown: int) -> Losses:
    """Judge what instances are gone, beside so many that are shown; nothing is written."""
    unseen = look.store.unseen(look.cloud_id, look.began)
    if not unseen:
        return Losses()
    if not look.accept_gone and hides_projects(look):
        return Losses(unseen=unseen, why="this look did not ask for projects.")
    ended = _told_to_be_gone(look, unseen)
    doubtful = set(unseen) - ended
    believed = look.accept_gone or _usual(len(doubtful), shown)
    asked = unseen if believed and _usual(len(doubtful), shown) else tuple(sorted(ended))
    missing, found = _ask(look, asked)
    there = {one.id for one, _ in found}
    if look.accept_gone:
        return Losses(gone=tuple(each for each in unseen if each not in there), found=found)
    gone = {each for each in missing if each in ended}
    kept = doubtful - there
    if not believed:
        why = "they are many: was the key given less?"
        return Losses(tuple(sorted(gone)), unseen=tuple(sorted(kept)), found=found, why=why)
    if look.before is not None:
        gone |= kept.intersection(look.store.unseen(look.cloud_id, look.before))
    return Losses(tuple(sorted(gone)), missed=tuple(sorted(kept - gone)), found=found)


def sweep_objects(look: WholeLook, kind: CloudKind, shown: int) -> str:
    """Mark objects of a kind as gone that two looks did not show; gives what is to be told.

    Not if most of them would go at once.
    """
    missing = look.store.unseen_objects(look.cloud_id, kind, look.began)
    if not missing:
        return ""
    before = look.began if look.accept_gone else look.before
    if not look.accept_gone and missing > max(FEW, shown):
        return (
            f"{missing} of {missing + shown} {words(kind)} are shown no longer: was the key given "
            "less? They are kept; `sendense cloud sync --accept-gone` if they are gone indeed"
        )
    if before is not None:
        look.store.sweep(look.cloud_id, kind, before, clock.now())
    return ""


def words(kind: CloudKind) -> str:
    """Name objects of a kind."""
    return f"{kind.value.replace('_', ' ')}s"


def hides_projects(look: WholeLook) -> bool:
    """Tell whether projects were not asked for, although some had instances."""
    return not inventory.asks_projects(look.client) and look.store.has_projects(look.cloud_id)


def _usual(missing: int, shown: int) -> bool:
    """Tell whether so few are missing that it needs no question; not where none is left."""
    return missing == 0 or (shown > 0 and missing <= max(FEW, shown // _PART))


def _ask(
    look: WholeLook, uuids: Collection[str]
) -> tuple[tuple[str, ...], tuple[inventory.Found, ...]]:
    """Ask for instances by their ids; gives those that are not there, and those that are."""
    missing, found = [], []
    paths = inventory.domain_paths(look.client) if uuids else {}
    for uuid in uuids:
        look.check()
        try:
            found.append(inventory.instance(look.client, uuid, paths))
        except NotFound:
            missing.append(uuid)
    return tuple(missing), tuple(found)


def _told_to_be_gone(look: WholeLook, uuids: Collection[str]) -> set[str]:
    """Give those of which CloudStack says that they ended: by their last state, or by an event."""
    states = look.store.states(uuids)
    told = {uuid for uuid, state in states.items() if state in _ENDED}
    left = set(uuids) - told
    if not left or look.before is None or not look.client.features().has("listEvents"):
        return told
    since = look.before - OVERLAP + timedelta(seconds=look.client.skew_s)
    try:
        for page in events.events(look.client, since):
            look.check()
            told |= {each.resource_id for each in page if _is_end(each)} & left
            if left <= told:
                break
    except (NotFound, Rejected) as error:
        log.info("cloud %s: its events cannot be read: %s", look.client.name, error)
    return told


def _is_end(event: events.CloudEvent) -> bool:
    return event.kind in _ENDINGS and event.state in ("", "Completed") and event.level != "ERROR"
