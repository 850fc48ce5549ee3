"""``sendense cloud`` and instances of clouds, against a server and a simulated CloudStack."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from sendense import clock
from sendense.cloudstack.transport import Limits
from sendense.model.access import Role
from sendense.model.cloud import CloudHost, CloudKind
from sendense.server.cloud_doors import CloudDoors
from sendense.settings import Settings
from sendense.workflows.managed.cloud_sync import look_at_cloud
from sendense.workflows.managed.clouds import CloudClients
from sendense.workflows.managed.estate import Estate
from sendense_lab.ports import free_port
from sendense_lab.simulator import records
from sendense_lab.simulator.simulator import Simulator

HASTY = Limits(per_second=2000, patience_s=0.5, connect_s=5.0, silent_s=10.0)


class Berlin:
    """A simulated cloud that a server knows by name."""

    def __init__(self, simulator, site, folder):
        self.simulator = simulator
        self.site = site
        self.folder = folder
        self.hints: list[tuple[str, str]] = []
        self.estate = Estate(site.catalog, Settings(), clouds=CloudClients(HASTY))
        site.services.clouds = CloudDoors(
            self.estate, lambda cloud, instance: self.hints.append((cloud, instance))
        )

    def close(self):
        self.estate.clouds.close()

    def secret(self, text, name="secret"):
        file = self.folder / name
        file.write_text(f"{text}\n")
        file.chmod(0o600)
        return file

    def add(self, person, *more, keys=None):
        api_key, secret = keys or self.simulator.admin_keys
        file = self.secret(secret)
        return person.json(
            "cloud", "add", "berlin", self.simulator.url, "--api-key", api_key,
            "--secret-file", file, *more,
        )["cloud"]  # fmt: skip

    def read(self):
        look_at_cloud(self.estate, self.site.catalog.clouds.named("berlin").id)


@pytest.fixture
def berlin(site, tmp_path):
    with (
        Simulator(job_s=0.02) as simulator,
        closing(Berlin(simulator, site, tmp_path)) as place,
    ):
        yield place


def test_added_checked_and_its_role(berlin, person):
    made = berlin.add(person)
    assert made["state"]["looked_at"] is None
    check = person.json("cloud", "check", "berlin")["check"]
    assert (check["reachable"], check["admin"], check["failure"]) == (True, True, "")
    assert check["version"].startswith("4.20")
    assert check["features"]["webhooks"] is True
    assert [each["good"] for each in check["purposes"]] == [True, True, True]
    assert "version" in person.ok("cloud", "check", "berlin")
    role = person.ok("cloud", "role", "--name", "reader", "--cloud", "berlin")
    assert "name=reader" in role
    assert "listVirtualMachines" in role
    assert "startVirtualMachine" not in role
    assert role.rstrip().endswith("rule='*'")
    both = person.json("cloud", "role", "--restore", "--webhooks")["role"]["commands"]
    assert "startVirtualMachine" in both
    assert "createWebhook" in both


def test_what_is_missing_is_named_and_is_exit_code_6(berlin, person):
    keys = berlin.simulator.create_account("ann", domain="ROOT/acme", role="User")
    berlin.add(person, keys=keys)
    check = person.json("cloud", "check", "berlin", code=6)["check"]
    assert check["admin"] is False
    missing = {each["api"] for each in check["purposes"][0]["missing"]}
    assert {"listHosts", "listStoragePools"} <= missing
    shown = person("cloud", "check", "berlin")
    assert shown.code == 6
    assert "listHosts" in shown.out


def narrow(simulator):
    """Give keys of an administrator whose role has no webhooks."""
    with simulator.world.lock:
        role = simulator.world.add(records.Role(name="narrow", kind="Admin"))
        for rule, allow in (("*Webhook*", False), ("*", True)):
            simulator.world.add(records.RoleRule(role_id=role.id, rule=rule, allow=allow))
    return simulator.create_account("sendense", role="narrow")


def test_webhooks_that_nobody_asked_for_are_not_missing(berlin, person):
    berlin.add(person, keys=narrow(berlin.simulator))
    shown = person.ok("cloud", "check", "berlin")
    assert "only for webhooks, of which none is set, it lacks listWebhooks" in shown
    assert "lacks permissions" not in shown
    assert "key to set webhooks" in shown
    assert "not asked for" in shown
    webhooks = person.json("cloud", "check", "berlin")["check"]["purposes"][2]
    assert (webhooks["wanted"], webhooks["good"]) == (False, True)
    assert {each["optional"] for each in webhooks["missing"]} == {True}


def test_webhooks_that_are_set_have_to_stay_possible(berlin, person):
    berlin.add(person)
    assert "webhooks are possible, and none is set" in person.ok("cloud", "check", "berlin")
    person.ok("cloud", "webhook", "berlin", "--url", "https://backup.example.net")
    api_key, secret = narrow(berlin.simulator)
    keys = ("--api-key", api_key, "--secret-file", berlin.secret(secret, "narrow"))
    person.ok("cloud", "edit", "berlin", *keys)
    shown = person.ok("cloud", "check", "berlin")
    assert "createWebhook" in shown
    assert "lacks permissions" in shown
    assert "only for webhooks" not in shown
    webhooks = person.json("cloud", "check", "berlin")["check"]["purposes"][2]
    assert (webhooks["wanted"], webhooks["good"]) == (True, False)


def test_a_second_key_that_does_not_work_is_told_apart(berlin, person):
    wrong = berlin.secret("wrong", "restore")
    berlin.add(person, "--restore-api-key", "nobody", "--restore-secret-file", wrong)
    check = person.json("cloud", "check", "berlin", code=6)["check"]
    read, restore, _ = check["purposes"]
    assert (read["good"], restore["good"], restore["own_key"]) == (True, False, True)
    assert "does not accept the key" in restore["failure"]


def test_one_that_is_away(berlin, person):
    berlin.add(person)
    berlin.simulator.down()
    check = person.json("cloud", "check", "berlin", code=6)["check"]
    assert check["reachable"] is False
    assert "did not answer" in check["failure"]


def test_a_wrong_secret_says_what_can_be_wrong(berlin, person):
    berlin.add(person, keys=(berlin.simulator.admin_keys.api_key, "wrong"))
    check = person.json("cloud", "check", "berlin", code=6)["check"]
    assert check["reachable"] is True
    assert "api.key.access" in check["hint"]


def test_shown_edited_and_removed(berlin, person):
    berlin.add(person)
    file = berlin.secret("another", "restore")
    person.ok(
        "cloud", "edit", "berlin", "--name", "bonn", "--disable",
        "--restore-api-key", "changes", "--restore-secret-file", file,
    )  # fmt: skip
    shown = person.ok("cloud", "show", "bonn")
    assert "disabled" in shown
    assert "its own" in shown
    assert "bonn" in person.ok("cloud", "list")
    assert person.json("cloud", "list", "--enabled")["clouds"] == []
    person.ok("cloud", "edit", "bonn", "--enable", "--forget-restore-key")
    person.refused("cloud", "edit", "bonn", code=2, says="nothing was named")
    person.refused("cloud", "add", "x", "ftp://x", "--api-key", "k", "--secret-file", file, code=2,
                   says="no address of a CloudStack API")  # fmt: skip
    person.ok("cloud", "remove", "bonn", "--yes")
    person.refused("cloud", "show", "bonn", code=3, says="there is no cloud bonn")


@pytest.mark.parametrize(
    "options", [("--secret-file", "{file}"), ("--api-key", "k", "--restore-secret-file", "{file}")]
)
def test_a_key_and_its_secret_belong_together(berlin, person, options):
    file = berlin.secret("s")
    given = [each.format(file=file) for each in options]
    person.refused("cloud", "add", "x", "https://x", *given, code=2, says="")
    assert person.json("cloud", "list")["clouds"] == []


def test_hosts_changes_and_instances(berlin, person):
    berlin.simulator.add_instance("web1", tags={"tier": "gold"}, running=True)
    berlin.simulator.add_instance("db1", running=False)
    berlin.add(person)
    berlin.read()
    hosts = person.json("cloud", "hosts", "berlin")["hosts"]
    assert any(each["usable"] for each in hosts)
    assert {each["name"]: each["host_id"] for each in hosts}["kvm2"] is None
    assert "not registered" in person.ok("cloud", "hosts", "berlin")
    changes = person.json("cloud", "changes", "berlin", "--kind", "instance")["changes"]
    assert {each["name"] for each in changes} == {"web1", "db1"}
    assert "web1" in person.ok("cloud", "changes", "berlin")
    gold = person.json("instance", "list", "--tag", "tier=gold", "--cloud", "berlin")["instances"]
    assert [each["name"] for each in gold] == ["web1"]
    assert "no-agent" in person.ok("instance", "list", "--state", "Running")
    person.refused(
        "instance", "list", "--tag", "x", "--power", "running", code=2, says="ask clouds"
    )
    assert "tier=gold" in person.ok("instance", "show", "web1")
    document = person.json("instance", "show", "web1")
    assert document["vm"]["id"] == document["instance"]["uuid"] == gold[0]["id"]
    assert "web1" in person.ok("instance", "list")


def test_what_is_not_shown_is_gone_by_somebodys_word(berlin, person):
    berlin.add(person)
    job = person.json("cloud", "sync", "berlin", "--accept-gone")["job"]
    assert berlin.site.catalog.jobs.get(job["id"]).content["accept_gone"] is True


def test_a_policy_by_what_a_cloud_says(berlin, person):
    berlin.simulator.add_instance("web1", tags={"tier": "gold"})
    berlin.simulator.add_instance("web2", tags={"tier": "lead"})
    berlin.add(person)
    berlin.read()
    rules = ("--to", "main", "--schedule", "@daily", "--keep-last", 3)
    match = ("--cloud", "berlin", "--tag", "tier", "--except-tag", "tier=lead")
    preview = person.json("policy", "add", "gold", *rules, *match, "--dry-run")["preview"]
    assert [each["cloud_name"] for each in preview["instances"]] == ["web1"]
    assert "tier=gold" in preview["instances"][0]["why"]
    made = person.json("policy", "add", "gold", *rules, *match)["policy"]
    assert made["match"]["tags"] == ["tier"]
    edited = person.json("policy", "edit", "gold", "--zone", "z*", "--tag", "tier=gold")["policy"]
    assert (edited["match"]["zones"], edited["match"]["clouds"]) == (["z*"], ["berlin"])
    assert "berlin" in person.ok("policy", "show", "gold")


def test_webhooks_arrive_signed(berlin, person):
    made = berlin.add(person)
    after = person.json("cloud", "webhook", "berlin", "--url", berlin.site.url)["cloud"]
    assert after["has_webhook"]
    secret = berlin.site.catalog.clouds.keys(made["id"]).webhook_secret
    # Done again it is another secret, and still one webhook.
    person.ok("cloud", "webhook", "berlin", "--url", berlin.site.url)
    assert berlin.site.catalog.clouds.keys(made["id"]).webhook_secret != secret
    berlin.simulator.add_instance("web1")
    deadline = time.monotonic() + 120
    while not berlin.hints:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert berlin.hints[0][0] == made["id"]
    # One that is lost is no harm, for looks find it; nor is one that comes twice.
    berlin.simulator.faults.lose_webhooks = 1
    berlin.simulator.add_instance("web2")
    berlin.simulator.faults.duplicate_webhooks = 1
    seen = len(berlin.hints)
    web3 = berlin.simulator.add_instance("web3")
    deadline = time.monotonic() + 120
    while berlin.hints[seen:].count((made["id"], web3.id)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    person.ok("cloud", "webhook", "berlin", "--remove")
    assert not person.json("cloud", "show", "berlin")["cloud"]["has_webhook"]
    person.refused("cloud", "webhook", "berlin", code=2, says="set or removed")


def test_a_cloud_without_webhooks_says_so(site, tmp_path, person):
    with (
        Simulator(version="4.18", job_s=0.02) as simulator,
        closing(Berlin(simulator, site, tmp_path)) as old,
    ):
        old.add(person)
        person.refused(
            "cloud", "webhook", "berlin", "--url", "https://x", code=9, says="no webhooks"
        )
        assert not person.json("cloud", "show", "berlin")["cloud"]["has_webhook"]
        role = person.ok("cloud", "role", "--webhooks", "--restore", "--cloud", "berlin")
        assert "createWebhook" not in role
        assert "importVm" not in role


def test_a_viewer_looks_and_changes_nothing(berlin, person):
    berlin.add(person)
    person.be(Role.VIEWER)
    person.ok("cloud", "show", "berlin")
    person.refused("cloud", "remove", "berlin", "--yes", code=10, says="may not do this")


def test_deploying_to_a_cloud_names_what_is_in_the_way(berlin, person):
    berlin.add(person)
    person.refused("host", "deploy", code=2, says="or their cloud is")
    person.refused("host", "deploy", "--cloud", "berlin", code=3, says="no usable host")


def test_deploying_to_a_cloud_registers_its_usable_hosts_once(berlin, person):
    made = berlin.add(person)
    usable = CloudHost("h1", "kvm7", "127.0.0.1", "Up", "Enabled", "Routing", "KVM", "z1", "c1")
    down = CloudHost("h2", "kvm8", "127.0.0.2", "Down", "Enabled", "Routing", "KVM", "z1", "c1")
    berlin.site.catalog.inventory.take(made["id"], CloudKind.HOST, [usable, down], clock.now())
    # Nobody listens there, so each ends at once; what was registered stays for the next time.
    command = ("host", "deploy", "--cloud", "berlin", "--ssh-port", free_port())
    for _ in range(2):
        first = person(*command, "--json")
        assert first.code != 0
        assert [each["host"] for each in first.document["hosts"]] == ["kvm7"]
    hosts = person.json("host", "list")["hosts"]
    assert [(each["name"], each["address"]) for each in hosts if each["name"] != "kvm1"] == [
        ("kvm7", "127.0.0.1")
    ]
    answer = person(*command)
    assert "kvm8: left out, its state is Down" in answer.err
