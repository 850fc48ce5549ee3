"""A simulated cloud in front of a host of the lab, and the control plane that restores into it."""

from __future__ import annotations

import base64
import filecmp
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sendense import clock
from sendense.catalog.jobs import JobFilter
from sendense.cloudstack.transport import Limits
from sendense.model.ascend import AscendRequest
from sendense.model.ascend_order import CloudRestore
from sendense.model.cloud import Cloud as KnownCloud
from sendense.model.cloud import CloudKeys
from sendense.model.coding import encode
from sendense.model.identity import new_id
from sendense.model.job import Job, JobKind, JobRequest, JobState
from sendense.model.page import Paging
from sendense.model.retention import KeepRules
from sendense.model.secret import Secret
from sendense.workflows.managed.cloud_sync import look_at_cloud
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.lab import Lab
from sendense_lab.simulator import Simulator
from sendense_lab.simulator.lab_machines import LabMachines
from sendense_lab.simulator.records import Instance
from tests.cluster.cloud_caller import CloudCaller
from tests.vm.agent_site import MIB
from tests.vm.control_site import Cloud, control_plane

DETAILS = {"io.policy": "io_uring", "kvm.guest.os.machine.type": "secret-word"}
USER_DATA = base64.b64encode(b"#cloud-config\npassword: hush\n").decode()


class AscendSite:
    """What a test does with a cloud, its host, and restores into it."""

    def __init__(self, control: Cloud, kind: str) -> None:
        self.control = control
        self.root: Path = control.agent.lab.root
        self._kind = kind

    @classmethod
    @contextmanager
    def on(cls, lab: Lab, *, kind: str = "") -> Iterator[AscendSite]:
        with control_plane(lab, attempts=1) as control:
            # The pace that spares a real management server would be most of a test's time.
            control.plane.estate.clouds._limits = Limits(per_second=500, patience_s=10)
            yield cls(control, kind)

    @property
    def estate(self):
        return self.control.plane.estate

    @contextmanager
    def cloud(self, version: str, **more: Any) -> Iterator[CloudHere]:
        """Have a cloud of a version in front of the machines."""
        # New for each cloud: their instances have the same names.
        machines = LabMachines.over(self.control.agent.lab, kind=self._kind, boot="none")
        with Simulator(machines, version=version, job_s=0.01, **more) as simulator:
            here = CloudHere(self, simulator, machines)
            try:
                yield here
            finally:
                here.clear()


class CloudHere:
    """One cloud, known to the control plane."""

    def __init__(self, site: AscendSite, simulator: Simulator, machines: LabMachines) -> None:
        self.site = site
        self.simulator = simulator
        self.machines = machines
        keys = simulator.admin_keys
        self.api = CloudCaller(simulator.url, keys.api_key, keys.secret)
        now = clock.now()
        self.cloud = KnownCloud(new_id(now), f"cloud {new_id(now)}", simulator.url, now)
        catalog = site.control.catalog
        catalog.clouds.add(self.cloud, CloudKeys(keys.api_key, Secret(keys.secret)))

    # --- CloudStack's side

    def add(self, name: str, **more: Any) -> Instance:
        """Make an instance of root and a data disk that runs, with something in both."""
        vm = self.simulator.add_instance(name, disks=(24 * MIB,), **more)
        machine = self.machine(vm.id)
        machine.random_fill("vda", 0, 2 * MIB, 5)
        machine.random_fill("vdb", 1 * MIB, 3 * MIB, 6)
        self.sync()
        return vm

    def machine(self, uuid: str) -> CloudVm:
        return self.machines.vm(uuid)

    def row(self, uuid: str) -> dict[str, Any]:
        return self.api.one("listVirtualMachines", id=uuid, listall="true", userdata="true")

    def volumes(self, uuid: str) -> list[dict[str, Any]]:
        rows = self.api.rows("listVolumes", virtualmachineid=uuid, listall="true")
        return sorted(rows, key=lambda row: row["deviceid"])

    def instances(self) -> list[dict[str, Any]]:
        return self.api.rows("listVirtualMachines", listall="true")

    def all_volumes(self) -> list[dict[str, Any]]:
        return self.api.rows("listVolumes", listall="true")

    def clear(self) -> None:
        """Have no instance left, and so no machine that runs."""
        for row in self.instances():
            self.api.run("destroyVirtualMachine", id=row["id"], expunge="true")
        # It will not answer any more, and is not to be asked.
        self.site.control.catalog.clouds.edit(self.cloud.id, enabled=False)

    # --- our side

    def sync(self) -> None:
        look_at_cloud(self.site.estate, self.cloud.id)

    def back_up(self, uuid: str) -> dict[str, Any]:
        control = self.site.control
        request = JobRequest(
            JobKind.BACKUP, uuid, {"consistency": "crash"}, "tests",
            repository_id=control.repository_id,
        )  # fmt: skip
        ended = self._ended(request)
        assert ended.state is JobState.SUCCEEDED, ended.failure
        return dict(ended.result or {})

    def prune(self, uuid: str, keep: KeepRules) -> dict[str, Any]:
        """Have an instance's points judged, as after a backup by a policy; gives the result."""
        request = JobRequest(
            JobKind.PRUNE, uuid, {"machine": uuid, "keep": encode(keep)}, "tests",
            repository_id=self.site.control.repository_id,
        )  # fmt: skip
        ended = self._ended(request)
        assert ended.state is JobState.SUCCEEDED, ended.failure
        return dict(ended.result or {})

    def wanted(self, point: str, request: AscendRequest, continues: str = "") -> CloudRestore:
        return CloudRestore(
            self.site.control.repository_id, point, request, self.cloud.id, continues
        )

    def begin(self, uuid: str, wanted: CloudRestore) -> Job:
        control = self.site.control
        job = control.catalog.jobs.submit(self.request(uuid, wanted), clock.now())
        control.plane.jobs.wake()
        return job

    def request(self, uuid: str, wanted: CloudRestore) -> JobRequest:
        return JobRequest(
            JobKind.RESTORE, uuid, wanted.to_content(), "tests",
            repository_id=wanted.repository_id,
        )  # fmt: skip

    def restore(self, uuid: str, point: str, request: AscendRequest) -> dict[str, Any]:
        """Have a restore done; gives its result."""
        ended = self.site.control.end_of(self.begin(uuid, self.wanted(point, request)))
        assert ended.state is JobState.SUCCEEDED, ended.failure
        return dict(ended.result or {})

    def fail(self, uuid: str, point: str, request: AscendRequest) -> Job:
        ended = self.site.control.end_of(self.begin(uuid, self.wanted(point, request)))
        assert ended.state is JobState.FAILED
        assert ended.failure is not None
        return ended

    def facts(self, uuid: str) -> tuple[Any, ...]:
        """Give all that the jobs on an instance remembered."""
        jobs = self.site.control.catalog.jobs
        found = jobs.page(Paging(100), JobFilter(subject=uuid)).items
        return tuple(fact for job in found for fact in jobs.facts(job.id))

    def _ended(self, request: JobRequest) -> Job:
        control = self.site.control
        job = control.catalog.jobs.submit(request, clock.now())
        control.plane.jobs.wake()
        return control.end_of(job)

    # --- proving

    def freeze(self, uuid: str) -> dict[str, Path]:
        """Keep what the disks of an instance hold now; it is stopped for that."""
        self.api.run("stopVirtualMachine", id=uuid)
        return self.copies(uuid, "truth")

    def copies(self, uuid: str, name: str) -> dict[str, Path]:
        """Read the disks of an instance that is off, as CloudStack places them."""
        found = {}
        for row in self.volumes(uuid):
            volume = self.machines.volume(row["storageid"], row["path"])
            into = self.site.root / f"{name}-{row['deviceid']}.raw"
            command = ["qemu-img", "convert", "-O", "raw", str(volume.path), str(into)]
            subprocess.run(command, check=True)
            found[str(row["deviceid"])] = into
        return found

    def ensure_same(self, uuid: str, truth: dict[str, Path]) -> None:
        """Compare the disks of an instance that is off with what was kept."""
        mine = self.copies(uuid, "mine")
        assert mine.keys() == truth.keys()
        for device, path in mine.items():
            size = truth[device].stat().st_size
            with path.open("r+b") as file:
                rest = file.seek(0, 2) - size
                file.seek(size)
                assert not any(file.read(rest))
                file.truncate(size)
            assert filecmp.cmp(path, truth[device], shallow=False), device
            path.unlink()


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Give what an instance has to have again."""
    found = {
        key: row.get(key)
        for key in ("name", "displayname", "serviceofferingname", "account", "state", "userdata")
    }
    found["cards"] = [(nic["networkname"], nic["macaddress"]) for nic in row["nic"]]
    found["tags"] = {tag["key"]: tag["value"] for tag in row["tags"]}
    found["details"] = {key: row["details"][key] for key in DETAILS}
    return found


def lost(here: CloudHere) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Have an instance backed up and expunged; gives its id, its point, how it was, its disks."""
    vm = here.add(
        "shop", display_name="The shop", tags={"tier": "front"}, details=DETAILS,
        user_data=USER_DATA,
    )  # fmt: skip
    was = shown(here.row(vm.id))
    point = here.back_up(vm.id)["point"]
    truth = here.freeze(vm.id)
    here.simulator.expunge(vm)
    here.sync()
    return vm.id, point, was, truth
