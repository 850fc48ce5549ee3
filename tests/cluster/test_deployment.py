"""Agents are brought to hosts over SSH: safely, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sendense.errors import NotAllowed, Rejected, SendenseError
from sendense.fleet import deploy as deploying
from sendense.fleet.bundle import UNIT, build_bundle
from sendense.fleet.deploy import deploy, on_many, upgrade
from sendense.fleet.deploy_plan import StepKind, plan_deployment
from sendense.fleet.preflight import examine
from sendense.fleet.ssh import RemoteHand
from sendense.model.agent_status import Heartbeat
from sendense.model.enrolment import Enrolment
from sendense.model.finding import Level
from sendense.model.job import JobKind
from sendense.model.secret import Secret
from sendense.workflows.managed.deploying import CatalogSide, look_at_host, remove_host
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.cluster.host import ClusterHost
from tests.cluster import builds
from tests.cluster.fleet_site import FleetSite, traces_on
from tests.cluster.installed_agent import exposure


@pytest.fixture(scope="module")
def fleet(site: Cluster) -> Iterator[FleetSite]:
    with FleetSite.on(site) as made:
        for host in site.hosts.values():
            made.add(host)
        made.add_repository(site.root / "repository")
        yield made


@pytest.fixture(params=["kvm1", "kvm2"])
def host(site: Cluster, fleet: FleetSite, request: pytest.FixtureRequest) -> Iterator[ClusterHost]:
    """A host without an agent."""
    host = site.hosts[request.param]
    yield host
    fleet.clear(host)
    assert traces_on(host) == ""


@pytest.fixture
def one(site: Cluster, fleet: FleetSite) -> Iterator[ClusterHost]:
    host = site.hosts["kvm1"]
    yield host
    fleet.clear(host)


def test_from_nothing_to_a_backup_and_back_to_nothing(fleet: FleetSite, host: ClusterHost):
    found = look_at_host(fleet.access(host), fleet.desk)
    assert found.ready, found.problems
    assert (found.host, found.current, found.packages) == (host.name, "", ())
    assert traces_on(host) == ""

    done = fleet.deploy(host)
    assert done.heartbeat.facts.id == host.name
    assert host.run(["systemctl", "is-enabled", UNIT]).strip() == "enabled"
    assert exposure(host) <= 4.0
    for name in ("agent.secret", "tunnel.key", "sendense-capture.yaml"):
        assert host.run(["stat", "-c", "%a %U", f"/etc/sendense/{name}"]).strip() == "600 root"

    vm = fleet.cluster.create_vm(host, boot="none")
    vm.domain.resume()
    fleet.wait_for(lambda: vm.uuid in {item.uuid for item in fleet.catalog.instances.names()})
    first = fleet.succeed(JobKind.BACKUP, vm.uuid, host.name, consistency="crash")
    vm.write("vdb", 1 << 20, 65536, 5)
    second = fleet.succeed(JobKind.BACKUP, vm.uuid, host.name, consistency="crash")
    assert (first["mode"], second["mode"]) == ("full", "incremental")

    assert remove_host(fleet.access(host), host.name, fleet.plane.estate, fleet.desk) == ()
    assert vm.domain.listAllCheckpoints() == []
    assert traces_on(host) == ""
    vm.destroy()


def test_a_host_key_is_never_accepted_blindly(fleet: FleetSite, one: ClusterHost, tmp_path):
    (tmp_path / "empty").touch()
    for known_hosts in (None, tmp_path / "empty"):
        with (
            pytest.raises(NotAllowed, match="SHA256:") as caught,
            RemoteHand(fleet.access(one, known_hosts=known_hosts)),
        ):
            pass
        assert "ssh-keygen -lf" in str(caught.value.hint)
    shown = str(caught.value.data["fingerprint"])
    with RemoteHand(fleet.access(one, known_hosts=None, fingerprint=shown)) as hand:
        assert hand.ask("service")["state"] == "inactive"
    wrong = "SHA256:" + "A" * 43
    with (
        pytest.raises(NotAllowed, match=wrong),
        RemoteHand(fleet.access(one, known_hosts=None, fingerprint=wrong)),
    ):
        pass
    other = fleet.cluster.hosts["kvm2"]
    (tmp_path / "changed").write_text(f"{one.address} {other.public_key}\n")
    with (
        pytest.raises(NotAllowed, match="SHA256:"),
        RemoteHand(fleet.access(one, known_hosts=tmp_path / "changed")),
    ):
        pass


def test_a_user_with_a_password_and_sudo(fleet: FleetSite, one: ClusterHost):
    one.run(["useradd", "-m", "-s", "/bin/sh", "-G", "sudo", "admin7"])
    try:
        one.run(["chpasswd"], stdin="admin7:s3cret-pass\n")
        access = fleet.access(
            one, user="admin7", key_file=None, password=Secret("s3cret-pass"),
            sudo_password=Secret("s3cret-pass"),
        )  # fmt: skip
        with RemoteHand(access) as hand:
            assert examine(hand).ready
        with (
            pytest.raises(NotAllowed, match="may not become root"),
            RemoteHand(replace(access, sudo_password=Secret("wrong"))) as hand,
        ):
            hand.ask("service")
        with (
            pytest.raises(NotAllowed, match="does not let admin7 in"),
            RemoteHand(replace(access, password=Secret("wrong"))),
        ):
            pass
        one.put("/etc/sudoers.d/admin7", "admin7 ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
        with RemoteHand(access) as hand:
            assert hand.ask("service")["state"] == "inactive"
        assert "s3cret-pass" not in one.run(["journalctl", "-b", "--no-pager"])
    finally:
        one.run(["rm", "-f", "/etc/sudoers.d/admin7"])
        one.run(["userdel", "-r", "-f", "admin7"])


def test_what_is_wrong_is_told_before_anything_is_touched(fleet: FleetSite, one: ClusterHost):
    one.run(["systemctl", "stop", "libvirtd"])
    one.run(["mv", "/usr/bin/qemu-nbd", "/usr/bin/qemu-nbd.away"])
    try:
        with RemoteHand(fleet.access(one)) as hand:
            found = examine(hand, (fleet.desk.gateway.host, 1))
            problems = {item.check: item for item in found.problems}
            assert set(problems) == {"libvirt", "gateway"}
            assert all(item.fix for item in problems.values())
            assert found.packages == ("qemu-utils",)
            plan = plan_deployment(found, fleet.config(one), build_bundle())
            assert "apt-get install qemu-utils" in [step.text for step in plan.steps]
            with pytest.raises(Rejected, match="not ready"):
                deploy(hand, plan, fleet.side)
    finally:
        one.run(["mv", "/usr/bin/qemu-nbd.away", "/usr/bin/qemu-nbd"])
        one.run(["systemctl", "start", "libvirtd"])
    assert traces_on(one) == ""


def test_a_failed_first_deployment_leaves_nothing(
    fleet: FleetSite, one: ClusterHost, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deploying, "HEARTBEAT_S", 3.0)
    with RemoteHand(fleet.access(one)) as hand:
        plan = plan_deployment(examine(hand), fleet.config(one), build_bundle())
        with pytest.raises(SendenseError, match="not heard of"):
            deploy(hand, plan, Astray(fleet.plane.estate, fleet.desk))
    assert traces_on(one) == ""
    assert fleet.catalog.hosts.get(one.name).revoked_at is not None


class Astray(CatalogSide):
    """Sends agents to a port where no gateway listens."""

    def enrol(self, agent: str, public_key: str) -> Enrolment:
        enrolment = super().enrol(agent, public_key)
        return replace(enrolment, gateway=replace(enrolment.gateway, port=9))


def test_settings_that_are_not_the_operators_are_refused(fleet: FleetSite, one: ClusterHost):
    with pytest.raises(Rejected, match="gateway"):
        fleet.deploy(one, gateway={"host": "elsewhere"})
    assert traces_on(one) == ""


def test_settings_that_the_agent_refuses_change_nothing(fleet: FleetSite, one: ClusterHost):
    before = fleet.deploy(one)
    said = one.read("/etc/sendense/sendense-capture.yaml")
    with pytest.raises(SendenseError, match="bandwith"):
        fleet.deploy(one, performance={"bandwith_limit_mbps": 1})
    assert one.read("/etc/sendense/sendense-capture.yaml") == said
    beat = fleet.wait_for(lambda: fleet.side.heartbeat(one.name))
    assert beat.facts.version == before.heartbeat.facts.version


def test_an_upgrade_waits_for_work_and_a_bad_one_is_taken_back(
    fleet: FleetSite, one: ClusterHost, monkeypatch: pytest.MonkeyPatch
):
    fleet.deploy(one)
    paused: list[str] = []

    class Pausing:
        def pause(self, agent: str) -> None:
            paused.append(f"pause {agent}")

        def resume(self, agent: str) -> None:
            paused.append(f"resume {agent}")

    class Working:
        """The control plane's side, to which the agent seems to work twice."""

        enrol = fleet.side.enrol
        restore = fleet.side.restore
        looks = 0

        def heartbeat(self, agent: str) -> Heartbeat | None:
            beat = fleet.side.heartbeat(agent)
            Working.looks += 1
            if beat is not None and Working.looks <= 2:
                return replace(beat, running=("work",))
            return beat

    with RemoteHand(fleet.access(one)) as hand:
        plan = plan_deployment(examine(hand), fleet.config(one), builds.later())
        done = upgrade(hand, plan, Working(), Pausing())
    assert done.version == "9.9.9-0123456789ab"
    assert Working.looks >= 3
    assert paused == [f"pause {one.name}", f"resume {one.name}"]
    current = one.run(["readlink", "/opt/sendense/current"]).strip()
    assert current == "versions/9.9.9-0123456789ab"

    # Back to a build that does not start: what ran before runs again.
    monkeypatch.setattr(deploying, "HEARTBEAT_S", 5.0)
    with RemoteHand(fleet.access(one)) as hand:
        plan = plan_deployment(examine(hand), fleet.config(one), builds.broken())
        with pytest.raises(SendenseError):
            deploy(hand, plan, fleet.side)
    assert one.run(["readlink", "/opt/sendense/current"]).strip() == current
    assert fleet.wait_for(lambda: fleet.side.heartbeat(one.name)).facts.id == one.name


@pytest.mark.parametrize("step", [StepKind.SETTINGS, StepKind.SWITCH])
def test_a_deployment_that_died_is_taken_back_by_the_next(
    fleet: FleetSite, one: ClusterHost, step: StepKind
):
    class Died(BaseException):
        pass

    with RemoteHand(fleet.access(one)) as hand:
        plan = plan_deployment(examine(hand), fleet.config(one), build_bundle())
        work = deploying._Deployment(hand, plan, fleet.side)
        for item in plan.steps:
            work.take(item.kind)
            if item.kind is step:
                break
    with RemoteHand(fleet.access(one)) as hand:
        found = examine(hand)
        assert found.unfinished
        plan = plan_deployment(found, fleet.config(one), build_bundle())
        assert plan.steps[0].kind is StepKind.UNDO
        assert deploy(hand, plan, fleet.side).heartbeat.facts.id == one.name
        assert not examine(hand).unfinished


def test_many_hosts_at_once_each_with_its_own_end(fleet: FleetSite, site: Cluster):
    running = threading.Barrier(2, timeout=60)

    def act(host: ClusterHost) -> str:
        running.wait()
        return fleet.deploy(host).agent

    results = dict(on_many(site.hosts.values(), act))
    assert {host.name: result for host, result in results.items()} == {
        "kvm1": "kvm1",
        "kvm2": "kvm2",
    }
    for host in site.hosts.values():
        fleet.clear(host)
        assert traces_on(host) == ""


def test_the_plan_says_what_and_why(fleet: FleetSite, one: ClusterHost):
    with RemoteHand(fleet.access(one)) as hand:
        found = examine(hand)
    assert {item.level for item in found.findings} <= {Level.OK, Level.WARNING}
    plan = plan_deployment(found, fleet.config(one), build_bundle())
    assert [step.kind for step in plan.steps][-2:] == [StepKind.WAIT, StepKind.FORGET]
    assert all(step.reason for step in plan.steps)
