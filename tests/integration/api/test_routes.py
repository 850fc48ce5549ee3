"""What the routes do, asked as an administrator."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta

import pytest

from sendense import clock
from sendense.model.access import Role
from sendense.model.job import JobState
from tests.support.api_site import MINE
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import NOW

POLICY = {
    "name": "hourly",
    "repository_id": "id-main",
    "schedule": "0 * * * *",
    "keep": {"hourly": 24},
    "match": {"names": ["vm-*"]},
}


def ok(response, status=200):
    assert response.status_code == status, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


class TestHosts:
    def test_registered_changed_revoked_and_removed(self, admin):
        made = ok(admin.post("/hosts", json={"name": "kvm2", "address": "10.0.0.2"}), 201)
        assert made["health"] == "not-enrolled"
        host = f"/hosts/{made['id']}"
        assert ok(admin.patch(host, json={"transport": "tls"}))["transport"] == "tls"
        assert ok(admin.get(host))["transport"] == "tls"
        assert ok(admin.post(f"{host}/revoke"))["health"] == "revoked"
        names = [each["name"] for each in ok(admin.get("/hosts?revoked=true"))["items"]]
        assert names == ["kvm2"]
        assert admin.delete(host).status_code == 204
        assert admin.get(host).status_code == 404

    def test_a_name_twice(self, admin):
        problem = ok(admin.post("/hosts", json={"name": "kvm1", "address": "x"}), 409)
        assert (problem["code"], problem["status"]) == ("already-exists", 409)

    def test_agents_by_both_names(self, admin):
        agents = ok(admin.get("/agents"))
        assert ok(admin.get("/agents/cloudstack")) == agents
        (agent,) = agents["items"]
        assert (agent["host"], agent["version"]) == ("kvm1", "1.2.3")
        assert agent["checks"] == [
            {"name": "libvirt", "level": "ok", "message": "it answers", "hint": None}
        ]


class TestInstances:
    def test_list_and_one(self, admin):
        page = ok(admin.get("/instances", params={"limit": 1}))
        assert [each["uuid"] for each in page["items"]] == [MINE]
        rest = ok(admin.get("/instances", params={"cursor": page["next_cursor"]}))
        assert [each["uuid"] for each in rest["items"]] == ["u2"]
        assert rest["next_cursor"] is None
        one = ok(admin.get(f"/instances/{MINE}"))
        assert one["protection"]["policies"] == ["nightly"]
        assert one["protection"]["protection"] == "protected"
        assert one["disks"][0]["target"] == "vda"


class TestRepositories:
    def test_one_that_is_made_is_there(self, admin, tmp_path):
        url = f"dedup:{tmp_path}/vault"
        asked = {"name": "vault", "url": url, "passphrase": "hunter2-hunter2", "create": True}
        made = ok(admin.post("/repositories", json=asked), 201)
        assert made["has_passphrase"]
        look = ok(admin.get(f"/repositories/{made['id']}/info"))
        assert look["points"] == 0
        assert ok(admin.post(f"/repositories/{made['id']}/list")) == {"points": 0}
        assert ok(admin.get(f"/repositories/{made['id']}"))["points"] == 0
        assert admin.delete(f"/repositories/{made['id']}").status_code == 204
        again = ok(admin.post("/repositories", json=asked | {"create": False}), 201)
        assert again["url"] == url

    def test_one_that_does_not_open_is_not_kept(self, admin, site, tmp_path):
        before = site.catalog.repositories.every()
        asked = {"name": "none", "url": f"{tmp_path}/none"}
        assert ok(admin.post("/repositories", json=asked), 404)["code"] == "not-found"
        assert site.catalog.repositories.every() == before

    @pytest.mark.parametrize("url", ["vault", "dedup:./vault", "qcow2:vault", "dedup:"])
    def test_a_place_is_the_same_for_the_server_and_its_workers(self, admin, site, url):
        before = site.catalog.repositories.every()
        for create in (True, False):
            asked = {"name": "vault", "url": url, "create": create}
            ok(admin.post("/repositories", json=asked), 422)
        problem = ok(admin.patch("/repositories/id-unused", json={"url": "vault"}), 422)
        assert problem["hint"] == "write the whole path on the server's machine"
        assert site.catalog.repositories.every() == before

    @pytest.mark.parametrize("url", ["/srv/main/", "file:///srv//main", "dedup:/srv/x/../main"])
    def test_a_place_is_used_once(self, admin, url):
        problem = ok(admin.post("/repositories", json={"name": "again", "url": url}), 409)
        assert "already, as main" in problem["message"]
        ok(admin.patch("/repositories/id-unused", json={"url": url}), 409)
        ok(admin.patch("/repositories/id-main", json={"url": url}))

    def test_one_that_is_used_stays(self, admin):
        assert ok(admin.delete("/repositories/id-main"), 409)["code"] == "conflict"
        assert ok(admin.get("/repositories/id-main"))["points"] == 2


class TestPoints:
    def test_list_filters_and_one(self, admin):
        points = ok(admin.get("/points"))["items"]
        assert [point["machine_uuid"] for point in points] == ["u2", MINE]
        assert len(ok(admin.get("/points", params={"machine": MINE}))["items"]) == 1
        after = points[0]["taken_at"]
        assert len(ok(admin.get("/points", params={"after": after}))["items"]) == 1
        assert len(ok(admin.get("/points", params={"state": "damaged"}))["items"]) == 0
        one = ok(admin.get("/points/p000001"))
        assert one["repositories"] == ["id-main"]
        assert admin.get("/points/p000001?repository_id=id-unused").status_code == 404


class TestPolicies:
    def test_made_changed_previewed_removed(self, admin):
        made = ok(admin.post("/policies", json=POLICY), 201)
        place = f"/policies/{made['id']}"
        assert ok(admin.get(place)) == made
        sent = POLICY | {"window": "22:00-06:00", "sla_s": 3600}
        changed = ok(admin.put(place, json=sent))
        assert (changed["window"], changed["sla_s"], changed["jitter_s"]) == (
            "22:00-06:00", 3600, 0,
        )  # fmt: skip
        preview = ok(admin.get(f"{place}/preview"))
        assert preview["count"] == 2
        due = datetime.fromisoformat(preview["next_run"]["due"])
        assert timedelta(0) < due - clock.now() <= timedelta(hours=1)
        assert admin.delete(place).status_code == 204

    def test_a_preview_makes_nothing(self, admin, site):
        preview = ok(admin.post("/policies/preview", json=POLICY))
        assert [each["uuid"] for each in preview["instances"]] == [MINE, "u2"]
        assert len(site.catalog.policies.page().items) == 1

    @pytest.mark.parametrize(
        "change",
        [
            {"schedule": "at noon"},
            {"timezone": "Mars/Olympus"},
            {"window": "22-6"},
            {"keep": {}},
            {"blackout_dates": ["24.12.2026"]},
            {"sla_s": 0},
            {"unknown": 1},
            {"name": ""},
            {"name": "a\u0000b"},
        ],
    )
    def test_one_that_means_nothing(self, admin, change):
        problem = ok(admin.post("/policies", json=POLICY | change), 422)
        assert problem["code"] == "rejected"
        assert problem["message"]

    def test_one_into_no_repository(self, admin):
        ok(admin.post("/policies", json=POLICY | {"repository_id": "none"}), 404)

    def test_run_now_and_its_rounds(self, admin, site):
        first = ok(admin.post("/policies/id-nightly/run", headers=KEY), 202)
        assert ok(admin.post("/policies/id-nightly/run", headers=KEY), 202) == first
        assert (first["submitted"], first["skipped"], first["late"]) == (2, 0, False)
        second = ok(site.client(Role.OPERATOR).post("/policies/id-nightly/run"), 202)
        assert (second["submitted"], second["skipped"]) == (0, 2)
        assert "asked for by operator; 2 instances still" in second["reason"]
        page = ok(admin.get("/policies/id-nightly/rounds?limit=1"))
        assert page["items"] == [second]
        rest = {"limit": 1, "cursor": page["next_cursor"]}
        assert ok(admin.get("/policies/id-nightly/rounds", params=rest))["items"] == [first]
        ok(admin.post("/policies/none/run"), 404)
        ok(admin.get("/policies/none/rounds"), 404)


class TestJobs:
    def test_the_fixed_route_of_backups(self, admin):
        asked = {"vm_id": MINE, "backup_type": "incremental", "consistency": "crash"}
        response = admin.post("/backup/cloudstack", json=asked)
        job = ok(response, 202)
        assert response.headers["location"] == f"/api/v1/jobs/{job['id']}"
        shown = ok(admin.get(f"/jobs/{job['id']}"))
        assert shown == job | {"waits_for": "no worker is there"}
        assert (job["kind"], job["state"], job["requested_by"]) == ("backup", "queued", "admin")
        # Of the policy that takes it.
        assert (job["repository_id"], job["host_id"]) == ("id-main", "id-kvm1")
        assert job["content"]["mode"] == "incremental"

    def test_without_a_policy_a_backup_needs_a_repository(self, admin, site):
        site.catalog.policies.remove("id-nightly")
        assert "repository" in ok(admin.post("/jobs/backup", json={"vm_id": MINE}), 422)["message"]
        asked = {"vm_id": MINE, "repository_id": "id-unused"}
        assert ok(admin.post("/jobs/backup", json=asked), 202)["repository_id"] == "id-unused"
        ok(admin.post("/jobs/backup", json={"vm_id": "none"}), 404)

    @pytest.mark.parametrize(
        ("kind", "asked", "subject"),
        [
            ("restore", {"point_id": "p000001"}, MINE),
            ("verify", {"repository_id": "id-main"}, "id-main"),
            ("prune", {"repository_id": "id-main", "keep": {"last": 1}}, "id-main"),
            ("gc", {"repository_id": "id-main"}, "id-main"),
            ("copy", {"repository_id": "id-main", "to": "id-unused"}, "id-main"),
            ("discover", {"host_id": "id-kvm1"}, "id-kvm1"),
            ("discover", {}, "*"),
        ],
    )
    def test_one_of_each_kind(self, admin, kind, asked, subject):
        job = ok(admin.post(f"/jobs/{kind}", json=asked | {"priority": 7}), 202)
        assert (job["kind"], job["subject"], job["priority"]) == (kind, subject, 7)

    @pytest.mark.parametrize(
        ("kind", "asked", "status"),
        [
            ("restore", {"point_id": "none"}, 404),
            ("restore", {"point_id": "p000001", "name": "new"}, 422),
            ("restore", {"point_id": "p000001", "host_id": "none"}, 404),
            ("verify", {"repository_id": "none"}, 404),
            ("prune", {"repository_id": "id-main", "keep": {}}, 422),
            ("copy", {"repository_id": "id-main", "to": "none"}, 404),
            ("discover", {"host_id": "none"}, 404),
            ("backup", {"vm_id": MINE, "not_before": "2026-01-01T00:00:00"}, 422),
        ],
    )
    def test_what_cannot_be_done(self, admin, kind, asked, status):
        before = len(ok(admin.get("/jobs"))["items"])
        ok(admin.post(f"/jobs/{kind}", json=asked), status)
        assert len(ok(admin.get("/jobs"))["items"]) == before

    def test_a_restore_in_place_is_for_the_host_of_the_instance(self, admin, site):
        other = ok(admin.post("/hosts", json={"name": "kvm2", "address": "10.0.0.2"}), 201)["id"]
        asked = {"point_id": "p000001", "host_id": other}
        problem = ok(admin.post("/jobs/restore", json=asked), 422)
        assert "is on another host" in problem["message"]
        ok(admin.post("/jobs/restore", json=asked | {"pool": "images"}), 202)
        ok(admin.post("/jobs/restore", json=asked | {"host_id": "id-kvm1"}), 202)
        # One that no host shows any more, and no cloud has, may be restored wherever its disks are.
        site.catalog.instances.see("id-kvm1", (), clock.now())
        ok(admin.post("/jobs/restore", json=asked), 202)

    def test_a_restore_in_place_of_what_a_cloud_has_goes_through_the_cloud(self, admin, site):
        cloud = site.catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)

        def shown(state):
            found = a_cloud_instance(id=MINE, state=state)
            site.catalog.inventory.take_instances(cloud.id, pairs(found), clock.now())

        asked = {"point_id": "p000001"}
        shown("Running")
        assert "Running" in ok(admin.post("/jobs/restore", json=asked), 409)["message"]
        shown("Stopped")
        for more in ({"host_id": "id-kvm1"}, {"include": ["vda"]}):
            problem = ok(admin.post("/jobs/restore", json=asked | more), 422)
            assert "sendense cloud restore" in problem["hint"]
        job = ok(admin.post("/jobs/restore", json=asked), 202)
        content = site.catalog.jobs.get(job["id"]).content
        assert content["cloud"]["request"]["aim"] == "in-place"
        there = {"pool": "images", "host_id": "id-kvm1"}
        job = ok(admin.post("/jobs/restore", json=asked | there), 202)
        assert "cloud" not in site.catalog.jobs.get(job["id"]).content

    def test_filters(self, admin):
        def count(**params):
            return len(ok(admin.get("/jobs", params=params))["items"])

        assert count() == 2
        assert count(state=["queued", "running"]) == 2
        assert count(state="running") == 0
        assert count(subject=MINE) == 1
        assert count(kind="gc") == 0

    def test_cancelled_twice(self, admin):
        assert ok(admin.post("/jobs/job-u1/cancel"), 202)["state"] == "cancelled"
        assert ok(admin.post("/jobs/job-u1/cancel"), 409)["code"] == "conflict"

    def test_attempts(self, admin):
        assert ok(admin.get("/jobs/job-u1/attempts")) == []


def events(response):
    """Give the events of a stream as they come."""
    name = ""
    for line in response.iter_lines():
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            yield name, json.loads(line.removeprefix("data:"))


class TestEvents:
    def test_a_job_from_its_beginning_to_its_end(self, admin, site):
        jobs = site.catalog.jobs

        def work():
            jobs.move("job-u1", JobState.QUEUED, JobState.RUNNING, NOW)
            jobs.report("job-u1", {"done_bytes": 5})

        seen = []
        with admin.stream("GET", "/jobs/job-u1/events") as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            for name, job in events(response):
                seen.append((name, job["state"], job["progress"]))
                if len(seen) == 1:
                    work()
                elif name == "job":
                    jobs.move("job-u1", JobState.RUNNING, JobState.SUCCEEDED, NOW)
        assert seen[0] == ("job", "queued", None)
        assert seen[-1] == ("end", "succeeded", {"done_bytes": 5})
        # The server hears of the end of a stream a moment after its reader.
        end = time.monotonic() + 90
        while site.services.streams.open and time.monotonic() < end:
            time.sleep(0.01)
        assert site.services.streams.open == 0

    def test_of_a_job_that_has_ended(self, admin):
        admin.post("/jobs/job-u1/cancel")
        with admin.stream("GET", "/jobs/job-u1/events") as response:
            assert [name for name, _ in events(response)] == ["end"]

    def test_of_no_job(self, admin):
        assert ok(admin.get("/jobs/none/events"), 404)["code"] == "not-found"

    def test_not_too_many_at_once(self, admin, site):
        site.services.streams.most = 1
        with admin.stream("GET", "/jobs/job-u1/events") as response:
            stream = events(response)
            next(stream)
            problem = ok(site.client().get("/jobs/job-u2/events"), 429)
            assert (problem["code"], problem["retryable"]) == ("busy", True)


class TestState:
    def test_status(self, admin):
        status = ok(admin.get("/status"))
        assert status["instances"] == {
            "protected": 2, "new": 0, "missed": 0, "failing": 0, "late": 0, "unprotected": 0,
        }  # fmt: skip
        assert status["jobs"]["queued"] == 2
        assert (status["points"], status["stored_bytes"]) == (2, 200)

    def test_protection(self, admin, site):
        site.catalog.policies.remove("id-nightly")
        page = ok(admin.get("/protection?protection=unprotected&limit=1"))
        assert [each["uuid"] for each in page["items"]] == [MINE]
        rest = ok(admin.get("/protection", params={"cursor": page["next_cursor"]}))
        assert [each["uuid"] for each in rest["items"]] == ["u2"]
        assert rest["items"][0]["reason"] == "no policy takes it"
        assert ok(admin.get("/protection?protection=late"))["items"] == []
        mine = ok(site.client(Role.TENANT).get("/protection"))["items"]
        assert [each["uuid"] for each in mine] == [MINE]
        ok(admin.get("/protection?cursor=x"), 422)
        ok(admin.get("/protection?cursor=WzFd"), 422)

    def test_health_and_metrics(self, site, admin):
        nobody = site.client(None)
        health = ok(nobody.get(f"{site.url}/healthz"))
        assert (health["status"], health["database"]) == ("ok", "sqlite")
        admin.get("/hosts")
        metrics = admin.get(f"{site.url}/metrics").text
        assert 'sendense_instances{protection="protected"} 2.0' in metrics
        assert 'operation="list_hosts",status="200"' in metrics
        assert nobody.get(f"{site.url}/metrics").status_code == 401

    def test_settings(self, admin):
        assert ok(admin.get("/settings")) == {"mail.from": "sendense@example.net"}
        value = {"value": 730}
        assert ok(admin.put("/settings/audit.kept_days", json=value)) == value
        assert ok(admin.get("/settings/audit.kept_days")) == value
        assert admin.delete("/settings/audit.kept_days").status_code == 204
        assert admin.get("/settings/audit.kept_days").status_code == 404

    def test_settings_that_would_be_ignored(self, admin):
        for value in (3, 31, "90", None, True, {"a": [1, None]}):
            problem = ok(admin.put("/settings/audit.kept_days", json={"value": value}), 422)
            assert "no number of days from 32" in problem["message"]
        problem = ok(admin.put("/settings/audit.keep_days", json={"value": 90}), 404)
        assert problem["hint"] == "there are audit.kept_days and jobs.kept_days"
        assert ok(admin.get("/settings")) == {"mail.from": "sendense@example.net"}

    def test_a_grant_is_of_tenants(self, admin):
        grant = {"grant": {"names": ["acme-*"]}}
        asked = {"name": "bob", "role": "viewer"}
        problem = ok(admin.post("/users", json=asked | grant), 422)
        assert "sees all instances" in problem["message"]
        ok(admin.post("/users", json=asked), 201)
        ok(admin.patch("/users/bob", json=grant), 422)
        assert ok(admin.patch("/users/bob", json=grant | {"role": "tenant"}))["grant"]["names"]
        ok(admin.patch("/users/bob", json=grant | {"role": "operator"}), 422)
        ok(admin.patch("/users/none", json=grant), 404)

    def test_secrets_that_are_under_the_newest_key_stay(self, admin):
        assert ok(admin.post("/secrets/reseal")) == {"resealed": 0}


class TestProblems:
    def test_all_have_one_form(self, site, admin):
        for response, status, code in (
            (admin.get("/none"), 404, "not-found"),
            (admin.get("/hosts/none"), 404, "not-found"),
            (admin.put("/hosts"), 405, "rejected"),
            (admin.post("/hosts", content=b"{"), 422, "rejected"),
            (admin.post("/hosts", content=b"x" * (2 << 20)), 413, "rejected"),
            (admin.get("/hosts?cursor=x"), 422, "rejected"),
            (admin.get("/hosts?limit=0"), 422, "rejected"),
            (admin.get("/points?after=9999-12-31T23:59:59-12:00"), 422, "rejected"),
            (site.client(None).get("/hosts"), 401, "not-signed-in"),
        ):
            problem = ok(response, status)
            assert response.headers["content-type"] == "application/problem+json"
            assert problem["code"] == code
            assert problem["type"] == f"urn:sendense:problem:{code}"
            assert problem.keys() >= {"title", "status", "message", "hint", "retryable", "data"}
        assert site.client(None).get("/hosts").headers["www-authenticate"] == "Bearer"
        assert "GET" in admin.put("/hosts").headers["allow"]

    def test_what_nobody_foresaw_says_nothing(self, site, admin, caplog):
        site.services.queue = None
        problem = ok(admin.post("/jobs/job-u1/cancel"), 500)
        assert (problem["code"], problem["message"]) == ("failed", "the server failed")
        assert "nobody foresaw" in caplog.text

    def test_a_database_that_went_away(self, site, admin):
        site.catalog.close()
        # A closed pool opens anew: nothing is lost.
        ok(admin.get("/hosts"))


KEY = {"Idempotency-Key": "k1"}


class TestOnce:
    def test_a_request_that_is_repeated_is_done_once(self, admin, site):
        asked = {"vm_id": MINE}
        first = admin.post("/jobs/backup", json=asked, headers=KEY)
        again = admin.post("/jobs/backup", json=asked, headers=KEY)
        assert ok(first, 202) == ok(again, 202)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        assert len(site.catalog.jobs.page().items) == 3
        other = admin.post("/jobs/backup", json={"vm_id": "u2"}, headers=KEY)
        assert ok(other, 409)["code"] == "conflict"

    def test_at_once(self, admin, site):
        clients = [site.client() for _ in range(6)]
        statuses = []

        def ask(client):
            response = client.post("/jobs/backup", json={"vm_id": MINE}, headers=KEY)
            statuses.append(response.status_code)

        threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {202, 503}
        assert len(site.catalog.jobs.page().items) == 3

    def test_one_that_failed_may_be_mended(self, admin):
        ok(admin.post("/jobs/backup", json={"vm_id": "none"}, headers=KEY), 404)
        ok(admin.post("/jobs/backup", json={"vm_id": MINE}, headers=KEY), 202)

    def test_keys_of_two_users_are_two(self, admin, site):
        asked = {"vm_id": MINE}
        first = ok(admin.post("/jobs/backup", json=asked, headers=KEY), 202)
        operator = site.client(Role.OPERATOR)
        second = ok(operator.post("/jobs/backup", json=asked, headers=KEY), 202)
        assert first["id"] != second["id"]

    def test_an_answer_with_a_secret_is_not_kept(self, admin):
        asked = {"name": "t"}
        ok(admin.post("/tokens", json=asked, headers=KEY), 422)
        ok(admin.post("/hosts", json={}, headers={"Idempotency-Key": "x" * 300}), 422)
