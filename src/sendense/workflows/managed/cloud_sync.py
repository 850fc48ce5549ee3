"""Looking at a cloud: what it has is taken over into the catalogue.

A **whole look** reads everything, page by page; what it did not show is judged by
:mod:`~sendense.workflows.managed.cloud_losses`.  A **quick look** reads only the instances that
events of CloudStack (or its webhooks) speak of; it brings news early, and may miss some.

Instances come last, so that owners, zones and pools are there already, and because most changes are
theirs: what is created or expunged while they are read is found by the next look.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sendense import clock
from sendense.catalog.inventory import Taken
from sendense.cloudstack import events, inventory
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.features import Features
from sendense.errors import (
    Cancelled,
    Conflict,
    NotFound,
    Rejected,
    SendenseError,
    Unavailable,
)
from sendense.model.cloud import CloudHost, CloudKind, CloudState
from sendense.model.job import Json
from sendense.workflows.managed.cloud_bitmaps import drop_bitmaps
from sendense.workflows.managed.cloud_losses import (
    OVERLAP,
    WholeLook,
    find_losses,
    sweep_objects,
)
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.signing_in import end_users

log = logging.getLogger(__name__)

MOST_AT_ONCE = 100
"""More instances than these are read faster by a whole look than one by one."""
_NAMED = 20
"""So many ids of one kind are told by a job."""
_FAILURE = 1000
"""Letters of a failure that are kept."""

Check = Callable[[], None]


def _go_on() -> None:
    """Check nothing."""


@dataclass(frozen=True)
class Looked:
    """What a look at a cloud found."""

    instances: int
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Instances that another cloud has, and that were left with it."""
    missed: tuple[str, ...] = ()
    """Instances that are shown no longer, and are gone if the next look misses them too."""
    unseen: tuple[str, ...] = ()
    """Instances that are shown no longer, and are kept until somebody says that they are gone."""
    doubts: tuple[str, ...] = ()
    """What somebody has to look at: what is kept though it is not shown."""

    @property
    def said(self) -> Json:
        """Give what a job tells of it."""
        return {
            "instances": self.instances,
            "new": len(self.new),
            "changed": len(self.changed),
            "gone": len(self.gone),
            "elsewhere": list(self.elsewhere[:_NAMED]),
            "missed": len(self.missed),
            "unseen": len(self.unseen),
            "doubts": list(self.doubts),
        }

    def with_page(self, taken: Taken, count: int) -> Looked:
        """Add what a page brought."""
        return replace(
            self,
            instances=self.instances + count,
            new=self.new + taken.new,
            changed=self.changed + taken.changed,
            elsewhere=self.elsewhere + taken.elsewhere,
        )


def look_at_cloud(
    estate: Estate, cloud_id: str, *, check: Check = _go_on, accept_gone: bool = False
) -> Looked:
    """Read a cloud whole, and note how it answered.

    ``accept_gone`` is somebody's word that most instances are gone indeed.
    """
    with _noted(estate, cloud_id, check) as client:
        before = estate.catalog.clouds.get(cloud_id).state.looked_at
        look = WholeLook(
            estate.catalog.inventory, cloud_id, client, clock.now(), before, check, accept_gone
        )
        _require_sight(client.features(again=True))
        looked, hosts = Looked(0), 0
        for kind in CloudKind:
            usable, doubt = _take_objects(look, kind)
            hosts += usable
            looked = replace(looked, doubts=(*looked.doubts, *([doubt] if doubt else [])))
        estate.catalog.inventory.refresh_owners(cloud_id)
        end_users(estate.catalog, cloud_id, client)
        looked = _settle(look, _take_instances(estate, look, looked))
        _note(estate, cloud_id, client, looked, hosts, look.began)
    if looked.new or looked.gone or looked.missed:
        log.info(
            "cloud %s: %d instances, %d new, %d gone, %d not seen",
            client.name, looked.instances, len(looked.new), len(looked.gone), len(looked.missed),
        )  # fmt: skip
    return looked


def look_at_instances(
    estate: Estate, cloud_id: str, uuids: Collection[str], *, check: Check = _go_on
) -> Looked:
    """Read some instances of a cloud again; one that it has no longer is left to the whole look."""
    looked = Looked(0)
    store, owners_read = estate.catalog.inventory, False
    with _noted(estate, cloud_id, check) as client:
        paths = inventory.domain_paths(client) if uuids else {}
        for uuid in uuids:
            check()
            try:
                found = inventory.instance(client, uuid, paths)
            except (NotFound, Rejected) as error:
                # It may be of a kind or owner that is not for us: only a whole look tells.
                log.debug("cloud %s does not show the instance %s: %s", client.name, uuid, error)
                continue
            if not owners_read and not store.has_owner(cloud_id, found[0]):
                _take_owners(estate, cloud_id, client, check)
                owners_read = True
            taken = store.take_instances(cloud_id, [found], clock.now())
            drop_bitmaps(estate, cloud_id, [found[0]])
            looked = looked.with_page(taken, 1)
    return looked


def _take_owners(estate: Estate, cloud_id: str, client: CloudClient, check: Check) -> None:
    """Read domains and accounts, so that a new instance is known for its owner's, new or not."""
    for kind in (CloudKind.DOMAIN, CloudKind.ACCOUNT):
        for page in inventory.around(client, kind):
            check()
            estate.catalog.inventory.take(cloud_id, kind, page, clock.now())


def instances_in_events(
    estate: Estate, cloud_id: str, since: datetime, *, check: Check = _go_on
) -> set[str]:
    """Give the instances that events since a moment of ours speak of."""
    client = estate.cloud(cloud_id)
    theirs = since - OVERLAP + timedelta(seconds=client.skew_s)
    found: set[str] = set()
    for page in events.events(client, theirs):
        check()
        found.update(
            each.resource_id
            for each in page
            if each.resource_id and each.resource_kind in ("VirtualMachine", "UserVm", "")
        )
    return found


@contextmanager
def _noted(estate: Estate, cloud_id: str, check: Check) -> Iterator[CloudClient]:
    """Ask a cloud; where that fails, its state says since when and why.

    That somebody ended the look, or disabled the cloud, is no failure of the cloud.
    """
    try:
        yield estate.cloud(cloud_id)
    except (Cancelled, Conflict):
        raise
    except SendenseError as error:
        check()  # ended meanwhile: what failed since then says nothing
        _note_failure(estate, cloud_id, str(error))
        raise
    except Exception as error:
        check()
        log.exception("the look at cloud %s stumbled", cloud_id)
        _note_failure(estate, cloud_id, f"the look stumbled ({type(error).__name__}): see the log")
        raise


def _note_failure(estate: Estate, cloud_id: str, failure: str) -> None:
    state = estate.catalog.clouds.get(cloud_id).state
    failed = replace(state, failed_at=state.failed_at or clock.now(), failure=failure[:_FAILURE])
    estate.catalog.clouds.note(cloud_id, failed)


def _require_sight(features: Features) -> None:
    """Refuse a list of commands in which the one that everything hangs on is missing."""
    if not features.has("listVirtualMachines"):
        raise Unavailable(
            "the cloud does not name listVirtualMachines among the commands of this key",
            hint="sendense cloud check tells what the role of the key lacks",
        )


def _take_objects(look: WholeLook, kind: CloudKind) -> tuple[int, str]:
    """Take over what is around instances; gives the hosts to work with among them, and a doubt."""
    usable = shown = 0
    for page in inventory.around(look.client, kind):
        look.check()
        look.store.take(look.cloud_id, kind, page, clock.now())
        usable += sum(isinstance(each, CloudHost) and each.usable for each in page)
        shown += len(page)
    return usable, sweep_objects(look, kind, shown)


def _take_instances(estate: Estate, look: WholeLook, looked: Looked) -> Looked:
    for page in inventory.instances(look.client):
        look.check()
        taken = look.store.take_instances(look.cloud_id, page, clock.now())
        looked = looked.with_page(taken, len(page))
        drop_bitmaps(estate, look.cloud_id, [each for each, _ in page])
    return looked


def _settle(look: WholeLook, looked: Looked) -> Looked:
    """Say what became of the instances that no page had, and mark what is gone."""
    losses = find_losses(look, looked.instances)
    for one in losses.found:
        looked = looked.with_page(look.store.take_instances(look.cloud_id, [one], clock.now()), 1)
    gone: tuple[str, ...] = ()
    if losses.gone:
        only = set(losses.gone)
        gone = look.store.sweep(look.cloud_id, None, look.began, clock.now(), only=only)
    doubts = looked.doubts
    if losses.unseen:
        doubts += (
            f"{len(losses.unseen)} instances are shown no longer, and {losses.why} "
            "They are kept; `sendense cloud sync --accept-gone` if they are gone indeed",
        )
    return replace(looked, gone=gone, missed=losses.missed, unseen=losses.unseen, doubts=doubts)


def _note(
    estate: Estate, cloud_id: str, client: CloudClient, looked: Looked, hosts: int, began: datetime
) -> None:
    warnings = [*client.warnings]
    if looked.elsewhere:
        warnings.append(
            f"{len(looked.elsewhere)} instances are another cloud's, and were left with it"
        )
    warnings += looked.doubts
    if looked.missed:
        warnings.append(
            f"{len(looked.missed)} instances were not seen; gone if the next look misses them too"
        )
    features = client.features()
    if not features.admin:
        warnings.append("its key is of no account of type Admin: hosts and paths are not shown")
    state = CloudState(
        looked_at=began,
        version=features.version,
        clock_skew_s=round(client.skew_s, 1),
        warnings=tuple(warnings),
        instances=looked.instances,
        hosts=hosts,
    )
    estate.catalog.clouds.note(cloud_id, state)
