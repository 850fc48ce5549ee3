"""Owners of a cloud as scopes of tenants: found by what people call them, and listed for all.

Names are looked up in what the cloud was last seen to have, and kept as ids where there are any: a
domain that gets another name stays the same tenant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from sendense.catalog.inventory_reading import InventoryReading
from sendense.errors import NotFound, Rejected
from sendense.model.access import TenantScope
from sendense.model.cloud import Cloud, CloudAccount, CloudDomain, CloudKind, CloudProject
from sendense.model.tenant import Tenant

_LONGEST = 100
_ADMIN = 1
"""Type of the accounts of root administrators: they run the cloud, and are nobody's customers."""
_LOOK = "'sendense cloud sync' reads the cloud again"


@dataclass(frozen=True)
class Named:
    """Whom somebody means; what is empty is not said."""

    domain: str = ""
    """A path or an id."""
    account: str = ""
    project: str = ""
    """A name or an id."""


def scope_of(inventory: InventoryReading, cloud_id: str, named: Named) -> TenantScope:
    """Find whom somebody means; :class:`~sendense.errors.NotFound` where there is nobody."""
    if named.project:
        if named.account:
            raise Rejected("a tenant is an account or a project", hint="leave one of them out")
        return _project(inventory, cloud_id, named)
    if named.account:
        return _account(inventory, cloud_id, named)
    if not named.domain:
        raise Rejected("a tenant is a domain, an account or a project", hint="name one of them")
    domain = _domain(inventory, cloud_id, named.domain)
    return TenantScope(cloud_id, domain.path, domain.id)


def proposed(inventory: InventoryReading, cloud: Cloud, known: Collection[Tenant]) -> list[Tenant]:
    """Give a tenant for each account and each project that is none yet, without their ids."""
    scopes = {_key(tenant.scope) for tenant in known if tenant.scope.cloud_id == cloud.id}
    taken = {tenant.name for tenant in known}
    made = []
    for name, scope in _owners(inventory, cloud.id):
        # One that was made before ids were known is told by its name.
        if not scopes.isdisjoint((_key(scope), _key(replace(scope, account_id="")))):
            continue
        free = next(each for each in _names(name, cloud.name) if each not in taken)
        taken.add(free)
        made.append(Tenant("", free, scope))
    return made


def _owners(inventory: InventoryReading, cloud_id: str) -> Iterator[tuple[str, TenantScope]]:
    for account in _accounts(inventory, cloud_id):
        if account.kind != _ADMIN:
            scope = TenantScope(
                cloud_id, account.domain, account.domain_id, account.name, account_id=account.id
            )
            yield f"{_below_root(account.domain)}{account.name}", scope
    for project in _projects(inventory, cloud_id):
        yield (
            f"{_below_root(project.domain)}{project.name}",
            TenantScope(cloud_id, project_id=project.id),
        )


def _below_root(path: str) -> str:
    _, slash, rest = path.partition("/")
    return f"{rest}/" if slash else ""


def _names(name: str, cloud: str) -> Iterator[str]:
    """Give names for a tenant, the nicest first."""
    yield name[:_LONGEST]
    yield f"{cloud}/{name}"[:_LONGEST]
    number = 2
    while True:
        end = f" ({number})"
        yield f"{name[: _LONGEST - len(end)]}{end}"
        number += 1


def _key(scope: TenantScope) -> tuple[str, str, str]:
    if scope.project_id:
        return "", "", scope.project_id
    if scope.account_id:
        return scope.domain_id, "", scope.account_id
    return scope.domain_id or scope.domain_path, scope.account, ""


def _domain(inventory: InventoryReading, cloud_id: str, said: str) -> CloudDomain:
    found = inventory.present(cloud_id, CloudKind.DOMAIN)
    domains = [each for each in found if isinstance(each, CloudDomain)]
    for domain in domains:
        if said in (domain.id, domain.path):
            return domain
    like = [each.path for each in domains if each.name == said.rpartition("/")[2]]
    hint = f"did you mean {', '.join(like[:3])}? {_LOOK}" if like else _LOOK
    raise NotFound(f"the cloud has no domain {said}", hint=hint)


def _account(inventory: InventoryReading, cloud_id: str, named: Named) -> TenantScope:
    found = [each for each in _accounts(inventory, cloud_id) if each.name == named.account]
    if named.domain:
        domain = _domain(inventory, cloud_id, named.domain)
        found = [each for each in found if each.domain_id == domain.id]
    one = _only(found, "account", named.account, (each.domain for each in found))
    return TenantScope(cloud_id, one.domain, one.domain_id, one.name, account_id=one.id)


def _project(inventory: InventoryReading, cloud_id: str, named: Named) -> TenantScope:
    said = named.project
    found = [each for each in _projects(inventory, cloud_id) if said in (each.id, each.name)]
    if named.domain:
        domain = _domain(inventory, cloud_id, named.domain)
        found = [each for each in found if each.domain_id == domain.id]
    one = _only(found, "project", said, (f"{each.domain} ({each.id})" for each in found))
    return TenantScope(cloud_id, project_id=one.id)


def _only(
    found: list[CloudAccount] | list[CloudProject], what: str, said: str, places: Iterable[str]
) -> CloudAccount | CloudProject:
    if not found:
        raise NotFound(f"the cloud has no {what} {said}", hint=_LOOK)
    if len(found) > 1:
        raise Rejected(
            f"{len(found)} {what}s are called {said}",
            hint=f"give the domain too: {', '.join(sorted(places)[:5])}",
        )
    return found[0]


def _accounts(inventory: InventoryReading, cloud_id: str) -> list[CloudAccount]:
    found = inventory.present(cloud_id, CloudKind.ACCOUNT)
    return [each for each in found if isinstance(each, CloudAccount)]


def _projects(inventory: InventoryReading, cloud_id: str) -> list[CloudProject]:
    found = inventory.present(cloud_id, CloudKind.PROJECT)
    return [each for each in found if isinstance(each, CloudProject)]
