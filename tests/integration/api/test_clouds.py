"""The routes about clouds, over a catalogue that was filled directly."""

from __future__ import annotations

import pytest

from sendense import clock
from sendense.api.attempts import Attempts
from sendense.catalog.cloud_changes import APPEARED
from sendense.errors import Unsupported
from sendense.model.access import Role
from sendense.model.cloud import CloudHost, CloudKind, CloudPool
from sendense.model.cloud_check import CloudCheck, MissingPermission, Purpose, PurposeCheck
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs

ASKED = {
    "name": "zone1",
    "endpoint": "https://cloud.example.net/client/api",
    "api_key": "reads",
    "secret_key": "hush-hush",
}
KVM = CloudHost("h1", "kvm1", "10.0.0.1", "Up", "Enabled", "Routing", "KVM", "z1", "c1")
LOST = CloudHost("h2", "kvm2", "10.0.0.2", "Down", "Enabled", "Routing", "KVM", "z1", "c1")
SHARED = CloudPool("p1", "nfs", "NetworkFilesystem", "/export", scope="CLUSTER", cluster_id="c1")
CEPH = CloudPool("p2", "ceph", "RBD", "rbd", scope="ZONE", zone_id="z1")


class Door:
    """A way to clouds that answers what it was told to."""

    def __init__(self):
        self.answer = CloudCheck(reachable=True, version="4.20.1.0", admin=True)
        self.url = "unset"
        self.taken = []

    def place(self, endpoint, ca_pem):
        return endpoint.rstrip("/")

    def check(self, cloud_id):
        return self.answer

    def role(self, name, *, restore, webhooks, cloud_id=None):
        return f"create role name={name} restore={restore} webhooks={webhooks} for={cloud_id}"

    def webhook(self, cloud_id, url):
        if url == "https://old":
            raise Unsupported("this cloud has no webhooks")
        self.url = url

    def hint(self, cloud_id, body, headers):
        good = headers.get("x-cs-signature") == "good"
        self.taken += [(cloud_id, body)] if good else []
        return good


@pytest.fixture
def door(site):
    site.services.clouds = Door()
    return site.services.clouds


@pytest.fixture
def west(site, door):
    return site.catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)


def ok(response, status=200):
    assert response.status_code == status, response.text
    return response.json() if status != 204 else None


class TestClouds:
    def test_added_shown_changed_and_removed(self, admin, site, door):
        made = ok(admin.post("/clouds", json=ASKED), 201)
        assert made["state"]["looked_at"] is None
        assert (made["enabled"], made["has_restore_key"], made["has_ca"]) == (True, False, False)
        place = f"/clouds/{made['id']}"
        assert ok(admin.get(place)) == made
        asked = {"name": "zone2", "restore_api_key": "changes", "restore_secret_key": "psst"}
        changed = ok(admin.patch(place, json=asked))
        assert (changed["name"], changed["has_restore_key"]) == ("zone2", True)
        keys = site.catalog.clouds.keys(made["id"])
        assert (keys.api_key, keys.secret.reveal()) == ("reads", b"hush-hush")
        assert (keys.restore_api_key, keys.restore_secret.reveal()) == ("changes", b"psst")
        changed = ok(admin.patch(place, json={"forget_restore_key": True, "enabled": False}))
        assert (changed["enabled"], changed["has_restore_key"]) == (False, False)
        assert ok(admin.get("/clouds", params={"enabled": True}))["items"] == []
        assert [each["name"] for each in ok(admin.get("/clouds"))["items"]] == ["zone2"]
        ok(admin.delete(place), 204)
        assert admin.get(place).status_code == 404

    @pytest.mark.parametrize(
        "more", [{"restore_api_key": "alone"}, {"restore_secret_key": "alone"}, {"api_key": " "}]
    )
    def test_half_a_pair_of_keys_is_refused(self, admin, door, more):
        assert admin.post("/clouds", json=ASKED | more).status_code == 422
        assert ok(admin.get("/clouds"))["items"] == []

    def test_a_key_is_changed_with_its_secret(self, admin, west):
        assert admin.patch(f"/clouds/{west.id}", json={"api_key": "x"}).status_code == 422
        assert admin.patch(f"/clouds/{west.id}", json={"secret_key": "x"}).status_code == 422

    def test_no_answer_has_a_secret(self, admin, door):
        made = admin.post("/clouds", json=ASKED)
        audit = admin.get("/audit")
        for answer in (made, admin.get(f"/clouds/{made.json()['id']}"), audit):
            assert "hush-hush" not in answer.text
            assert "reads" not in answer.text

    def test_only_administrators_change_them(self, site, west):
        operator = site.client(Role.OPERATOR)
        assert operator.post("/clouds", json=ASKED).status_code == 403
        assert operator.delete(f"/clouds/{west.id}").status_code == 403
        assert operator.get(f"/clouds/{west.id}").status_code == 200
        assert site.client(Role.TENANT).get("/clouds").status_code == 403


class TestAsked:
    def test_check_names_what_is_missing(self, admin, door, west):
        lacking = MissingPermission("deployVirtualMachine", "to make a lost instance again")
        door.answer = CloudCheck(
            reachable=True, version="4.20.1.0", skew_s=1.5, admin=True,
            features={"import-volume": False},
            purposes=(
                PurposeCheck(Purpose.READ, own_key=True),
                PurposeCheck(Purpose.RESTORE, own_key=False, missing=(lacking,)),
            ),
            warnings=("its endpoint is http://",),
        )  # fmt: skip
        found = ok(admin.post(f"/clouds/{west.id}/check"))
        assert found["purposes"][1]["missing"] == [
            {
                "api": "deployVirtualMachine", "why": "to make a lost instance again",
                "optional": False, "since": "",
            }
        ]  # fmt: skip
        assert [each["good"] for each in found["purposes"]] == [True, False]
        assert found["features"] == {"import-volume": False}
        assert admin.post("/clouds/none/check").status_code == 404

    def test_role(self, admin, west):
        any_cloud = ok(admin.get("/cloudstack/role", params={"name": "r", "webhooks": True}))
        assert any_cloud["commands"] == "create role name=r restore=False webhooks=True for=None"
        here = ok(admin.get(f"/clouds/{west.id}/role", params={"restore": True}))
        assert here["commands"].endswith("restore=True webhooks=False for=id-west")
        assert admin.get("/cloudstack/role", params={"name": "a;b"}).status_code == 422

    def test_webhook(self, admin, door, west):
        place = f"/clouds/{west.id}/webhook"
        ok(admin.post(place, json={"url": "https://here"}))
        assert door.url == "https://here"
        ok(admin.delete(place), 204)
        assert door.url is None
        problem = ok(admin.post(place, json={"url": "https://old"}), 422)
        assert problem["code"] == "unsupported"

    def test_sync_is_a_job(self, admin, site, west):
        answer = admin.post(f"/clouds/{west.id}/sync")
        job = ok(answer, 202)
        assert answer.headers["location"].endswith(f"/jobs/{job['id']}")
        assert (job["kind"], job["subject"]) == ("discover", "id-west")
        assert site.catalog.jobs.get(job["id"]).content == {"cloud": "id-west"}
        job = ok(admin.post(f"/clouds/{west.id}/sync?accept_gone=true"), 202)
        content = {"cloud": "id-west", "accept_gone": True}
        assert site.catalog.jobs.get(job["id"]).content == content


class TestContent:
    @pytest.fixture(autouse=True)
    def content(self, site, west):
        now, inventory = clock.now(), site.catalog.inventory
        inventory.take(west.id, CloudKind.HOST, [KVM, LOST], now)
        inventory.take(west.id, CloudKind.POOL, [SHARED, CEPH], now)
        inventory.take_instances(west.id, pairs(a_cloud_instance()), now)

    def test_hosts_beside_ours(self, admin):
        known, lost = ok(admin.get("/clouds/id-west/hosts"))["items"]
        assert (known["name"], known["usable"], known["host_id"]) == ("kvm1", True, "id-kvm1")
        assert known["pools"] == ["/mnt/p1"]
        assert (known["health"], known["agent_version"]) == ("silent", "1.2.3")
        assert (lost["usable"], lost["host_id"], lost["health"]) == (False, None, None)
        assert lost["why_not"] == "its state is Down"

    def test_objects(self, admin):
        page = ok(admin.get("/clouds/id-west/objects", params={"kind": "pool", "limit": 1}))
        assert [each["name"] for each in page["items"]] == ["ceph"]
        assert page["items"][0]["value"]["kind"] == "RBD"
        rest = {"kind": "pool", "cursor": page["next_cursor"]}
        names = [
            each["name"] for each in ok(admin.get("/clouds/id-west/objects", params=rest))["items"]
        ]
        assert names == ["nfs"]
        assert admin.get("/clouds/id-west/objects").status_code == 422

    def test_changes(self, admin):
        wanted = {"kind": "instance", "what": APPEARED}
        (change,) = ok(admin.get("/clouds/id-west/changes", params=wanted))["items"]
        assert change["name"] == "Shop 1"
        assert len(ok(admin.get("/clouds/id-west/changes"))["items"]) == 5


class TestHints:
    def test_one_that_is_signed_is_taken(self, site, door, west):
        nobody = site.client(None)
        answer = nobody.post(
            "/hooks/cloudstack/id-west", content=b"{}", headers={"X-CS-Signature": "good"}
        )
        assert ok(answer) == {"taken": True}
        assert door.taken == [("id-west", b"{}")]

    def test_one_that_is_forged_is_refused_and_counted(self, site, admin, door, west):
        site.services.hook_attempts = Attempts(allowed=2)
        nobody = site.client(None)
        answers = [nobody.post("/hooks/cloudstack/any", content=b"{}") for _ in range(3)]
        assert [each.status_code for each in answers] == [403, 403, 429]
        assert answers[0].headers["content-type"] == "application/problem+json"
        assert door.taken == []
        # Whoever floods this keeps nobody from signing in.
        assert admin.get("/whoami").status_code == 200
        figures = admin.get(f"{site.url}/metrics").text
        assert (
            'sendense_api_request_seconds_count{operation="take_hint",status="403"} 2.0' in figures
        )

    def test_one_that_is_too_large_is_refused(self, site, door, west):
        answer = site.client(None).post(
            "/hooks/cloudstack/id-west",
            content=b"x" * ((1 << 20) + 1), headers={"X-CS-Signature": "good"},
        )  # fmt: skip
        assert answer.status_code == 413
        assert door.taken == []

    def test_without_a_way_to_clouds_nothing_is_taken(self, site):
        assert site.client(None).post("/hooks/cloudstack/id-west").status_code == 403
