"""Who may do what: every route of the document, asked by everybody."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from sendense import clock
from sendense.api.app import create_app
from sendense.catalog.audit import AuditFilter
from sendense.model.access import ALL_SCOPES, Grant, Outcome, Role, User
from tests.support.api_site import MINE, OTHER, api_site, fill
from tests.support.builders import a_machine
from tests.support.catalogs import catalog_at
from tests.support.fleet import NOW

A, O, V, T = Role.ADMIN, Role.OPERATOR, Role.VIEWER, Role.TENANT  # noqa: E741 - a table of them

ROLES = {
    "list_hosts": {A, O, V},
    "create_host": {A, O},
    "show_host": {A, O, V},
    "change_host": {A, O},
    "remove_host": {A},
    "revoke_host": {A},
    "show_gateway": {A, O, V},
    "enrol_host": {A},
    "undo_enrolment": {A},
    "check_host": {A, O, V},
    "release_host": {A},
    "pause_host": {A, O},
    "resume_host": {A, O},
    "list_agents": {A, O, V},
    "list_agents_cloudstack": {A, O, V},
    "list_instances": {A, O, V, T},
    "show_instance": {A, O, V, T},
    "list_clouds": {A, O, V},
    "create_cloud": {A},
    "show_cloud": {A, O, V},
    "change_cloud": {A},
    "remove_cloud": {A},
    "check_cloud": {A, O, V},
    "sync_cloud": {A, O},
    "show_role": {A, O, V},
    "show_cloud_role": {A, O, V},
    "set_webhook": {A},
    "remove_webhook": {A},
    "list_objects": {A, O, V},
    "list_cloud_hosts": {A, O, V},
    "list_changes": {A, O, V},
    "list_vms": {A, O, V, T},
    "show_vm": {A, O, V, T},
    "take_hint": set(),
    "list_repositories": {A, O, V},
    "create_repository": {A},
    "show_repository": {A, O, V},
    "change_repository": {A},
    "remove_repository": {A},
    "look_at_repository": {A, O, V},
    "list_repository_again": {A, O},
    "pin_point": {A, O},
    "unpin_point": {A, O},
    "lock_point": {A, O},
    "list_points": {A, O, V, T},
    "show_point": {A, O, V, T},
    "list_policies": {A, O, V},
    "create_policy": {A, O},
    "preview_policy": {A, O, V},
    "show_policy": {A, O, V},
    "change_policy": {A, O},
    "remove_policy": {A, O},
    "preview_known_policy": {A, O, V},
    "run_policy": {A, O},
    "list_rounds": {A, O, V},
    "list_jobs": {A, O, V, T},
    "show_job": {A, O, V, T},
    "list_attempts": {A, O, V, T},
    "cancel_job": {A, O, T},
    "watch_job": {A, O, V, T},
    "back_up": {A, O},
    "ask_backup": {A, O},
    "ask_restore": {A, O, T},
    "plan_cloud_restore": {A, O, T},
    "ask_cloud_restore": {A, O, T},
    "ask_verify": {A, O},
    "ask_prune": {A, O},
    "ask_gc": {A, O},
    "ask_copy": {A, O},
    "ask_discover": {A, O},
    "show_caller": {A, O, V, T},
    "list_users": {A},
    "create_user": {A},
    "show_user": {A},
    "change_user": {A},
    "remove_user": {A},
    "list_tokens": {A, O, V, T},
    "create_token": {A, O, V, T},
    "revoke_token": {A, O, V, T},
    "show_status": {A, O, V},
    "list_protection": {A, O, V, T},
    "list_audit": {A},
    "list_settings": {A, O, V},
    "show_setting": {A, O, V},
    "change_setting": {A},
    "remove_setting": {A},
    "reseal_secrets": {A},
    "show_metrics": {A, O, V},
    "show_health": set(),
    "sign_in_cloudstack": set(),
    "sign_in_cloudstack_password": set(),
    "show_usage": {T},
    "list_tenants": {A, O},
    "create_tenant": {A},
    "create_all_tenants": {A},
    "show_tenant": {A, O},
    "change_tenant": {A},
    "remove_tenant": {A},
}
"""Written down a second time: who opens a route to somebody changes two places."""
SIGNED = {"take_hint"}
"""For everybody whose body is signed; ours is not."""
OPEN = {"take_hint": 403, "sign_in_cloudstack": 422, "sign_in_cloudstack_password": 422}
"""For everybody without a token, and what an empty body is answered with."""


@pytest.fixture(scope="module")
def site(new_url, tmp_path_factory):
    """One server for all of it: what is asked here changes nothing."""
    with catalog_at(new_url()) as catalog:
        fill(catalog)
        with api_site(catalog, tmp_path_factory.mktemp("stores"), allowed=10_000) as served:
            yield served


@pytest.fixture(autouse=True)
def clients_are_closed(site):
    """A server of a whole module would else have hundreds of connections in the end."""
    yield
    site.close_clients()


@pytest.fixture(scope="module")
def document(site):
    return site.client(None).get("/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def ask(site, client, method, path):
    """Ask for something that is not there, with a body that does not fit: it changes nothing."""
    url = site.url + path.replace("{name}", "nobody").replace("{", "no-").replace("}", "")
    body: dict[str, str] | None = {} if method in {"POST", "PUT", "PATCH"} else None
    return client.request(method, url, json=body)


def test_every_route_is_in_the_table(document):
    declared = {
        operation["operationId"]: {Role(role) for role in operation["x-sendense-roles"]}
        for _, _, operation in operations(document)
    }
    assert declared == ROLES


def test_every_route_is_in_the_document(site, document):
    app = create_app(site.services)
    served = {
        (method, re.sub(r":\w+}", "}", str(context.path)))
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.original_route.methods or ()
    }
    described = {(method, path) for method, path, _ in operations(document)}
    assert served - described == {("GET", "/api/v1/openapi.json")}


@pytest.mark.parametrize("role", Role)
def test_a_role_gets_where_it_may_and_nowhere_else(site, document, role):
    client = site.client(role)
    for method, path, operation in operations(document):
        allowed = ROLES[operation["operationId"]]
        response = ask(site, client, method, path)
        if operation["operationId"] not in SIGNED and (not allowed or role in allowed):
            assert response.status_code not in {401, 403, 500}, (method, path, response.text)
        else:
            assert response.status_code == 403, (method, path, response.text)
            assert response.json()["code"] == "not-allowed"


def test_nobody_gets_anywhere(site, document):
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic YTpi"}):
        client = site.client(None)
        client.headers.update(headers)
        for method, path, operation in operations(document):
            response = ask(site, client, method, path)
            name = operation["operationId"]
            expected = OPEN.get(name, 401 if ROLES[name] else 200)
            assert response.status_code == expected, (method, path)


def test_a_token_gets_as_far_as_its_scopes(site, document):
    for method, path, operation in operations(document):
        scope = operation.get("x-sendense-scope")
        if scope is None:
            continue
        who = "admin" if A in ROLES[operation["operationId"]] else "tenant"
        enough = {scope, f"{scope.split(':')[0]}:write"}
        others = [each for each in ALL_SCOPES if each not in enough]
        response = ask(site, site.client(token=site.token(who, scopes=others)), method, path)
        assert response.status_code == 403, (method, path)
        assert scope in response.json()["message"]
        for each in enough:
            client = site.client(token=site.token(who, scopes=(each,)))
            assert ask(site, client, method, path).status_code not in {401, 403}, (method, path)


class TestTenant:
    @pytest.fixture
    def tenant(self, site):
        return site.client(Role.TENANT)

    def test_sees_its_own_and_nothing_else(self, tenant):
        def field(path, name):
            return [each[name] for each in tenant.get(path).json()["items"]]

        assert field("/instances", "uuid") == [MINE]
        assert field("/points", "machine_uuid") == [MINE]
        assert set(field("/jobs", "subject")) == {MINE}
        assert field(f"/jobs?subject={OTHER}", "subject") == []
        assert field(f"/points?machine={OTHER}", "id") == []

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            (f"/instances/{MINE}", 200),
            (f"/instances/{OTHER}", 404),
            ("/points/p000001", 200),
            ("/points/p000002", 404),
            (f"/jobs/job-{MINE}", 200),
            (f"/jobs/job-{OTHER}", 404),
            (f"/jobs/job-{OTHER}/events", 404),
            (f"/jobs/job-{OTHER}/attempts", 404),
        ],
    )
    def test_of_others_there_is_nothing(self, tenant, path, status):
        assert tenant.get(path).status_code == status

    def test_restores_its_own_in_place(self, site, tenant):
        asked = {"point_id": "p000001"}
        job = tenant.post("/jobs/restore", json=asked)
        assert job.status_code == 202
        assert tenant.post("/jobs/restore", json={"point_id": "p000002"}).status_code == 404
        for where in ({"host_id": "id-kvm1"}, {"pool": "p"}):
            response = tenant.post("/jobs/restore", json=asked | where)
            assert response.status_code == 403
        assert tenant.post(f"/jobs/job-{MINE}/cancel").status_code == 403
        assert tenant.post(f"/jobs/{job.json()['id']}/cancel").status_code == 202

    def test_an_old_name_opens_no_instance_that_is_another_s_now(self, site):
        site.catalog.users.add(User("renter", Role.TENANT, NOW, grant=Grant(names=(f"vm-{MINE}",))))
        renter = site.client(token=site.token("renter"))
        asked = {"point_id": "p000001"}
        assert [each["id"] for each in renter.get("/points").json()["items"]] == ["p000001"]
        assert renter.post("/jobs/restore", json=asked).status_code == 202
        renamed = [a_machine(uuid=MINE, name="theirs"), a_machine(uuid=OTHER, name=f"vm-{OTHER}")]
        site.catalog.instances.see("id-kvm1", renamed, NOW)
        assert renter.get(f"/instances/{MINE}").status_code == 404
        assert renter.get("/points").json()["items"] == []
        assert renter.get("/points/p000001").status_code == 404
        assert renter.post("/jobs/restore", json=asked).status_code == 404

    def test_tokens_of_others_are_not_there(self, site, tenant):
        token = site.catalog.tokens.page(user="admin").items[0]
        assert tenant.delete(f"/tokens/{token.id}").status_code == 404
        assert tenant.get("/tokens?user=admin").status_code == 403
        assert {each["user"] for each in tenant.get("/tokens").json()["items"]} == {"tenant"}


class TestTokens:
    def test_one_that_was_made_works_and_one_that_was_withdrawn_does_not(self, site):
        viewer = site.client(Role.VIEWER)
        made = viewer.post("/tokens", json={"name": "ci", "expires_in_s": 60}).json()
        assert made["user"] == "viewer"
        client = site.client(token=made["token"])
        who = client.get("/whoami").json()
        assert (who["user"], who["role"], who["token_id"]) == ("viewer", "viewer", made["id"])
        assert viewer.delete(f"/tokens/{made['id']}").status_code == 204
        assert client.get("/whoami").status_code == 401

    def test_it_may_never_do_more_than_the_one_that_asks(self, site):
        capped = site.client(token=site.token("admin", role=V))
        scoped = site.client(token=site.token("admin", scopes=("tokens:write", "points:read")))
        for client, asked, status in (
            (capped, {}, 403),
            (capped, {"role": "operator"}, 403),
            (capped, {"role": "viewer"}, 201),
            (capped, {"role": "viewer", "user": "operator"}, 403),
            (scoped, {}, 403),
            (scoped, {"scopes": ["points:write"]}, 403),
            (scoped, {"scopes": ["points:read"]}, 201),
            (scoped, {"scopes": ["tokens:read"], "user": "viewer"}, 201),
            (scoped, {"user": "viewer"}, 403),
            (site.client(V), {"role": "admin"}, 422),
            (site.client(V), {"user": "admin"}, 403),
            (site.client(A), {"user": "viewer", "role": "admin"}, 422),
            (site.client(A), {"user": "nobody"}, 404),
            (site.client(A), {"scopes": ["everything"]}, 422),
        ):
            response = client.post("/tokens", json={"name": "x"} | asked)
            assert response.status_code == status, (asked, response.text)

    def test_it_lives_no_longer_than_the_one_that_asks(self, site):
        ends = clock.now() + timedelta(hours=1)
        client = site.client(token=site.token("viewer", expires_at=ends))
        for asked in ({}, {"expires_in_s": 86400}):
            made = client.post("/tokens", json={"name": "x"} | asked).json()
            stored = site.catalog.tokens.get(made["id"])
            assert stored.expires_at == ends

    def test_what_a_user_loses_counts_at_once(self, site, admin):
        admin.post("/users", json={"name": "eve", "role": "operator"})
        client = site.client(token=site.token("eve"))
        body = {"name": "h", "address": "x"}
        assert client.post("/hosts", json=body | {"name": ""}).status_code == 422
        admin.patch("/users/eve", json={"role": "viewer"})
        assert client.post("/hosts", json=body).status_code == 403
        admin.patch("/users/eve", json={"disabled": True})
        assert client.get("/hosts").status_code == 401
        admin.delete("/users/eve")
        assert client.get("/hosts").status_code == 401

    def test_the_last_administrator_stays(self, admin):
        assert admin.delete("/users/admin").status_code == 409
        assert admin.patch("/users/admin", json={"role": "viewer"}).status_code == 409


class TestAudit:
    def entries(self, site, **wanted):
        return site.catalog.audit.page(wanted=AuditFilter(**wanted)).items

    def test_changes_and_denials_are_written_down(self, site, admin):
        made = admin.post("/hosts", json={"name": "audited", "address": "x"}).json()
        admin.post("/hosts", json={"name": "audited", "address": "x"})
        site.client(V).delete(f"/hosts/{made['id']}")
        admin.delete(f"/hosts/{made['id']}")
        found = [
            (each.who, each.action, each.outcome, each.detail)
            for each in self.entries(site, subject=made["id"])
        ]
        assert found == [
            ("admin", "remove_host", Outcome.DONE, {"status": 204}),
            (
                "viewer", "remove_host", Outcome.DENIED,
                {"reason": "the role viewer may not do this"},
            ),
            ("admin", "create_host", Outcome.DONE, {"status": 201}),
        ]  # fmt: skip
        failed = self.entries(site, action="create_host", outcome=Outcome.FAILED)
        assert failed[0].detail == {"code": "already-exists"}
        assert failed[0].origin == "127.0.0.1"

    def test_reading_is_not(self, site, admin):
        before = len(self.entries(site))
        admin.get("/hosts")
        assert len(self.entries(site)) == before

    def test_over_the_api(self, site, admin):
        site.client(None).get("/audit")
        entry = admin.get("/audit?outcome=denied&action=list_audit").json()["items"][0]
        assert (entry["who"], entry["outcome"]) == ("", "denied")


class TestAttempts:
    @pytest.fixture
    def small(self, new_url, tmp_path):
        with catalog_at(new_url()) as catalog, api_site(catalog, tmp_path, allowed=3) as served:
            yield served

    def test_after_some_an_address_waits(self, small):
        good = small.client()
        assert good.get("/hosts").status_code == 200
        bad = small.client(token="sendense_" + "0" * 24 + "_" + "0" * 64)
        assert [bad.get("/hosts").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        response = bad.get("/hosts")
        assert 1 <= int(response.headers["retry-after"]) <= 61
        assert response.json()["retryable"]
        # Behind a proxy all clients have one address: none of them locks the others out.
        assert good.get("/hosts").status_code == 200
        denied = small.catalog.audit.page(wanted=AuditFilter(outcome=Outcome.DENIED)).items
        assert len(denied) == 3
