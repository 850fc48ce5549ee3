"""Every command that asks a server, once for people and once for scripts."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from sendense import clock
from sendense.api.services import NoHosts
from sendense.catalog.jobs import JobNews
from sendense.cli.main import app
from sendense.model.access import Role
from sendense.model.agent_status import HealthCheck, Heartbeat, Level
from sendense.model.cloud import CloudHost, CloudKind
from sendense.model.job import JobFailure, JobKind, JobRequest, JobState
from tests.support.builders import a_machine
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud
from tests.support.fleet import NOW, a_heartbeat, a_host, a_point_entry


class AgentOf(NoHosts):
    """The way to one agent, which says this."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat

    def look(self, host_id: str) -> Heartbeat:
        return self._heartbeat

    def release(self, host_id: str) -> tuple[str, ...]:
        return ("web1: it is being captured",)


class TestHosts:
    def test_from_beginning_to_end(self, person):
        made = person.json("host", "add", "kvm9", "kvm9.example.net", "--transport", "tls")["host"]
        assert (made["name"], made["transport"]) == ("kvm9", "tls")
        assert "kvm8 is known" in person.ok("host", "add", "kvm8", "kvm8.example.net")
        names = [host["name"] for host in person.json("host", "list")["hosts"]]
        assert names == ["kvm1", "kvm8", "kvm9"]
        assert "kvm9.example.net" in person.ok("host", "list", "--search", "VM9")
        assert "kvm1" not in person.ok("host", "list", "--transport", "tls")
        shown = person.json("host", "show", "kvm1")
        assert shown["agent"]["versions"] == "libvirt 9.0.0"
        assert "libvirt 9.0.0" in person.ok("host", "show", "id-kvm1")
        assert "not-enrolled" in person.ok("host", "show", made["id"])
        assert "revoked" in person.ok("host", "revoke", "kvm8", "--yes")
        assert person.json("host", "revoke", "kvm9", "-y")["host"]["revoked_at"]
        assert "kvm9" in person.ok("host", "list", "--revoked")
        person.json("host", "remove", "kvm9", "--forget-only", "-y")
        person.ok("host", "remove", "kvm8", "--forget-only", "--yes")
        assert [host["name"] for host in person.json("host", "list")["hosts"]] == ["kvm1"]

    def test_check(self, person):
        person.refused("host", "check", "kvm1", code=9, says="no gateway here")
        person.site.services.hosts = AgentOf(a_heartbeat())
        assert "kvm1: is well" in person.ok("host", "check", "kvm1")
        late = HealthCheck("clock", Level.FAILED, "it is an hour late", "chrony")
        person.site.services.hosts = AgentOf(a_heartbeat(health=(late,)))
        assert "an hour late" in person("host", "check", "kvm1").out
        checks = person.json("host", "check", "kvm1", code=6)["agent"]["checks"]
        assert checks[0]["hint"] == "chrony"

    def test_pause_resume_release(self, person):
        assert "for 90 minutes" in person.ok("host", "pause", "kvm1", "--minutes", "90")
        assert person.json("host", "pause", "kvm1")["host"]["name"] == "kvm1"
        assert "no work until" in person.ok("host", "show", "kvm1")
        assert "work again" in person.ok("host", "resume", "kvm1")
        assert person.json("host", "resume", "kvm1")["host"]["name"] == "kvm1"
        assert "no work until" not in person.ok("host", "show", "kvm1")
        person.refused("host", "release", "kvm1", code=2, says="needs a yes")
        person.site.services.hosts = AgentOf(a_heartbeat())
        assert "web1: it is" in person.ok("host", "release", "kvm1", "--yes")
        assert person.json("host", "release", "kvm1", "-y")["left"]

    def test_nothing_is_removed_without_a_yes(self, person):
        person.refused("host", "remove", "kvm1", code=2, says="needs a yes")
        person.refused("host", "revoke", "kvm1", "--json", code=2, says="")
        assert person.json("host", "show", "kvm1")["host"]["revoked_at"] is None


class TestInstances:
    def test_list_show_points(self, person):
        listed = person.json("instance", "list", "--on", "kvm1", "--power", "running")
        assert [each["name"] for each in listed["instances"]] == ["vm-u1", "vm-u2"]
        assert "vm-u1" in person.ok("instance", "list", "--not-gone")
        assert "no such" in person.ok("instance", "list", "--gone")
        shown = person.json("instance", "show", "vm-u1")["instance"]
        assert shown["protection"]["policies"] == ["nightly"]
        text = person.ok("instance", "show", "u1")
        assert "policies    nightly" in text
        assert "/mnt/pool/vda" in text
        points = person.json("instance", "points", "vm-u1", "--in", "main")["points"]
        assert [point["id"] for point in points] == ["p000001"]
        assert "p000001" in person.ok("instance", "points", "u1")

    def test_protection(self, person):
        assert len(person.json("instance", "protection")["instances"]) == 2
        assert "vm-u1" in person.ok("instance", "protection")
        assert "no such" in person.ok("instance", "protection", "--state", "failing")

    def test_points_of_one_that_is_unknown_by_now(self, person):
        point = a_point_entry(7, machine_uuid="u-old", machine_name="old")
        person.site.catalog.points.put([point], NOW)
        assert "p000007" in person.ok("instance", "points", "old")

        other = a_point_entry(8, machine_uuid="u-older", machine_name="old")
        person.site.catalog.points.put([other], NOW)
        person.refused("instance", "points", "old", code=2, says="u-old, u-older")
        person.refused("instance", "points", "older", code=3, says="no instance older")

    def test_a_name_that_means_two(self, person):
        twins = [a_machine(uuid=uuid, name="twin") for uuid in ("t1", "t2")]
        person.site.catalog.instances.see("id-kvm1", twins, NOW)
        answer = person.refused("instance", "show", "twin", code=2, says="2 instances")
        assert "t1, t2" in answer.err
        assert person.json("instance", "show", "t2")["instance"]["uuid"] == "t2"

    def test_a_name_that_means_none(self, person):
        answer = person.refused("instance", "show", "vm-", code=3, says="no instance vm-")
        assert "did you mean vm-u1, vm-u2?" in answer.err
        person.refused("instance", "show", "vm u1/../x", code=3, says="no instance")
        person.refused("instance", "list", "--on", "nowhere", code=3, says="no host nowhere")

    def test_long_lists_are_read_as_far_as_is_wanted(self, person):
        many = [a_machine(uuid=f"m{n:04d}", name=f"many-{n:04d}") for n in range(450)]
        person.site.catalog.instances.see("id-kvm1", many, NOW)
        few = person("instance", "list", "--search", "many", "--limit", "3")
        assert len(few.out.splitlines()) == 4
        assert "the first 3" in few.err
        listed = person.json("instance", "list", "--search", "many", "--limit", "250")
        assert (len(listed["instances"]), listed["more"]) == (250, True)
        listed = person.json("instance", "list", "--search", "many", "--limit", "0")
        assert (len(listed["instances"]), listed["more"]) == (450, False)

    def test_many_hosts_are_called_by_their_names(self, person):
        catalog = person.site.catalog
        for number in range(8):
            catalog.hosts.add(a_host(f"kvm-{number}"))
            machine = a_machine(uuid=f"h{number}", name=f"on-{number}")
            catalog.instances.see(f"id-kvm-{number}", [machine], NOW)
        text = person.ok("instance", "list")
        assert all(f"kvm-{number} " in text for number in range(8))
        assert "id-kvm" not in text


REQUESTS = [
    ("backup", ("vm-u1", "--mode", "full", "--to", "unused", "--strict"), "vm-u1"),
    ("restore", ("latest:vm-u1",), "vm-u1"),
    ("restore", ("p000001", "--pool", "fast", "--name", "new", "--define", "--on", "kvm1"), "u1"),
    ("verify", ("main", "--level", "structure", "--point", "p000001"), "main"),
    ("prune", ("main", "--keep-last", "3", "--machine", "vm-u1"), "main"),
    ("gc", ("main",), "main"),
    ("copy", ("main", "unused", "--last", "2"), "main"),
    ("discover", ("kvm1",), "kvm1"),
    ("discover", (), "all hosts"),
]


class TestJobs:
    @pytest.mark.parametrize(("kind", "arguments", "about"), REQUESTS)
    def test_one_of_each_kind(self, person, kind, arguments, about):
        later = ("--priority", "7", "--not-before", "2099-01-01T12:00")
        job = person.json("job", kind, *arguments, *later)["job"]
        assert (job["kind"], job["priority"], job["state"]) == (kind, 7, "queued")
        assert job["not_before"].startswith("2099-01-01T12:00:00")
        answer = person("job", kind, *arguments)
        assert f"{kind} of" in answer.out
        assert about in answer.out
        assert "sendense job watch" in answer.err

    def test_many_at_once(self, person):
        jobs = person.json("job", "backup", "vm-u1", "vm-u2")["jobs"]
        assert [job["subject"] for job in jobs] == ["u1", "u2"]
        before = len(person.json("job", "list")["jobs"])
        person.refused("job", "backup", "vm-u1", "none", code=3, says="no instance none")
        assert len(person.json("job", "list")["jobs"]) == before

    def test_what_was_taken_before_a_failure_is_told(self, person):
        person.site.catalog.instances.see("id-kvm1", [a_machine(uuid="u1", name="vm-u1")], NOW)
        answer = person("job", "backup", "vm-u1", "vm-u2")
        assert answer.code == 2
        assert "was taken before, and goes on" in answer.err

    def test_list_and_filters(self, person):
        assert len(person.json("job", "list")["jobs"]) == 2
        text = person.ok("job", "list", "--state", "queued", "--about", "vm-u1")
        assert "job-u1" in text
        assert "job-u2" not in text
        assert "no such job" in person.ok("job", "list", "--kind", "gc", "--on", "kvm1")
        assert "no such job" in person.ok(
            "job", "list", "--in", "main", "--policy", "nightly", "--by", "admin"
        )

    def test_show_with_attempts(self, person):
        jobs = person.site.catalog.jobs
        jobs.move("job-u1", JobState.QUEUED, JobState.RUNNING, NOW)
        jobs.report("job-u1", {"phase": "backup", "done_bytes": 512, "total_bytes": 1024})
        assert "512 B of 1.0 KiB (50%)" in person.ok("job", "show", "job-u1")
        failure = JobFailure("out-of-space", "the scratch area is full", "make room")
        jobs.move("job-u1", JobState.RUNNING, JobState.FAILED, NOW, JobNews(failure=failure))
        text = person.ok("job", "show", "job-u1")
        assert "the scratch area is full" in text
        assert "make room" in text
        document = person.json("job", "show", "job-u1")
        assert (document["job"]["state"], document["attempts"]) == ("failed", [])

    def test_results_are_laid_out(self, person):
        jobs = person.site.catalog.jobs
        result = {
            "point": "p9", "read_bytes": 2048, "seconds": 90, "started": False, "define": True,
            "disks": [{"target": "vda", "data_bytes": 1024}, {"target": "vdb", "data_bytes": 0}],
            "warnings": ["the agent of the guest did not answer"], "many": list(range(30)),
        }  # fmt: skip
        jobs.move("job-u1", JobState.QUEUED, JobState.RUNNING, NOW)
        jobs.move("job-u1", JobState.RUNNING, JobState.SUCCEEDED, NOW, JobNews(result=result))
        text = person.ok("job", "show", "job-u1")
        for said in ("2.0 KiB", "90.0 s", "target vda, data_bytes 1.0 KiB", "did not", "30 of"):
            assert said in text
        assert "started" not in text

    def test_cancel(self, person):
        assert person.json("job", "cancel", "job-u1")["job"]["state"] == "cancelled"
        person.refused("job", "cancel", "job-u1", code=2, says="")
        assert "is cancelled" in person.ok("job", "cancel", "job-u2", "--wait")

    def test_prune_without_a_rule(self, person):
        for keep in ((), ("--keep-last", "0")):
            person.refused("job", "prune", "main", *keep, code=2, says="no rule says")

    def test_latest_of_one_without_points(self, person):
        person.site.catalog.instances.see("id-kvm1", [a_machine(uuid="n", name="new")], NOW)
        person.refused("job", "restore", "latest:new", code=3, says="no good point")
        person.refused("job", "restore", "a b", code=3, says="no point")

    def test_latest_is_no_safety_point(self, person):
        catalog = person.site.catalog
        before = person.json("job", "restore", "latest:vm-u1")["job"]["content"]["point"]
        request = JobRequest(JobKind.RESTORE, "u1", {}, "ada", repository_id="id-main")
        job = catalog.jobs.submit(request, NOW)
        safety = a_point_entry(
            77, machine_uuid="u1", taken_at=NOW + timedelta(days=9), job_id=job.id,
            repository_id="id-main",
        )  # fmt: skip
        catalog.points.put([safety], NOW)
        assert person.json("job", "restore", "latest:vm-u1")["job"]["content"]["point"] == before
        named = person.json("job", "restore", safety.id)["job"]["content"]
        assert named["point"] == safety.id

    def test_latest_is_no_safety_point_whose_job_is_not_known(self, person):
        """As of each that was copied, or listed anew."""
        before = person.json("job", "restore", "latest:vm-u1")["job"]["content"]["point"]
        safety = a_point_entry(
            77, machine_uuid="u1", taken_at=NOW + timedelta(days=9), safety=True,
            repository_id="id-main",
        )  # fmt: skip
        person.site.catalog.points.put([safety], NOW)
        listed = person.json("instance", "points", "vm-u1")["points"]
        assert [each["safety"] for each in listed] == [True, False]
        assert person.json("job", "restore", "latest:vm-u1")["job"]["content"]["point"] == before


class TestUsersTokensAudit:
    def test_users(self, person):
        made = person.json("user", "add", "bob", "tenant", "--match", "a-*", "--instance", "vm-u1")
        grant = {"instances": ["u1"], "names": ["a-*"], "tenants": []}
        assert made["user"]["grant"] == grant
        assert "was added" in person.ok("user", "add", "eve", "viewer")
        assert "a-*, 1 instance" in person.ok("user", "list", "--role", "tenant")
        assert len(person.json("user", "list")["users"]) == 6
        edited = person.json("user", "edit", "bob", "--match", "b-*", "--disable")["user"]
        assert edited["grant"] == grant | {"names": ["b-*"]}
        assert edited["disabled"]
        assert "was changed" in person.ok("user", "edit", "bob", "--enable", "--role", "viewer")
        assert person.json("user", "show", "bob")["user"]["role"] == "viewer"
        assert "everything" in person.ok("user", "show", "bob")
        assert person.json("user", "remove", "bob", "-y") == {"removed": "bob"}
        assert "removed" in person.ok("user", "remove", "eve", "--yes")
        person.refused("user", "edit", "viewer", code=2, says="nothing was named")
        person.refused("user", "show", "bob", code=3, says="bob")

    def test_tokens(self, person, tmp_path):
        made = person.json(
            "token", "add", "laptop", "--role", "viewer", "--scope", "jobs:read", "--expires", "90d"
        )
        assert made["token"].keys().isdisjoint({"token", "secret"})
        with person.site.client(token=made["secret"]) as client:
            assert client.get("/whoami").json()["scopes"] == ["jobs:read"]
        shown = person("token", "add", "other")
        assert shown.out.count("\n") == 1
        assert shown.out.strip() not in shown.err
        file = tmp_path / "token"
        written = person("token", "add", "cron", "--user", "operator", "--output", file)
        text = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert text not in written.out + written.err
        with person.site.client(token=text) as client:
            assert client.get("/whoami").json()["user"] == "operator"
        person.refused("token", "add", "x", "-o", file, code=2, says="is there already")
        listed = person.json("token", "list", "--user", "operator")["tokens"]
        assert {each["name"] for each in listed} == {"cron", "test"}
        assert "laptop" in person.ok("token", "list")
        token_id = made["token"]["id"]
        assert person.json("token", "revoke", token_id, "-y") == {"revoked": token_id}
        cron = next(each["id"] for each in listed if each["name"] == "cron")
        assert "no longer" in person.ok("token", "revoke", cron, "--yes")
        person.refused("token", "revoke", token_id, "-y", code=3, says=token_id)

    def test_a_token_that_is_refused_leaves_no_file(self, person, tmp_path):
        file = tmp_path / "token"
        person.refused("token", "add", "x", "--user", "none", "-o", file, code=3, says="none")
        assert not file.exists()

    def test_audit(self, person):
        person.ok("host", "add", "kvm9", "kvm9.example.net")
        entries = person.json("audit", "list", "--action", "create_host", "--who", "admin")
        assert [entry["outcome"] for entry in entries["entries"]] == ["done"]
        assert "create_host" in person.ok("audit", "list", "--outcome", "done", "--limit", "1")
        tomorrow = (clock.now() + timedelta(days=1)).date().isoformat()
        assert "nothing of that kind" in person.ok("audit", "list", "--after", tomorrow)
        assert "create_host" in person.ok("audit", "list", "--before", tomorrow)
        assert "nothing" in person.ok("audit", "list", "--subject", "none")


class TestStatus:
    def test_all_is_well(self, person):
        person.site.catalog.hosts.heard("id-kvm1", a_heartbeat(), clock.now())
        text = person.ok("status")
        assert "protected 2" in text
        assert "all is well" in text
        assert "left out" not in text
        assert person.json("status")["needs_attention"] is False

    def test_what_cloudstack_makes_for_itself_is_counted_apart(self, person):
        catalog = person.site.catalog
        catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
        host = CloudHost("h1", "kvm1", "10.0.0.1", "Up", "Enabled", "Routing", "KVM", "z1", "c1")
        catalog.inventory.take("id-west", CloudKind.HOST, [host], clock.now())
        catalog.instances.see("id-kvm1", [a_machine(uuid="own", name="r-4-VM")], clock.now())
        assert person.json("status", code=6)["clouds_own"] == 1
        assert "1 machine that CloudStack makes for itself" in person("status").out

    def test_something_needs_attention(self, person):
        catalog = person.site.catalog
        catalog.policies.remove("id-nightly")
        jobs = catalog.jobs
        jobs.move("job-u1", JobState.QUEUED, JobState.RUNNING, NOW)
        jobs.move("job-u2", JobState.QUEUED, JobState.RUNNING, NOW)
        failure = JobFailure("unavailable", "the host went away", None)
        jobs.move("job-u2", JobState.RUNNING, JobState.FAILED, NOW, JobNews(failure=failure))
        answer = person("status")
        assert answer.code == 6
        for said in ("vm-u1", "unprotected", "kvm1", "silent", "job-u1", "the host went away"):
            assert said in answer.out
        document = person.json("status", code=6)
        assert [job["id"] for job in document["running_jobs"]] == ["job-u1"]
        assert [job["id"] for job in document["failed_jobs"]] == ["job-u2"]


class TestRoles:
    @pytest.mark.parametrize(
        ("role", "line"),
        [
            (Role.VIEWER, ("host", "add", "x", "x")),
            (Role.OPERATOR, ("host", "revoke", "kvm1", "-y")),
            (Role.VIEWER, ("job", "gc", "main")),
            (Role.TENANT, ("point", "pin", "p000001")),
            (Role.OPERATOR, ("user", "list")),
            (Role.OPERATOR, ("audit", "list")),
            (Role.TENANT, ("status",)),
            (Role.TENANT, ("host", "list")),
            (Role.TENANT, ("job", "backup", "vm-u1")),
        ],
    )
    def test_one_that_may_not(self, person, role, line):
        person.be(role)
        answer = person.refused(*line, code=10, says=f"the role {role.value} may not do this")
        assert "hint" in answer.err
        assert person(*line, "--json").document["error"]["code"] == "not-allowed"

    def test_a_tenant_sees_its_own(self, person):
        person.be(Role.TENANT)
        assert [each["uuid"] for each in person.json("instance", "list")["instances"]] == ["u1"]
        assert "vm-u1" in person.ok("instance", "list")
        assert "job-u1" in person.ok("job", "list")
        assert "p000001" in person.ok("instance", "points", "vm-u1")
        assert "restore of vm-u1" in person.ok("job", "restore", "latest:vm-u1")
        denied = [
            note for note in person.site.catalog.audit.page().items if note.outcome == "denied"
        ]
        assert denied == []


def test_tables_fit_a_terminal_of_80_columns(person):
    long = "a-rather-long-name-of-an-instance"
    machines = [a_machine(uuid="2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01", name=long)]
    person.site.catalog.instances.see("id-kvm1", machines, NOW)
    person.ok("job", "backup", long)
    person.ok("host", "add", "kvm-with-a-long-name-17", "kvm-17.rack-3.zone-1.example.net")
    for line in (
        "status", "host list", "instance list", "instance protection", "repository list",
        "policy list",
        "policy preview nightly", "job list", "user list", "token list", "audit list",
        "instance points vm-u1",
    ):  # fmt: skip
        answer = person(*line.split(" "))
        assert answer.code in (0, 6)
        assert max(map(len, answer.out.splitlines())) <= 80, answer.out


def test_every_command_is_tried_here():
    files = sorted(Path(__file__).parent.glob("test_*commands.py"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    groups = ("host", "instance", "point", "repository", "policy", "job", "user", "token", "audit")
    program: Any = typer.main.get_command(app)
    for group in groups:
        for name in program.commands[group].commands:
            tried = f'"{group}", "{name}"' in source or (group == "job" and f'("{name}",' in source)
            assert tried or name in {"watch", "deploy", "upgrade", "bundle"}, (group, name)


def test_the_document_is_one_even_where_there_are_notes(person):
    answer = person("job", "backup", "vm-u1", "--json")
    assert json.loads(answer.out)
    assert answer.err == ""
