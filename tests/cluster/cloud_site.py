"""A simulated cloud in front of the hosts of a cluster, and the control plane that protects it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sendense import clock
from sendense.model.ascend import Aim, AscendRequest
from sendense.model.ascend_order import CloudRestore
from sendense.model.cloud import Cloud, CloudKeys
from sendense.model.identity import new_id
from sendense.model.job import Job, JobKind, JobState
from sendense.model.secret import Secret
from sendense.workflows.managed.cloud_sync import look_at_cloud
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.commands import run
from sendense_lab.simulator import Simulator
from sendense_lab.simulator.lab_machines import LabMachines
from tests.cluster.cloud_caller import CloudCaller
from tests.cluster.fleet_site import FleetSite


class CloudSite:
    """What a test does with a cloud, its hosts and its control plane."""

    def __init__(self, fleet: FleetSite, machines: LabMachines, simulator: Simulator) -> None:
        self.fleet = fleet
        self.machines = machines
        self.second_pool = ""
        self.simulator = simulator
        keys = simulator.admin_keys
        self.api = CloudCaller(simulator.url, keys.api_key, keys.secret)
        self.zone = self.api.one("listZones")["id"]
        self.hosts = {host["name"]: host["id"] for host in self.api.rows("listHosts")}
        self.cloud = Cloud(new_id(clock.now()), "zone1", simulator.url, clock.now())
        signing = CloudKeys(keys.api_key, Secret(keys.secret))
        fleet.catalog.clouds.add(self.cloud, signing)

    @classmethod
    @contextmanager
    def on(
        cls, site: Cluster, name: str, *, version: str = "4.20", **agents: object
    ) -> Iterator[CloudSite]:
        """Have all of it, with agents on all hosts and a repository."""
        machines = LabMachines.over(site, boot="none")
        second = machines.add_pool(f"second-{name}")
        with (
            Simulator(machines, version=version) as simulator,
            FleetSite.on(site, name=name, attempts=1) as fleet,
        ):
            fleet.more_pools = (second.path,)
            for host in site.hosts.values():
                fleet.add(host)
                fleet.deploy(host, **agents)
            fleet.add_repository(site.root / f"{name}-repository")
            made = cls(fleet, machines, simulator)
            made.second_pool = second.id
            try:
                yield made
            finally:
                made.clear()
                for host in site.hosts.values():
                    fleet.clear(host)

    def clear(self) -> None:
        """Have no instance left."""
        for row in self.api.rows("listVirtualMachines", listall="true"):
            self.api.run("destroyVirtualMachine", id=row["id"], expunge="true")

    # --- CloudStack's side

    def named(self, command: str, name: str, **params: str) -> str:
        rows = self.api.rows(command, listall="true", **params)
        found: str = next(row["id"] for row in rows if row["name"] == name)
        return found

    def deploy(self, name: str, host: str = "kvm1", **more: object) -> str:
        """Make an instance that runs; gives its id."""
        made = self.api.run(
            "deployVirtualMachine",
            name=name,
            serviceofferingid=self.named("listServiceOfferings", "Small Instance"),
            templateid=self.named("listTemplates", "Lab guest", templatefilter="all"),
            zoneid=self.zone,
            networkids=self.named("listNetworks", "shared1"),
            hostid=self.hosts[host],
            **more,
        )
        return str(made["id"])

    def instance(self, uuid: str) -> dict[str, Any]:
        return self.api.one("listVirtualMachines", id=uuid, listall="true")

    def volumes(self, uuid: str) -> list[dict[str, Any]]:
        rows = self.api.rows("listVolumes", virtualmachineid=uuid, listall="true")
        return sorted(rows, key=lambda row: row["deviceid"])

    def add_disk(self, uuid: str, size_gib: int = 1) -> str:
        """Make a data disk and attach it; gives its id."""
        made = self.api.run(
            "createVolume",
            name=f"data-{size_gib}",
            zoneid=self.zone,
            diskofferingid=self.named("listDiskOfferings", "Custom"),
            size=size_gib,
        )
        self.api.run("attachVolume", id=made["id"], virtualmachineid=uuid)
        return str(made["id"])

    def vm(self, uuid: str) -> CloudVm:
        """Give the machine, behind the cloud's back."""
        return self.machines.vm(uuid)

    # --- our side

    def sync(self) -> None:
        look_at_cloud(self.fleet.plane.estate, self.cloud.id)

    def begin(self, uuid: str, **content: object) -> Job:
        return self.fleet.begin(JobKind.BACKUP, uuid, "", **{"consistency": "crash", **content})

    def back_up(self, uuid: str, **content: object) -> dict[str, Any]:
        """Have an instance backed up; gives what the job says of its point."""
        ended = self.fleet.end_of(self.begin(uuid, **content))
        assert ended.state is JobState.SUCCEEDED, ended.failure
        assert ended.result is not None
        return dict(ended.result)

    def restore(self, uuid: str, point: str, aim: Aim) -> dict[str, Any]:
        """Have a point restored into the cloud; gives what the job says of it."""
        wanted = CloudRestore(self.fleet.repository_id, point, AscendRequest(aim))
        job = self.fleet.begin(JobKind.RESTORE, uuid, "", **wanted.to_content())
        ended = self.fleet.end_of(job)
        assert ended.state is JobState.SUCCEEDED, ended.failure
        return dict(ended.result or {})

    def first_ending(self, job: Job) -> Job:
        """Give a job as its first attempt left it; it may wait for another one."""

        def ended() -> Job | None:
            now = self.fleet.catalog.jobs.get(job.id)
            return now if now.final or now.attempt > 1 else None

        return self.fleet.wait_for(ended)

    def gave_way(self, job: Job) -> None:
        """Have a job that is tried again, as often as it may be; cancel it."""
        now = self.first_ending(job)
        assert now.failure is not None
        assert now.failure.retryable
        if not now.final:
            self.fleet.catalog.jobs.request_cancel(job.id, clock.now())

    @contextmanager
    def slow(self, mbps: int) -> Iterator[None]:
        """Have all agents read so slowly for a while."""
        self._limit(mbps)
        try:
            yield
        finally:
            self._limit(0)

    def _limit(self, mbps: int) -> None:
        for host in self.fleet.cluster.hosts.values():
            path = "/etc/sendense/sendense-capture.yaml"
            lines = host.read(path).splitlines()
            kept = [line for line in lines if not line.startswith("  performance:")]
            limits = f"  performance: {{bandwidth_limit_mbps: {mbps}}}"
            host.put(path, "\n".join([*kept, limits, ""]), mode=0o600)
            host.run(["systemctl", "reload", "sendense-capture"])

    def reading(self, job: Job) -> bool:
        """Tell whether bytes flow."""
        now = self.fleet.catalog.jobs.get(job.id)
        return bool((now.progress or {}).get("done_bytes"))

    def ensure_right(self, uuid: str, point: object) -> None:
        """Compare a point with the disks of an instance that is off and was not written since."""
        root = self.fleet.cluster.root
        for target, volume in self.vm(uuid).disks.items():
            mine = self.fleet.read_disk(str(point), target, root / "mine.raw")
            # It ends with an error where a byte differs, and passes over holes.
            run(["qemu-img", "compare", "-f", "raw", "-F", volume.format, mine, volume.path])
            mine.unlink()
