"""What a tenant sees of its own quota and use, and that nobody else's is shown: both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.model.access import Grant, Role, TenantScope, User
from sendense.model.cloud import CloudAccount, CloudDomain, CloudKind, CloudProject, Owner
from sendense.model.tenant import Tenant
from tests.support.api_site import api_site
from tests.support.catalogs import catalog_at, new_urls
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import NOW, a_point_entry, a_repository_entry

WEST, EAST = "id-west", "id-east"
DOMAINS = (
    CloudDomain("d-root", "ROOT", "ROOT"),
    CloudDomain("d-acme", "acme", "ROOT/acme", "d-root"),
    CloudDomain("d-lab", "lab", "ROOT/acme/lab", "d-acme"),
)
ACCOUNTS = (
    CloudAccount("a-ann", "ann", "d-acme", "ROOT/acme", 0, "enabled"),
    CloudAccount("a-bob", "bob", "d-acme", "ROOT/acme", 0, "enabled"),
    CloudAccount("a-eve", "eve", "d-lab", "ROOT/acme/lab", 0, "enabled"),
)
SHOP = CloudProject("p-shop", "shop", "d-acme", "ROOT/acme")
OWNERS = {
    "vm-ann": Owner("d-acme", "ROOT/acme", "ann"),
    "vm-bob": Owner("d-acme", "ROOT/acme", "bob"),
    "vm-eve": Owner("d-lab", "ROOT/acme/lab", "eve"),
    "vm-shop": Owner("d-acme", "ROOT/acme", "", "p-shop", "shop"),
}
STORED = {"vm-ann": 7, "vm-bob": 110, "vm-eve": 1300, "vm-shop": 17000}
SCOPES = {
    "ann": TenantScope(WEST, "ROOT/acme", "d-acme", "ann", account_id="a-ann"),
    "bob": TenantScope(WEST, "ROOT/acme", "d-acme", "bob", account_id="a-bob"),
    "eve": TenantScope(WEST, "ROOT/acme/lab", "d-lab", "eve", account_id="a-eve"),
    "acme": TenantScope(WEST, "ROOT/acme", "d-acme"),
    "lab": TenantScope(WEST, "ROOT/acme/lab", "d-lab"),
    "shop": TenantScope(WEST, project_id="p-shop"),
}
QUOTAS = {name: 20_000 + 1000 * number for number, name in enumerate(SCOPES)}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request, tmp_path_factory):
    with new_urls(request.param) as urls, catalog_at(urls()) as catalog:
        catalog.clouds.add(a_cloud("west"), KEYS_OF_CLOUD)
        catalog.clouds.add(a_cloud("east"), KEYS_OF_CLOUD)
        catalog.inventory.take(WEST, CloudKind.DOMAIN, DOMAINS, NOW)
        catalog.inventory.take(WEST, CloudKind.ACCOUNT, ACCOUNTS, NOW)
        catalog.inventory.take(WEST, CloudKind.PROJECT, [SHOP], NOW)
        found = [
            a_cloud_instance(number, id=uuid, name=uuid, owner=owner)
            for number, (uuid, owner) in enumerate(OWNERS.items())
        ]
        catalog.inventory.take_instances(WEST, pairs(*found), NOW)
        for name in ("main", "second"):
            catalog.repositories.add(a_repository_entry(name))
        for number, (uuid, stored) in enumerate(STORED.items()):
            for repository, share in (("id-main", stored - 1), ("id-second", 1)):
                point = a_point_entry(
                    number, machine_uuid=uuid, machine_name=uuid, repository_id=repository,
                    stored_bytes=share,
                )  # fmt: skip
                catalog.points.put([point], NOW)
        for name, scope in SCOPES.items():
            catalog.tenants.add(Tenant(f"id-{name}", f"t-{name}", scope, "id-main", QUOTAS[name]))
        # The same words in another cloud are somebody else.
        for name, scope in SCOPES.items():
            other = replace(scope, cloud_id=EAST)
            catalog.tenants.add(Tenant(f"east-{name}", f"east-{name}", other, None, 5))
        with api_site(catalog, tmp_path_factory.mktemp("stores")) as served:
            yield served


def usage(site, *scopes, name="somebody", **grant):
    """Ask as somebody who has these scopes; what is summed is what is listed for it."""
    user = User(name, Role.TENANT, NOW, grant=Grant(tenants=tuple(scopes), **grant))
    site.catalog.users.add(user)
    try:
        client = site.client(token=site.token(name))
        answer, points = client.get("/usage"), client.get("/points").json()["items"]
    finally:
        site.catalog.users.remove(name)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["points"] == len(points)
    assert found["stored_bytes"] == sum(each["stored_bytes"] for each in points)
    return found


@pytest.mark.parametrize(
    ("who", "sees"),
    [
        ("ann", {"vm-ann"}),
        ("bob", {"vm-bob"}),
        ("eve", {"vm-eve"}),
        ("lab", {"vm-eve"}),
        ("acme", set(OWNERS)),
        ("shop", {"vm-shop"}),
    ],
)
def test_each_sees_its_own_quota_alone(site, who, sees):
    """Not that of the domain above, nor of accounts below: only what is its own."""
    found = usage(site, SCOPES[who])
    stored = sum(STORED[uuid] for uuid in sees)
    assert (found["instances"], found["points"]) == (len(sees), 2 * len(sees))
    assert found["stored_bytes"] == stored
    [own] = found["tenants"]
    assert own == {
        "name": f"t-{who}",
        "domain_path": SCOPES[who].domain_path,
        "account": SCOPES[who].account,
        "project": "shop" if who == "shop" else "",
        "quota_bytes": QUOTAS[who],
        "stored_bytes": stored,
        "left_bytes": QUOTAS[who] - stored,
    }


def test_an_account_sees_that_of_its_projects_too(site):
    found = usage(site, SCOPES["ann"], SCOPES["shop"])
    assert [each["name"] for each in found["tenants"]] == ["t-ann", "t-shop"]
    assert found["stored_bytes"] == STORED["vm-ann"] + STORED["vm-shop"]


@pytest.mark.parametrize(
    "scope",
    [
        replace(SCOPES["ann"], account_id="a-new"),  # the account was made again
        replace(SCOPES["ann"], account_id=""),  # nobody said which one
        replace(SCOPES["ann"], domain_id="d-new"),  # the path is another domain's now
        replace(SCOPES["ann"], domain_id=""),
        replace(SCOPES["acme"], domain_id="d-new"),
        replace(SCOPES["acme"], domain_id=""),
        TenantScope(WEST, project_id="shop"),
        TenantScope(WEST, "ROOT", "d-root", "ann", account_id="a-root"),
    ],
)
def test_who_has_somebodys_name_has_not_its_quota(site, scope):
    assert usage(site, scope)["tenants"] == []


def test_another_cloud_is_another_owner(site):
    found = usage(site, replace(SCOPES["ann"], cloud_id=EAST))
    assert [each["name"] for each in found["tenants"]] == ["east-ann"]
    assert (found["stored_bytes"], found["points"]) == (0, 0)


def test_who_has_single_instances_has_no_quota(site):
    found = usage(site, instances=("vm-bob",))
    assert (found["stored_bytes"], found["tenants"]) == (110, [])
    nothing = usage(site)
    assert (nothing["instances"], nothing["points"], nothing["stored_bytes"]) == (0, 0, 0)


def test_what_is_used_up_and_what_is_without_a_quota(site):
    tenants = site.catalog.tenants
    tenants.edit("id-ann", quota_bytes=3)
    assert usage(site, SCOPES["ann"])["tenants"][0]["left_bytes"] == 0
    tenants.edit("id-ann", quota_bytes=-1)
    [own] = usage(site, SCOPES["ann"])["tenants"]
    assert (own["quota_bytes"], own["left_bytes"], own["stored_bytes"]) == (None, None, 7)
    tenants.edit("id-ann", quota_bytes=QUOTAS["ann"])


def test_it_is_for_tenants(site):
    for role in Role:
        expected = 200 if role is Role.TENANT else 403
        assert site.client(role).get("/usage").status_code == expected
    # A token that is narrowed to a tenant has the grant of its user: none.
    token = site.token("admin", role=Role.TENANT)
    assert site.client(token=token).get("/usage").json()["stored_bytes"] == 0
    narrow = site.token("tenant", scopes=("jobs:read",))
    assert site.client(token=narrow).get("/usage").status_code == 403
