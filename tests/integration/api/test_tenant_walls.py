"""Two tenants, and every route of the document: nothing of the one is there for the other.

Reading is tried by itself, with every id of the other in every place of a path or a query.  What
changes something needs a decision here (:data:`ACTS`); a new route that tenants may use and that
nobody decided about fails the test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from sendense.catalog.tables import JOBS
from sendense.model.access import AuditNote, Grant, Role, TenantScope, User
from sendense.model.cloud import CloudAccount, CloudKind, CloudProject, Owner
from sendense.model.job import JobState
from sendense.model.page import Paging
from sendense.model.policy import MatchRules
from sendense.model.tenant import Tenant
from tests.support.api_site import api_site
from tests.support.builders import a_machine
from tests.support.catalogs import catalog_at, new_urls
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import (
    NOW,
    a_heartbeat,
    a_host,
    a_point_entry,
    a_policy,
    a_repository_entry,
    a_request,
)

LATER = NOW + timedelta(minutes=1)
NOBODY = "nothing-here"
CLOUD = "id-west"
REFUSED = {401, 403, 404, 422}

OWNERS = {
    "alfa": Owner("d-alfa", "ROOT/alfa", "alfa-account"),
    "bravo": Owner("d-bravo", "ROOT/bravo", "", "p-bravo", "bravo-project"),
}
SCOPES = {
    "alfa": TenantScope(CLOUD, "ROOT/alfa", "d-alfa", "alfa-account"),
    "bravo": TenantScope(CLOUD, project_id="p-bravo"),
}


@dataclass(frozen=True)
class Side:
    """One tenant: all of its ids begin with its word."""

    word: str

    def id(self, what: str) -> str:
        """Give the id of something of it."""
        return f"{self.word}-{what}"

    @property
    def other(self) -> Side:
        """Give the other one."""
        return Side("bravo" if self.word == "alfa" else "alfa")


def acts(other: Side, own: Side) -> dict[str, list[Any]]:
    """Say how a tenant tries to do something to the other, by the names of routes."""
    restore = {"point_id": other.id("point"), "repository_id": other.id("repo")}
    mine = {"point_id": own.id("point")}
    keys = {"api_key": "k", "secret_key": "s"}
    into_cloud = [
        restore,
        {"point_id": other.id("gone-point"), "aim": "recreate"},
        {**mine, "repository_id": other.id("repo")},
        {**mine, "aim": "data-disk", "volumes": ["root"], "instance_id": other.id("vm")},
        {**mine, "aim": "recreate", "account": OWNERS[other.word].account or "x"},
        {**mine, "aim": "recreate", "project": "bravo-project"},
        {**mine, "aim": "recreate", "networks": {"front": other.id("net")}},
        {**mine, "aim": "recreate", "pool": "primary", "cloud_id": CLOUD},
        {**mine, "onto": {"root": other.id("volume")}},
        {**mine, "continues": other.id("job")},
    ]
    return {
        "cancel_job": [None],
        "revoke_token": [None],
        "create_token": [{"name": "x", "user": other.id("user")}],
        "ask_restore": [
            restore,
            {"point_id": other.id("gone-point")},
            {**mine, "host_id": other.id("host")},
            {**mine, "pool": "default", "host_id": other.id("host")},
            {**mine, "repository_id": other.id("repo")},
        ],
        "plan_cloud_restore": into_cloud,
        "ask_cloud_restore": into_cloud,
        # For everybody: it says who somebody is, and takes no token.
        "sign_in_cloudstack": [{"cloud": other.id("cloud"), **keys}],
        "sign_in_cloudstack_password": [
            {"cloud": other.id("cloud"), "user": other.id("user"), "password": "p"}
        ],
        "take_hint": [{"event": "x"}],
    }


def ids(other: Side) -> list[str]:
    """Give every id of somebody, and of what is for operators only."""
    things = (
        "vm", "gone", "host", "repo", "policy", "point", "gone-point", "job", "done", "repo-job",
        "user", "tenant",
    )  # fmt: skip
    return [*map(other.id, things), OWNERS[other.word].domain_id, CLOUD, "west"]


def fill(catalog, side: Side, number: int) -> None:
    """Give a tenant one of everything."""
    owner = OWNERS[side.word]
    host, repository = a_host(side.id("host")), a_repository_entry(side.id("repo"))
    catalog.hosts.add(replace(host, id=side.id("host")))
    catalog.hosts.heard(side.id("host"), a_heartbeat(), NOW)
    catalog.repositories.add(replace(repository, id=side.id("repo"), url=f"/srv/{side.word}"))
    found = [
        a_cloud_instance(
            number * 10 + place, id=side.id(what), name=side.id(what), owner=owner,
            display_name=side.id(f"{what}-shown"), domain_name=side.id(f"{what}-domain"),
            host=side.id("host"), tags={side.id("tag"): "yes"},
        )
        for place, what in enumerate(("vm", "gone"))
    ]  # fmt: skip
    catalog.inventory.take_instances(CLOUD, pairs(*found), NOW)
    catalog.inventory.take_instances(CLOUD, pairs(found[0]), LATER)
    machine = a_machine(uuid=side.id("vm"), name=side.id("vm-domain"))
    catalog.instances.see(side.id("host"), [machine], NOW)
    match = MatchRules(domains=(owner.domain,))
    policy = a_policy(side.id("policy"), repository_id=side.id("repo"), match=match)
    catalog.policies.add(replace(policy, id=side.id("policy"), updated_at=LATER))
    for place, what in enumerate(("vm", "gone")):
        point = a_point_entry(
            number * 10 + place, id=side.id("point" if what == "vm" else "gone-point"),
            machine_uuid=side.id(what), machine_name=side.id(what), repository_id=side.id("repo"),
        )  # fmt: skip
        catalog.points.put([point], NOW)
    request = a_request(
        subject=side.id("vm"), repository_id=side.id("repo"), host_id=side.id("host"),
        policy_id=side.id("policy"), requested_by=side.id("user"),
    )  # fmt: skip
    catalog.jobs.submit(request, NOW, job_id=side.id("job"))
    catalog.jobs.submit(replace(request, subject=side.id("gone")), NOW, job_id=side.id("done"))
    catalog.jobs.request_cancel(side.id("done"), NOW)
    catalog.jobs.submit(replace(request, subject=side.id("repo")), NOW, job_id=side.id("repo-job"))
    catalog.users.add(
        User(side.id("user"), Role.TENANT, NOW, grant=Grant(tenants=(SCOPES[side.word],)))
    )
    catalog.tenants.add(
        Tenant(side.id("tenant"), side.id("tenant"), SCOPES[side.word], side.id("repo"), 1000)
    )
    catalog.audit.add(AuditNote(side.id("user"), "x", side.id("vm")), NOW)


def around(catalog) -> None:
    """Give the cloud its owners."""
    alfa, bravo = OWNERS["alfa"], OWNERS["bravo"]
    account = CloudAccount("a-alfa", alfa.account, alfa.domain_id, alfa.domain, 0, "enabled")
    project = CloudProject(bravo.project_id, bravo.project, bravo.domain_id, bravo.domain)
    catalog.inventory.take(CLOUD, CloudKind.ACCOUNT, [account], NOW)
    catalog.inventory.take(CLOUD, CloudKind.PROJECT, [project], NOW)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def site(request, tmp_path_factory):
    with new_urls(request.param) as urls, catalog_at(urls()) as catalog:
        catalog.clouds.add(a_cloud("west"), KEYS_OF_CLOUD)
        around(catalog)
        for number, word in enumerate(OWNERS, start=1):
            fill(catalog, Side(word), number)
        catalog.inventory.sweep(CLOUD, None, LATER, LATER)
        with api_site(catalog, tmp_path_factory.mktemp("stores"), allowed=10_000_000) as served:
            yield served


@pytest.fixture(scope="module")
def document(site):
    return site.client(None).get("/openapi.json").json()


@pytest.fixture(params=list(OWNERS))
def side(request):
    return Side(request.param)


@pytest.fixture
def client(site, side):
    return site.client(token=site.token(side.id("user")))


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            open_to = operation["x-sendense-roles"]
            yield method.upper(), path, operation, not open_to or Role.TENANT.value in open_to


def places(path: str, key: str) -> str:
    """Put an id in all places of a path."""
    parts = (key if part.startswith("{") else part for part in path.split("/"))
    return "/".join(parts)


def said(answer: httpx.Response, key: str) -> str:
    """Give what an answer says, without what was asked for."""
    return answer.text.replace(key, NOBODY)


def test_what_is_for_others_is_refused_whatever_is_named(site, document, client, side):
    for method, path, operation, open_to_it in operations(document):
        if open_to_it:
            continue
        for key in (side.other.id("vm"), side.other.id("repo")):
            body: dict[str, str] | None = {} if method in {"POST", "PUT", "PATCH"} else None
            answer = client.request(method, site.url + places(path, key), json=body)
            assert answer.status_code == 403, (operation["operationId"], answer.text)
            assert side.other.word not in said(answer, key)


def test_what_is_the_others_is_not_there(site, document, client, side):
    """Not even that it exists is told: the answer is that to an id that nobody has."""
    tried = 0
    for method, path, operation, open_to_it in operations(document):
        if method != "GET" or not open_to_it or "{" not in path:
            continue
        nothing = client.get(site.url + places(path, NOBODY))
        for key in ids(side.other):
            answer = client.get(site.url + places(path, key))
            name = operation["operationId"], key
            assert answer.status_code == nothing.status_code in REFUSED, name
            assert said(answer, key) == nothing.text, name
            tried += 1
    assert tried > 50


def test_lists_hold_nothing_of_the_other(site, document, client, side):
    tried = 0
    for method, path, operation, open_to_it in operations(document):
        if method != "GET" or not open_to_it or "{" in path:
            continue
        name = operation["operationId"]
        if name == "show_openapi":
            continue
        whole = client.get(site.url + path)
        assert side.other.word not in whole.text, name
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "query" or parameter["name"] in {"limit", "cursor"}:
                continue
            for key in ids(side.other):
                answer = client.get(site.url + path, params={parameter["name"]: key})
                assert side.other.word not in said(answer, key), (name, parameter["name"], key)
                tried += 1
    assert tried > 100


def test_nothing_is_done_to_the_other(site, document, client, side):
    before = state_of(site.catalog, side.other)
    decided = acts(side.other, side)
    for method, path, operation, open_to_it in operations(document):
        if method == "GET" or not open_to_it:
            continue
        name = operation["operationId"]
        assert name in decided, f"say in acts() how a tenant could try {name} ({method} {path})"
        token = site.catalog.tokens.page(user=side.other.id("user")).items
        keys = [*ids(side.other), *(each.id for each in token)]
        for key in keys if "{" in path else [NOBODY]:
            for body in decided[name]:
                answer = client.request(method, site.url + places(path, key), json=body)
                assert answer.status_code in REFUSED, (name, key, body, answer.text)
                sent = json.dumps(body)
                words = {key, *(each for each in ids(side.other) if each in sent)}
                left = answer.text
                for word in sorted(words, key=len, reverse=True):
                    left = left.replace(word, NOBODY)
                assert side.other.word not in left, (name, answer.text)
    assert state_of(site.catalog, side.other) == before


def state_of(catalog, side: Side) -> list[Any]:
    """Give what could be another thing after something was done to somebody."""
    name = side.id("user")
    return [
        [job for job in catalog.jobs.page(Paging(limit=1000)).items if side.word in job.id],
        len(catalog.jobs.page(Paging(limit=1000)).items),
        [token.id for token in catalog.tokens.page(user=name).items],
        catalog.users.get(name),
        catalog.tenants.named(side.id("tenant")),
        catalog.points.copies(side.id("point")),
        catalog.points.copies(side.id("gone-point")),
    ]


def test_each_sees_its_own(site, client, side):
    """Also what the cloud has no longer: points outlive their instance."""
    names = {each["uuid"] for each in client.get("/instances").json()["items"]}
    assert names == {side.id("vm"), side.id("gone")}
    points = {each["id"] for each in client.get("/points").json()["items"]}
    assert points == {side.id("point"), side.id("gone-point")}
    jobs = {each["id"] for each in client.get("/jobs").json()["items"]}
    assert jobs == {side.id("job"), side.id("done")}
    for path in (f"/points/{side.id('gone-point')}", f"/jobs/{side.id('job')}"):
        assert client.get(path).status_code == 200
    assert client.get(f"/jobs/{side.id('repo-job')}").status_code == 404


def test_what_takes_its_instances_has_no_name(site, client, side):
    """A policy that takes the instances of two customers may be called as one of them is."""
    vm = side.id("vm")
    paths = ("/instances", f"/instances/{vm}", "/cloudstack/vms", f"/cloudstack/vms/{vm}",
             "/protection", "/jobs")  # fmt: skip
    word, admin = side.id("policy"), site.client()
    asked = site.catalog.jobs.submit(
        a_request(subject=vm, policy_id=word, requested_by=f"policy:{word}"), NOW
    )
    assert word in admin.get("/protection").text
    for path in (*paths, f"/jobs/{asked.id}"):
        assert word not in client.get(path).text, path
    shown = client.get(f"/jobs/{asked.id}").json()
    assert (shown["requested_by"], shown["policy_id"]) == ("policy", None)
    for wanted in ({"requested_by": f"policy:{word}"}, {"policy_id": word}):
        assert client.get("/jobs", params=wanted).json()["items"] == []
        assert admin.get("/jobs", params=wanted).json()["items"] != []
    mine = client.get("/jobs", params={"requested_by": side.id("user")}).json()["items"]
    assert {each["requested_by"] for each in mine} == {side.id("user")}
    with site.catalog.database.write() as connection:
        connection.execute(delete(JOBS).where(JOBS.c.id == asked.id))


def test_it_cancels_what_it_asked_for_itself(site, client, side):
    mine = site.catalog.jobs.submit(
        a_request(subject=side.id("vm"), requested_by=side.id("user")), NOW
    )
    theirs = site.catalog.jobs.submit(a_request(subject=side.id("vm")), NOW)
    assert client.post(f"/jobs/{theirs.id}/cancel").status_code == 403
    answer = client.post(f"/jobs/{mine.id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, JobState.CANCELLED.value)
    with site.catalog.database.write() as connection:
        connection.execute(delete(JOBS).where(JOBS.c.id.in_([mine.id, theirs.id])))


def test_an_instance_that_changes_its_owner_moves_with_its_points(tmp_path):
    with new_urls("sqlite") as urls, catalog_at(urls()) as catalog:
        catalog.clouds.add(a_cloud("west"), KEYS_OF_CLOUD)
        for number, word in enumerate(OWNERS, start=1):
            fill(catalog, Side(word), number)
        given = a_cloud_instance(id="alfa-vm", name="alfa-vm", owner=OWNERS["bravo"])
        catalog.inventory.take_instances(CLOUD, pairs(given), LATER)
        with api_site(catalog, tmp_path) as site:
            for word, status in (("alfa", 404), ("bravo", 200)):
                client = site.client(token=site.token(f"{word}-user"))
                for path in ("/instances/alfa-vm", "/points/alfa-point", "/jobs/alfa-job"):
                    assert client.get(path).status_code == status, (word, path)
