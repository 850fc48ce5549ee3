"""Repositories, points and policies of a server, once for people and once for scripts."""

from __future__ import annotations

from dataclasses import replace

from sendense.model.access import Role
from sendense.model.cloud import CloudHost, CloudKind
from tests.support.api_site import vault_with_points
from tests.support.builders import a_machine
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud
from tests.support.fleet import NOW, a_request
from tests.unit.cli.stage import a_secret_file

SECRET = "hunter2-hunter2"


class TestRepositories:
    def test_from_beginning_to_end(self, person, tmp_path):
        secret = a_secret_file(tmp_path / "passphrase", SECRET)
        url = f"dedup:{tmp_path}/vault"
        person.ok(
            "repository", "add", "vault", url, "--create", "--passphrase-file", secret, "--json"
        )
        entry = person.site.catalog.repositories.every()[-1]
        kept = person.site.catalog.repositories.secrets(entry.id)
        assert kept.passphrase is not None
        assert kept.passphrase.reveal() == SECRET.encode()
        assert "vault" in person.ok("repository", "list")
        assert len(person.json("repository", "list")["repositories"]) == 3
        assert person.json("repository", "show", "vault", "--look")["info"]["points"] == 0
        assert "itself says" in person.ok("repository", "show", "vault", "--look")
        assert "0 points" in person.ok("repository", "relist", "vault")
        assert person.json("repository", "relist", "vault") == {"points": 0}
        assert "changed" in person.ok("repository", "edit", "vault", "--name", "safe")
        credentials = a_secret_file(tmp_path / "credentials", f'secret_access_key: "{SECRET}"')
        edited = person.json("repository", "edit", "safe", "--credentials-file", credentials)
        assert edited["repository"]["has_credentials"]
        assert "no longer" in person.ok("repository", "remove", "safe", "--yes")
        again = person("repository", "add", "again", url, "--passphrase-file", secret)
        assert (again.code, "uses again" in again.out) == (0, True)
        removed = person.json("repository", "remove", "again", "-y")
        assert removed["removed"]

    def test_secrets_are_never_shown(self, person, tmp_path):
        secret = a_secret_file(tmp_path / "passphrase", SECRET)
        wrong = a_secret_file(tmp_path / "credentials", f"- {SECRET}")
        url = f"dedup:{tmp_path}/vault"
        lines = (
            ("repository", "add", "v", url, "--passphrase-file", secret, "-vv"),
            ("repository", "add", "v", url, "--create", "--passphrase-file", secret, "-vv"),
            ("repository", "add", "w", url, "--credentials-file", wrong, "-vv"),
            ("repository", "edit", "v", "--passphrase-file", secret, "-vv", "--json"),
            ("repository", "show", "v", "--json"),
        )
        for line in lines:
            answer = person(*line)
            assert SECRET not in answer.out + answer.err
        person.be(Role.VIEWER)
        answer = person("repository", "edit", "v", "--passphrase-file", secret, "-vv")
        assert answer.code == 10
        assert SECRET not in answer.out + answer.err

    def test_what_is_wrong_is_said(self, person, tmp_path):
        person.refused("repository", "edit", "main", code=2, says="nothing was named")
        missing = tmp_path / "none"
        person.refused(
            "repository", "add", "x", "/x", "--passphrase-file", missing, code=3, says="no "
        )
        person.refused("repository", "add", "x", missing, code=3, says="not")
        person.refused("repository", "remove", "main", "-y", code=2, says="the policy nightly")


class TestPoints:
    def test_pinned_unpinned_and_locked(self, person, tmp_path):
        vault = vault_with_points(person.site, tmp_path, "p1", "p2")
        said = person.ok("point", "pin", "p1", "--note", "before the upgrade")
        assert said == "p1 in vault: pinned: before the upgrade\n"
        assert person.site.catalog.points.get("p1", vault).pinned
        locked = person.json("point", "lock", "p1", "--in", "vault", "--until", "2234-12-31")
        assert [hold["kind"] for hold in locked["holds"]] == ["pin", "lock"]
        assert locked["repository"] == vault
        assert "locked until 2234-12-31" in person.ok("point", "unpin", "p1")
        kept = person.json("point", "lock", "latest:i-2-10-VM", "--for", "30d", "--in", "vault")
        assert (kept["point"], kept["holds"][0]["note"]) == ("p2", "")
        points = person.json("instance", "points", "i-2-10-VM", "--in", "vault")["points"]
        assert {point["id"]: point["pinned"] for point in points} == {"p1": False, "p2": False}
        assert all(point["locked_until"] for point in points)

    def test_what_is_wrong_is_said(self, person, tmp_path):
        vault = vault_with_points(person.site, tmp_path, "p1")
        person.refused("point", "unpin", "p1", code=3, says="not pinned")
        person.refused("point", "lock", "p1", code=2, says="say how long")
        person.refused("point", "lock", "p1", "--until", "2020-01-01", code=2, says="over already")
        person.ok("point", "lock", "p1", "--for", "8w")
        person.refused("point", "lock", "p1", "--for", "1d", code=10, says="never shortened")
        person.refused("point", "pin", "p9", code=3, says="no point p9")
        copy = replace(person.site.catalog.points.get("p1", vault), repository_id="id-unused")
        person.site.catalog.points.put([copy], NOW)
        answer = person.refused("point", "pin", "p1", code=2, says="2 repositories have")
        assert "--in: unused, vault" in answer.err
        person.ok("point", "pin", "p1", "--in", "vault")


class TestPolicies:
    NEW = ("--to", "main", "--schedule", "30 2 * * *", "--match", "vm-*", "--keep-daily", "7")

    def test_what_is_left_out_is_named(self, person):
        catalog = person.site.catalog
        cloud = catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
        host = CloudHost("h1", "kvm1", "10.0.0.1", "Up", "Enabled", "Routing", "KVM", "z1", "c1")
        catalog.inventory.take(cloud.id, CloudKind.HOST, [host], NOW)
        own = [a_machine(uuid=f"own-{number}", name=f"r-{number}-VM") for number in range(7)]
        catalog.instances.see("id-kvm1", own, NOW)
        said = person.ok("policy", "preview", "nightly")
        assert "left out as CloudStack's own: r-0-VM, r-1-VM" in said
        assert "and 2 more" in said

    def test_from_beginning_to_end(self, person):
        preview = person.json("policy", "add", "web", *self.NEW, "--dry-run")["preview"]
        assert preview["count"] == 2
        assert [each["name"] for each in person.json("policy", "list")["policies"]] == ["nightly"]
        made = person.json(
            "policy", "add", "web", *self.NEW, "--timezone", "Europe/Berlin", "--except", "vm-u2",
            "--on", "kvm1", "--instance", "vm-u2", "--window", "22:00-06:00", "--jitter", "30",
            "--blackout", "2026-12-24", "--sla", "26h", "--consistency", "crash",
            "--full-every", "30", "--priority", "5", "--keep-last", "1", "--keep-hourly", "1",
            "--keep-weekly", "1", "--keep-monthly", "1", "--keep-yearly", "1",
            "--keep-within", "2d", "--disabled",
        )["policy"]  # fmt: skip
        assert {kind: found for kind, found in made["match"].items() if found} == {
            "names": ["vm-*"], "hosts": ["id-kvm1"], "instances": ["u2"], "except_names": ["vm-u2"]
        }  # fmt: skip
        assert (made["jitter_s"], made["sla_s"], made["enabled"]) == (1800, 93600, False)
        assert made["keep"] == {
            "last": 1, "hourly": 1, "daily": 7, "weekly": 1, "monthly": 1, "yearly": 1,
            "within_s": 172800,
        }  # fmt: skip
        text = person.ok("policy", "show", "web")
        assert "22:00-06:00" in text
        assert "vm-* on kvm1" in text
        edited = person.json(
            "policy", "edit", "web", "--window", "", "--sla", "0h", "--keep-daily", "0",
            "--name", "all", "--match", "*", "--keep-within", "0h",
        )["policy"]  # fmt: skip
        assert (edited["window"], edited["sla_s"], edited["name"]) == (None, None, "all")
        assert (edited["keep"]["daily"], edited["keep"]["last"]) == (0, 1)
        assert edited["keep"]["within_s"] is None
        assert edited["match"]["names"] == ["*"]
        assert edited["match"]["hosts"] == ["id-kvm1"]
        assert "takes" in person.ok("policy", "edit", "all", "--match", "none", "--dry-run")
        assert "was changed" in person.ok("policy", "edit", "all", "--full-every", "2")
        assert made["keep_bitmaps"] is True
        person.ok("policy", "edit", "all", "--no-bitmaps")
        assert "not kept" in person.ok("policy", "show", "all")
        edited = person.json("policy", "edit", "all", "--beside-cloudstack")["policy"]
        assert (edited["keep_bitmaps"], edited["beside_cloudstack"]) == (False, True)
        assert "acts" in person.ok("policy", "enable", "all")
        assert person.json("policy", "disable", "all")["policy"]["enabled"] is False
        assert person.json("policy", "enable", "all")["policy"]["enabled"] is True
        assert "no more" in person.ok("policy", "disable", "all")
        assert "all" in person.ok("policy", "list", "--disabled")
        assert len(person.json("policy", "list", "--to", "main")["policies"]) == 2
        assert "takes 2 instances" in person.ok("policy", "preview", "nightly")
        assert person.json("policy", "preview", "nightly")["preview"]["count"] == 2
        assert person.json("policy", "show", "all")["policy"]["id"] == made["id"]
        assert "removed" in person.ok("policy", "remove", "all", "-y")
        assert person.json("policy", "remove", "nightly", "-y") == {"removed": "id-nightly"}

    def test_run_now_and_rounds(self, person):
        assert "no round yet" in person.ok("policy", "rounds", "nightly")
        catalog = person.site.catalog
        catalog.jobs.submit(a_request(subject="u1", policy_id="id-nightly"), NOW)
        said = person.ok("policy", "run", "nightly")
        assert said.startswith("nightly: 1 backup submitted; asked for by admin; 1 instances")
        again = person.json("policy", "run", "nightly")["round"]
        assert (again["submitted"], again["skipped"]) == (0, 2)
        listed = person.json("policy", "rounds", "nightly")
        assert [each["submitted"] for each in listed["rounds"]] == [0, 1]
        assert listed["more"] is False
        assert "the first 1" in person("policy", "rounds", "nightly", "--limit", "1").err
        lines = person.ok("policy", "rounds", "nightly").splitlines()
        assert max(map(len, lines)) <= 80
        person.refused("policy", "run", "nightli", code=3, says="did you mean nightly?")

    def test_what_is_wrong_is_said(self, person):
        person.refused("policy", "add", "x", code=2, says="a repository and a schedule")
        person.refused("policy", "add", "x", *self.NEW[:4], code=2, says="which instances")
        for keep in ((), ("--keep-daily", "0"), ("--keep-within", "0h")):
            line = ("policy", "add", "x", *self.NEW[:6], *keep)
            answer = person.refused(*line, code=2, says="no rule says what is kept")
            assert "--keep-last" in answer.err
        none = ("policy", "edit", "nightly", "--keep-daily", "0")
        person.refused(*none, code=2, says="no rule says what is kept")
        bad = ("--to", "main", "--schedule", "at noon", "--match", "*", "--keep-last", "1")
        person.refused("policy", "add", "x", *bad, code=2, says="at noon")
        person.refused("policy", "edit", "nightly", code=2, says="nothing was named")
        person.refused("policy", "show", "nightli", code=3, says="did you mean nightly?")
