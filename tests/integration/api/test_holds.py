"""Pins and locks of points, over the API."""

from __future__ import annotations

import pytest

from sendense.model.access import Role
from tests.support.api_site import vault_with_points


def ok(response, status=200):
    assert response.status_code == status, response.text
    return response.json()


@pytest.fixture
def place(site, tmp_path):
    return f"/repositories/{vault_with_points(site, tmp_path, 'p1', 'p2')}/points/p1"


def test_pinned_locked_unpinned(admin, place):
    held = ok(admin.post(f"{place}/pin", json={"note": "audit"}))
    assert (held["pinned"], held["locked_until"]) == (True, None)
    assert [(hold["kind"], hold["note"]) for hold in held["holds"]] == [("pin", "audit")]
    shown = ok(admin.get("/points/p1"))
    assert (shown["pinned"], shown["locked_until"]) == (True, None)
    assert len(ok(admin.get("/points?pinned=true"))["items"]) == 1
    until = "2234-12-31T00:00:00+01:00"
    held = ok(admin.post(f"{place}/lock", json={"until": until}))
    assert [hold["kind"] for hold in held["holds"]] == ["pin", "lock"]
    held = ok(admin.post(f"{place}/unpin"))
    assert (held["pinned"], held["locked_until"]) == (False, "2234-12-30T23:00:00Z")
    shown = ok(admin.get("/points/p1"))
    assert (shown["pinned"], shown["locked_until"]) == (False, "2234-12-30T23:00:00Z")
    # What the repository itself says is the same.
    repository = place.split("/")[2]
    ok(admin.post(f"/repositories/{repository}/list"))
    assert ok(admin.get("/points/p1")) == shown
    assert ok(admin.get("/points/p2"))["locked_until"] is None


def test_what_cannot_be_done(admin, place):
    assert ok(admin.post(f"{place}/unpin"), 404)["code"] == "not-found"
    for until in ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "2034-12-31"):
        ok(admin.post(f"{place}/lock", json={"until": until}), 422)
    ok(admin.post(f"{place}/lock", json={"until": "2234-12-31T00:00:00Z"}))
    shorter = ok(admin.post(f"{place}/lock", json={"until": "2233-12-31T00:00:00Z"}), 409)
    assert shorter["code"] == "held"
    ok(admin.post(f"{place}/pin", json={"note": "a\u2028b"}), 422)
    ok(admin.post(f"{place.replace('/p1', '/p9')}/pin", json={}), 404)
    ok(admin.post("/repositories/none/points/p1/pin", json={}), 404)
    assert ok(admin.get("/points/p1"))["pinned"] is False


def test_one_that_is_gone_from_its_repository(admin, site, place):
    repository = place.split("/")[2]
    site.services.repositories.use(repository, lambda there: there.delete(["p1"]))
    ok(admin.post(f"{place}/pin", json={}), 404)


def test_a_tenant_may_not(site, place):
    tenant = site.client(Role.TENANT)
    ok(tenant.post(f"{place}/pin", json={}), 403)
    ok(tenant.post("/repositories/id-main/points/p000001/pin", json={}), 403)
