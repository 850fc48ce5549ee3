"""A control plane whose gateway listens on the bridge of a cluster, and the hosts it deploys to."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.catalog.repositories import RepositorySecrets
from sendense.fleet.deploy import Deployed
from sendense.fleet.deploy_plan import AgentConfig
from sendense.fleet.preflight import Preflight, examine
from sendense.fleet.ssh import Access, RemoteHand
from sendense.model.fleet import Host, Transport
from sendense.model.holdings import RepositoryEntry
from sendense.model.identity import new_id
from sendense.model.job import FINAL_STATES, Job, JobKind, JobRequest, JobState
from sendense.server.control_plane import ControlPlane
from sendense.server.settings import ServerSettings
from sendense.settings import Settings
from sendense.workflows.managed.deploying import CatalogSide, deploy_host
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.cluster.host import ClusterHost
from sendense_lab.ports import free_port
from tests.support.dedup import PASSPHRASE

T = TypeVar("T")


class FleetSite:
    """What a test does with a control plane and its hosts."""

    def __init__(self, cluster: Cluster, plane: ControlPlane) -> None:
        self.cluster = cluster
        self.plane = plane
        self.desk = plane.desk()
        self.side = CatalogSide(plane.estate, self.desk)
        self.repository_id = ""
        self.more_pools: tuple[str, ...] = ()
        """Folders that agents may use beside that of the cluster's pool."""

    @classmethod
    @contextmanager
    def on(
        cls, cluster: Cluster, name: str = "server", *, attempts: int = 3
    ) -> Iterator[FleetSite]:
        """Have a control plane whose gateway the hosts of a cluster can reach."""
        first = free_port()
        address = cluster.bridge.address
        listen = f"{address}:{free_port(address)}"
        settings = ServerSettings(
            state_dir=cluster.root / name,
            gateway_listen=listen,
            gateway_address=listen,
            forward_ports=f"{first}-{first + 40}",
            data_connections=2,
            heartbeat_s=0.5,
            attempts=attempts,
        )
        engine = Settings(cache_dir=cluster.root / f"{name}-cache")
        with ControlPlane(settings, engine) as plane:
            yield cls(cluster, plane)

    @property
    def catalog(self) -> Catalog:
        return self.plane.catalog

    def access(self, host: ClusterHost, **changes) -> Access:
        """How an operator reaches a host."""
        root = self.cluster.root
        usual = Access(
            host.address, key_file=self.cluster.key, known_hosts=root / "known_hosts"
        )  # fmt: skip
        return replace(usual, **changes)

    @staticmethod
    def look(cluster: Cluster, host: ClusterHost) -> Preflight:
        """Look at a host, without a control plane."""
        access = Access(
            host.address, key_file=cluster.key, known_hosts=cluster.root / "known_hosts"
        )
        with RemoteHand(access) as hand:
            return examine(hand)

    def add(self, host: ClusterHost, transport: Transport = Transport.SSH) -> None:
        """Tell the control plane of a host."""
        self.catalog.hosts.add(
            Host(host.name, host.name, host.address, transport, created_at=clock.now())
        )

    def config(self, host: ClusterHost, **more) -> AgentConfig:
        settings = {"scratch_reserve": "1M", **more}
        pools = (str(self.cluster.pool.folder), *self.more_pools)
        return AgentConfig(host.name, pools=pools, more=settings)

    def deploy(self, host: ClusterHost, **more) -> Deployed:
        return deploy_host(self.access(host), self.config(host, **more), self.side, self.desk)

    def clear(self, host: ClusterHost) -> None:
        """Have a host as it was before anything came to it."""
        with RemoteHand(self.access(host)) as hand:
            hand.ask("remove", state=True)
        self.catalog.hosts.revoke(host.name, clock.now())
        self.plane.let_in()

    def add_repository(self, folder: Path) -> None:
        entry = RepositoryEntry(new_id(clock.now()), "main", f"dedup:{folder}", clock.now())
        self.catalog.repositories.add(entry, RepositorySecrets(passphrase=PASSPHRASE))
        self.plane.estate.create(entry)
        self.repository_id = entry.id

    def see(self, vm: CloudVm, host: ClusterHost) -> None:
        """Wait until the control plane knows where a machine runs."""

        def seen() -> bool:
            known = {item.uuid for item in self.catalog.instances.names()}
            if vm.uuid not in known:
                return False
            return self.catalog.instances.get(vm.uuid).host_id == host.name

        self.wait_for(seen)

    def captures_on(self, host: ClusterHost) -> bool:
        """Tell whether an agent works on something."""
        beat = self.side.heartbeat(host.name)
        return beat is not None and bool(beat.running)

    def read_disk(self, point: str, target: str, into: Path) -> Path:
        """Write what a point holds of a disk to a raw file."""
        with (
            self.plane.estate.repository(self.repository_id) as repository,
            repository.open(point) as reader,
            into.open("wb") as file,
        ):
            images = {image.disk.target: image for image in reader.point.disks}
            disk = reader.disk(images[target].disk.identity)
            file.truncate(disk.image.size)
            for chunk in disk.chunks():
                if chunk.data is not None:
                    file.seek(chunk.offset)
                    file.write(chunk.data)
        return into

    def begin(self, kind: JobKind, subject: str, host: str, **content) -> Job:
        """Have a job begin."""
        request = JobRequest(
            kind, subject, content, "tests", host_id=host, repository_id=self.repository_id
        )
        job = self.catalog.jobs.submit(request, clock.now())
        self.plane.jobs.wake()
        return job

    def end_of(self, job: Job, *, within_s: float = 300) -> Job:
        """Wait for the end of a job, whatever it is."""

        def ended() -> Job | None:
            now = self.catalog.jobs.get(job.id)
            return now if now.state in FINAL_STATES else None

        return self.wait_for(ended, within_s=within_s)

    def succeed(self, kind: JobKind, subject: str, host: str, **content):
        """Have a job done on a host; gives its result."""
        found = self.end_of(self.begin(kind, subject, host, **content))
        assert found.state is JobState.SUCCEEDED, found.failure
        return found.result

    def wait_for(self, what: Callable[[], T | None], within_s: float = 150.0) -> T:
        deadline = time.monotonic() + within_s
        while not (found := what()):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return found


def traces_on(host: ClusterHost) -> str:
    """What of ours is on a host."""
    places = ["/opt/sendense", "/etc/sendense", "/var/lib/sendense", "/run/sendense"]
    places += ["/var/lib/libvirt/qemu/sendense", "/etc/systemd/system/sendense-capture.service"]
    argv = host.command(["find", *places, "-maxdepth", "0"])
    return subprocess.run(argv, check=False, capture_output=True, text=True).stdout
