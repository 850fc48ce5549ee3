"""Tenants over the API: who becomes one, where its points go, and what it may store."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from sendense import clock
from sendense.catalog.jobs import JobFilter
from sendense.errors import Rejected
from sendense.model.access import Grant, Role, TenantScope, User
from sendense.model.cloud import CloudAccount, CloudDomain, CloudKind, CloudProject, Owner
from sendense.model.job import Job, JobKind, JobState
from sendense.model.policy import MatchRules
from sendense.model.tenant import Tenant
from sendense.repository.protocol import Repository
from sendense.server.handlers import Handlers, JobTask
from sendense.settings import Settings
from sendense.workflows.managed import backup
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.quotas import quota_warnings
from tests.support.api_site import api_site
from tests.support.catalogs import catalog_at, new_urls
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import (
    NOW,
    a_point_entry,
    a_policy,
    a_repository_entry,
    a_request,
)

CLOUD = "id-west"
ANN, BOB, SHOP = "vm-ann", "vm-bob", "vm-shop"
OWNERS = {
    ANN: Owner("d-acme", "ROOT/acme", "ann"),
    BOB: Owner("d-acme", "ROOT/acme", "bob"),
    SHOP: Owner("d-lab", "ROOT/acme/lab", "", "p-shop", "shop"),
}
DOMAINS = (
    CloudDomain("d-root", "ROOT", "ROOT"),
    CloudDomain("d-acme", "acme", "ROOT/acme", "d-root"),
    CloudDomain("d-lab", "lab", "ROOT/acme/lab", "d-acme"),
)
ACCOUNTS = (
    CloudAccount("a1", "admin", "d-root", "ROOT", 1, "enabled"),
    CloudAccount("a2", "ann", "d-acme", "ROOT/acme", 0, "enabled"),
    CloudAccount("a3", "bob", "d-acme", "ROOT/acme", 2, "enabled"),
    CloudAccount("a4", "ann", "d-lab", "ROOT/acme/lab", 0, "enabled"),
)
PROJECTS = (CloudProject("p-shop", "shop", "d-lab", "ROOT/acme/lab"),)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def urls(request):
    with new_urls(request.param) as found:
        yield found


@pytest.fixture
def site(urls, tmp_path):
    with catalog_at(urls()) as catalog:
        catalog.clouds.add(a_cloud("west"), KEYS_OF_CLOUD)
        catalog.inventory.take(CLOUD, CloudKind.DOMAIN, DOMAINS, NOW)
        catalog.inventory.take(CLOUD, CloudKind.ACCOUNT, ACCOUNTS, NOW)
        catalog.inventory.take(CLOUD, CloudKind.PROJECT, PROJECTS, NOW)
        found = [
            a_cloud_instance(number, id=uuid, name=uuid, owner=owner)
            for number, (uuid, owner) in enumerate(OWNERS.items())
        ]
        catalog.inventory.take_instances(CLOUD, pairs(*found), NOW)
        for name in ("main", "acme", "lab"):
            catalog.repositories.add(a_repository_entry(name))
        with api_site(catalog, tmp_path) as served:
            yield served


@pytest.fixture
def admin(site):
    return site.client()


def tenant(site, name, scope, **changes):
    """Add one."""
    made = replace(Tenant(f"id-{name}", name, scope), **changes)
    site.catalog.tenants.add(made)
    return made


ACME = TenantScope(CLOUD, "ROOT/acme", "d-acme")
ACCOUNT = TenantScope(CLOUD, "ROOT/acme", "d-acme", "ann", account_id="a2")
PROJECT = TenantScope(CLOUD, project_id="p-shop")


# --- Who is one


@pytest.mark.parametrize(
    ("asked", "scope"),
    [
        ({"domain": "ROOT/acme"}, ACME),
        ({"domain": "d-acme"}, ACME),
        ({"domain": "ROOT/acme", "account": "ann"}, ACCOUNT),
        ({"account": "bob"}, replace(ACCOUNT, account="bob", account_id="a3")),
        ({"project": "shop"}, PROJECT),
        ({"project": "p-shop", "domain": "ROOT/acme/lab"}, PROJECT),
    ],
)
def test_one_is_found_by_what_people_say(site, admin, asked, scope):
    answer = admin.post("/tenants", json={"name": "x", "cloud_id": CLOUD, **asked})
    assert answer.status_code == 201, answer.text
    assert site.catalog.tenants.named("x").scope == scope
    assert answer.json()["project"] == ("shop" if scope.project_id else "")
    assert answer.json()["cloud"] == "west"


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({}, 422, "a tenant is a domain, an account or a project"),
        ({"domain": "ROOT/nobody"}, 404, "no domain ROOT/nobody"),
        ({"domain": "acme"}, 404, "did you mean ROOT/acme?"),
        ({"account": "ann"}, 422, "2 accounts are called ann"),
        ({"account": "eve"}, 404, "no account eve"),
        ({"domain": "ROOT/acme", "project": "shop"}, 404, "no project shop"),
        ({"account": "bob", "project": "shop"}, 422, "an account or a project"),
        ({"domain": "ROOT/acme", "repository_id": "none"}, 404, "none"),
        ({"domain": "ROOT/acme", "quota_bytes": -1}, 422, "quota_bytes"),
    ],
)
def test_nobody_is_no_tenant(site, admin, asked, status, says):
    answer = admin.post("/tenants", json={"name": "x", "cloud_id": CLOUD, **asked})
    assert answer.status_code == status
    assert says in answer.text
    assert site.catalog.tenants.page().items == ()


def test_one_is_shown_changed_and_removed(site, admin):
    tenant(site, "acme", ACME, quota_bytes=1000)
    site.catalog.points.put([a_point_entry(machine_uuid=BOB, stored_bytes=70)], NOW)
    [shown] = admin.get("/tenants").json()["items"]
    assert shown == admin.get("/tenants/id-acme").json()
    assert (shown["stored_bytes"], shown["quota_bytes"], shown["repository_id"]) == (70, 1000, None)
    changed = admin.patch("/tenants/id-acme", json={"repository_id": "id-lab", "quota_bytes": -1})
    assert (changed.json()["repository_id"], changed.json()["quota_bytes"]) == ("id-lab", None)
    assert admin.patch("/tenants/id-acme", json={"repository_id": "none"}).status_code == 404
    assert admin.patch("/tenants/id-acme", json={"repository_id": ""}).json()["name"] == "acme"
    assert site.catalog.tenants.get("id-acme").repository_id is None
    assert admin.patch("/tenants/no-one", json={"name": "x"}).status_code == 404
    assert admin.get("/tenants", params={"repository_id": "id-lab"}).json()["items"] == []
    assert admin.delete("/tenants/id-acme").status_code == 204
    assert admin.get("/tenants/id-acme").status_code == 404


def test_all_accounts_and_projects_become_tenants(site, admin):
    tenant(site, "known", replace(ACCOUNT, account_id=""))
    tenant(site, "acme/bob", PROJECT)  # its name is taken
    shown = admin.post(f"/clouds/{CLOUD}/tenants", json={"dry_run": True}).json()
    assert [each["name"] for each in shown["tenants"]] == ["acme/lab/ann", "west/acme/bob"]
    assert len(site.catalog.tenants.every()) == 2
    made = admin.post(f"/clouds/{CLOUD}/tenants", json={}).json()["tenants"]
    assert [each["name"] for each in made] == ["acme/lab/ann", "west/acme/bob"]
    assert {each.scope.account for each in site.catalog.tenants.every()} == {"ann", "bob", ""}
    assert admin.post(f"/clouds/{CLOUD}/tenants", json={}).json()["tenants"] == []
    bob = CloudAccount("a9", "bob", "d-acme", "ROOT/acme", 2, "enabled")
    site.catalog.inventory.take(CLOUD, CloudKind.ACCOUNT, [bob], NOW)
    site.catalog.inventory.sweep(CLOUD, CloudKind.ACCOUNT, NOW + timedelta(seconds=1), NOW)
    site.catalog.inventory.take(CLOUD, CloudKind.ACCOUNT, [bob], NOW)
    # An account that was made again is another one.
    [made] = admin.post(f"/clouds/{CLOUD}/tenants", json={}).json()["tenants"]
    assert (made["name"], made["account"], made["account_id"]) == ("acme/bob (2)", "bob", "a9")


# --- Where points go


def backups(site):
    jobs = site.catalog.jobs.page(wanted=JobFilter(kind=JobKind.BACKUP)).items
    return {job.subject: job for job in jobs}


def places(site):
    return {uuid: job.repository_id for uuid, job in backups(site).items()}


def test_points_go_to_the_closest_repository_of_its_tenants(site, admin):
    tenant(site, "acme", ACME, repository_id="id-acme")
    tenant(site, "ann", ACCOUNT)  # closer, and without one
    tenant(site, "shop", PROJECT, repository_id="id-lab")
    policy = a_policy(match=MatchRules(clouds=("west",)))
    site.catalog.policies.add(replace(policy, updated_at=clock.now()))
    assert admin.post("/policies/id-nightly/run").status_code == 202
    expected = {ANN: "id-acme", BOB: "id-acme", SHOP: "id-lab"}
    assert places(site) == expected
    said = backups(site)[SHOP].content["repository_because"]
    assert said == "it is the repository of the tenant shop"
    preview = admin.get("/policies/id-nightly/preview").json()["instances"]
    assert {each["uuid"]: each["repository_id"] for each in preview} == expected
    assert all("the repository of the tenant" in each["why"] for each in preview)


def test_a_backup_by_hand_goes_there_too(site, admin):
    tenant(site, "acme", ACME, repository_id="id-acme")
    for asked in ({}, {"repository_id": "id-acme"}):
        answer = admin.post("/backup/cloudstack", json={"vm_id": BOB, **asked})
        assert (answer.status_code, answer.json()["repository_id"]) == (202, "id-acme")
    other = admin.post("/backup/cloudstack", json={"vm_id": BOB, "repository_id": "id-main"})
    assert other.status_code == 422
    assert "under the tenant's own key" in other.json()["message"]


def test_who_has_none_goes_where_policies_say(site, admin):
    tenant(site, "shop", PROJECT, repository_id="id-lab")
    policy = a_policy(match=MatchRules(clouds=("west",)))
    site.catalog.policies.add(replace(policy, updated_at=clock.now()))
    admin.post("/policies/id-nightly/run")
    assert places(site) == {ANN: "id-main", BOB: "id-main", SHOP: "id-lab"}
    assert "repository_because" not in backups(site)[ANN].content


def test_the_policy_prunes_where_its_points_are(site):
    """Behind a backup, also where points lie from before the tenant had its repository."""
    site.catalog.policies.add(a_policy())
    handlers = Handlers(Estate(site.catalog, Settings()))
    request = a_request(subject=BOB, repository_id="id-acme", policy_id="id-nightly")
    job = site.catalog.jobs.submit(request, NOW)

    def pruned():
        return [each.repository_id for each in handlers._prune_behind(job)]

    assert pruned() == ["id-acme"]
    site.catalog.points.put([a_point_entry(machine_uuid=BOB)], NOW)
    assert pruned() == ["id-acme", "id-main"]


# --- What it may store


def stored(site, uuid, count, number=1):
    points = [a_point_entry(number, machine_uuid=uuid, machine_name=uuid, stored_bytes=count)]
    site.catalog.points.put(points, NOW)


def refused(site, uuid) -> Rejected:
    """Begin a backup, for which there is nothing but the catalogue: neither host nor store."""
    estate = Estate(site.catalog, Settings())
    job: Job = site.catalog.jobs.submit(a_request(subject=uuid, repository_id="id-main"), NOW)
    task = JobTask(site.catalog, job, lambda _: None, lambda: None)
    instance = site.catalog.instances.get(uuid)
    with pytest.raises(Rejected) as error:
        backup._attempt(estate, task, cast("Repository", None), instance)
    return error.value


def test_a_full_quota_refuses_what_begins(site):
    tenant(site, "acme", ACME, quota_bytes=1000)
    stored(site, BOB, 1000)
    error = refused(site, ANN)
    assert "the tenant acme stores 1000 B (1000 bytes) of its quota of 1000 B" in error.message
    assert "sendense tenant edit acme --quota" in str(error.hint)
    assert not error.retryable
    assert error.data["stored_bytes"] == 1000


def test_each_quota_above_an_instance_counts(site):
    tenant(site, "acme", ACME, quota_bytes=10_000)
    tenant(site, "ann", ACCOUNT, quota_bytes=100)
    stored(site, ANN, 95)
    stored(site, SHOP, 9000, number=2)
    assert [each.split(" stores")[0] for each in quota_warnings(site.catalog, ANN)] == [
        "the tenant acme", "the tenant ann",
    ]  # fmt: skip
    assert len(quota_warnings(site.catalog, BOB)) == 1
    stored(site, ANN, 5, number=3)
    assert "the tenant ann" in refused(site, ANN).message
    quota_warnings(site.catalog, BOB)


def test_below_nine_tenths_nothing_is_said(site):
    tenant(site, "acme", ACME, quota_bytes=1000)
    stored(site, ANN, 899)
    assert quota_warnings(site.catalog, ANN) == ()
    stored(site, ANN, 1, number=2)
    assert len(quota_warnings(site.catalog, ANN)) == 1


def test_what_is_gone_counts_and_nothing_is_no_quota(site):
    tenant(site, "acme", ACME, quota_bytes=0)
    assert "its quota of 0 B" in refused(site, ANN).message
    site.catalog.tenants.edit("id-acme", quota_bytes=500)
    stored(site, BOB, 500)
    later = NOW + timedelta(minutes=1)
    site.catalog.inventory.sweep(CLOUD, None, later, later)
    assert "stores 500 B" in refused(site, ANN).message
    site.catalog.tenants.edit("id-acme", quota_bytes=-1)
    assert quota_warnings(site.catalog, ANN) == ()


def test_a_tenant_over_its_quota_restores(site):
    tenant(site, "acme", ACME, quota_bytes=0)
    stored(site, BOB, 5)
    grant = Grant(tenants=(ACME,))
    site.catalog.users.add(User("acme", Role.TENANT, NOW, grant=grant))
    client = site.client(token=site.token("acme"))
    asked = client.post("/restore/cloudstack", json={"point_id": "p000001"})
    assert asked.status_code == 202, asked.text
    assert site.catalog.jobs.get(asked.json()["id"]).state is JobState.QUEUED
