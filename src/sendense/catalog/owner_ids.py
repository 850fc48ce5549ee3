"""Owners of instances by ids: the domains above, and accounts.

Names change hands.  A domain is renamed and another gets its path, an account is deleted and made
again; what belonged to the first is never the second's.  So each row of an instance keeps, beside
names, the ids of the domains above its own and the id of its account, as the inventory of its cloud
knew them when the instance was seen.  A look reads domains and accounts before instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, select, type_coerce

from sendense.catalog.columns import Encoded
from sendense.catalog.tables import CLOUD_OBJECTS
from sendense.model.cloud import KINDS, CloudAccount, CloudDomain, CloudKind, CloudObject, Owner
from sendense.model.coding import decode

_DEEPEST = 200
"""A tree that is deeper is none: a cloud's answer may be anything."""
_NAME = 255

Named = tuple[str, str]
"""An account by the id of its domain and its name."""


@dataclass(frozen=True)
class OwnerIds:
    """Domains and accounts of a cloud, as far as its inventory knows them."""

    parents: Mapping[str, str] = field(default_factory=dict)
    """Of domains, by their ids; also of those that are gone: what they had outlives them."""
    accounts: Mapping[Named, str] = field(default_factory=dict)
    """Ids of those that are there."""
    names: Mapping[str, Named] = field(default_factory=dict)
    """Of accounts by their ids, as they were called last; also of those that are gone."""

    def above(self, domain_id: str) -> str:
        """Give the ids of the domains above one, from the root on: ``/id/id/``."""
        found: list[str] = []
        here = domain_id
        while here := self.parents.get(here, ""):
            if here in found or len(found) == _DEEPEST:
                return ""
            found.append(here)
        return f"/{'/'.join(reversed(found))}/" if found else ""

    def account_id(self, owner: Owner, known: str = "") -> str:
        """Give the id of an owner's account; empty where it is not known, or a project owns.

        ``known`` is what an instance has that belonged to an account of the same name before.  It
        stays, unless that account is called otherwise now: an account that was made anew does not
        inherit what the cloud failed to remove with the old one.
        """
        if owner.project_id:
            return ""
        named = (owner.domain_id, owner.account)
        if known and self.names.get(known, named) == named:
            return known
        return self.accounts.get(named, "")


def owner_ids(
    connection: Connection, cloud_id: str, owners: Collection[Owner], known: Iterable[str] = ()
) -> OwnerIds:
    """Read what the inventory of a cloud knows of some owners; ``known`` are ids of accounts."""
    columns = CLOUD_OBJECTS.c
    names = {owner.account[:_NAME] for owner in owners if owner.account}
    wanted = columns.name.in_(sorted(names)) | columns.id.in_(sorted({*known} - {""}))
    accounts: dict[Named, str] = {}
    named: dict[str, Named] = {}
    for account, gone in _objects(connection, cloud_id, CloudKind.ACCOUNT, wanted):
        if isinstance(account, CloudAccount):
            named[account.id] = (account.domain_id, account.name)
            if not gone:
                # Of two with one name the first is gone: no whole look has found that yet.
                accounts[named[account.id]] = account.id
    return OwnerIds(_parents(connection, cloud_id, owners), accounts, named)


def _parents(connection: Connection, cloud_id: str, owners: Iterable[Owner]) -> dict[str, str]:
    found: dict[str, str] = {}
    wanted = {owner.domain_id for owner in owners} - {""}
    for _ in range(_DEEPEST):
        if not wanted:
            break
        rows = _objects(
            connection, cloud_id, CloudKind.DOMAIN, CLOUD_OBJECTS.c.id.in_(sorted(wanted))
        )
        found |= {each.id: each.parent_id for each, _ in rows if isinstance(each, CloudDomain)}
        wanted = {found[each] for each in wanted if found.get(each)} - found.keys()
    return found


def _objects(
    connection: Connection, cloud_id: str, kind: CloudKind, wanted: ColumnElement[bool]
) -> Iterator[tuple[CloudObject, bool]]:
    """Give objects of a kind, and whether they are gone; those that were seen last at the end."""
    columns = CLOUD_OBJECTS.c
    query = select(type_coerce(columns.value, Encoded()).label("value"), columns.gone_at)
    query = query.where(columns.cloud_id == cloud_id, columns.kind == kind, wanted)
    for row in connection.execute(query.order_by(columns.seen_at, columns.first_seen)):
        yield decode(KINDS[kind], row.value), row.gone_at is not None
