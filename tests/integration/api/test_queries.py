"""A parameter of the query that a route does not have is refused, by every route."""

from __future__ import annotations

import re

import pytest

from sendense.model.access import Role

FOR_TENANTS = {"/api/v1/usage"}
"""Routes that nobody else may call."""


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), re.sub(r"\{\w+\}", "x", path), operation


def test_every_route_refuses_one_that_it_does_not_have(site, admin):
    document = admin.get("/openapi.json").json()
    tenant = site.client(Role.TENANT)
    tried = 0
    for method, path, operation in operations(document):
        client = tenant if path in FOR_TENANTS else admin
        response = client.request(method, f"{site.url}{path}", params={"nothing-like-it": "s3cret"})
        problem = response.json()
        assert (response.status_code, problem["code"]) == (422, "rejected"), (method, path)
        assert "query.nothing-like-it: there is no such parameter" in problem["message"]
        assert "s3cret" not in response.text
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                assert parameter["name"] in problem["message"], (method, path)
        tried += 1
    assert tried > 60
    response = admin.get("/openapi.json", params={"pretty": 1})
    assert "query.pretty" in response.json()["message"]


@pytest.mark.parametrize("query", ["statee=running", "Limit=5", "limit=5&limits=5", "=5"])
def test_a_filter_that_is_misspelt(admin, query):
    problem = admin.get(f"/jobs?{query}").json()
    assert problem["status"] == 422
    assert "taken are cursor, host_id, kind, limit, policy_id" in problem["message"]


def test_every_one_is_named(admin):
    problem = admin.get("/hosts", params={"one": 1, "search": "kvm", "two": 2}).json()
    assert problem["data"].keys() == {"query.one", "query.two"}


def test_who_may_not_call_learns_nothing(site):
    assert site.client(None).get("/hosts?nothing=1").status_code == 401
    assert site.client(Role.TENANT).get("/hosts?nothing=1").status_code == 403


def test_it_is_written_down_as_any_that_failed(admin, site):
    assert admin.post("/jobs/gc?now=1", json={"repository_id": "id-main"}).status_code == 422
    newest = site.catalog.audit.page().items[0]
    assert (newest.action, newest.outcome.value) == ("ask_gc", "failed")
