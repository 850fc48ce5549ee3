"""A control plane with one host of the lab, whose agent is a process that dials its gateway."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.catalog.repositories import RepositorySecrets
from sendense.model.agent_status import AgentFacts
from sendense.model.fleet import Host, Transport
from sendense.model.holdings import RepositoryEntry
from sendense.model.identity import new_id
from sendense.model.job import FINAL_STATES, Job, JobKind, JobRequest, JobState
from sendense.server.control_plane import ControlPlane
from sendense.server.settings import ServerSettings
from sendense.settings import Settings
from sendense_lab.lab import Lab
from sendense_lab.ports import free_port
from tests.support.dedup import PASSPHRASE
from tests.vm.agent_site import AGENT, AgentSite

T = TypeVar("T")


class Cloud:
    """A control plane with one host and one repository."""

    def __init__(self, plane: ControlPlane, agent: AgentSite) -> None:
        self.plane = plane
        self.agent = agent
        self.repository_id = ""

    @property
    def catalog(self) -> Catalog:
        return self.plane.catalog

    def enrol(self) -> None:
        """Enrol the host by hand, as a deployment does."""
        key = self.agent.folder / "tunnel.key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.catalog.hosts.add(
            Host(AGENT, "kvm1", "127.0.0.1", Transport.SSH, created_at=clock.now())
        )
        settings = self.plane.settings
        host = self.catalog.hosts.assign_ports(AGENT, settings.port_range(), 2)
        self.catalog.hosts.enrol(
            AGENT,
            public_key=key.with_suffix(".key.pub").read_text(),
            ticket_secret=self.agent.secret,
            at=clock.now(),
        )
        self.plane.let_in()
        gateway = self.plane.gateway
        assert gateway is not None
        keys = ", ".join(f'"{text}"' for text in gateway.host_keys())
        self.agent.configure(
            gateway=f"{{host: 127.0.0.1, port: {gateway.settings.port}, user: {gateway.account}, "
            f"host_keys: [{keys}], key_file: {key}, api_port: {host.control_port}, "
            f"gate_ports: [{', '.join(map(str, host.data_ports))}]}}"
        )

    def facts(self) -> AgentFacts:
        """Give what the agent said last of itself."""
        heartbeat = self.catalog.hosts.get(AGENT).heartbeat
        assert heartbeat is not None
        return heartbeat.facts

    def add_repository(self, folder: Path) -> None:
        entry = RepositoryEntry(new_id(clock.now()), "main", f"dedup:{folder}", clock.now())
        self.catalog.repositories.add(entry, RepositorySecrets(passphrase=PASSPHRASE))
        self.plane.estate.create(entry)
        self.repository_id = entry.id

    def wait_for(self, what: Callable[[], T | None], within_s: float = 150.0) -> T:
        deadline = time.monotonic() + within_s
        while not (found := what()):
            assert time.monotonic() < deadline, self.agent.log()
            time.sleep(0.1)
        return found

    def submit(self, kind: JobKind, subject: str, **content) -> Job:
        request = JobRequest(
            kind, subject, content, "tests", host_id=AGENT, repository_id=self.repository_id
        )
        job = self.catalog.jobs.submit(request, clock.now())
        self.plane.jobs.wake()
        return job

    def end_of(self, job: Job, within_s: float = 240.0) -> Job:
        def ended() -> Job | None:
            now = self.catalog.jobs.get(job.id)
            return now if now.state in FINAL_STATES else None

        return self.wait_for(ended, within_s)

    def succeed(self, kind: JobKind, subject: str, **content):
        job = self.end_of(self.submit(kind, subject, **content))
        assert job.state is JobState.SUCCEEDED, job.failure
        return job.result


@contextmanager
def control_plane(lab: Lab, **changes: Any) -> Iterator[Cloud]:
    """Have a control plane, a host with an agent, and a repository."""
    agent = AgentSite(lab, lab.add_hypervisor())
    first = free_port()
    settings = ServerSettings(
        state_dir=lab.root / "server",
        gateway_listen=f"127.0.0.1:{free_port()}",
        forward_ports=f"{first}-{first + 20}",
        heartbeat_s=0.5,
        **changes,
    )
    with ControlPlane(settings, Settings(cache_dir=lab.root / "cache")) as plane:
        cloud = Cloud(plane, agent)
        cloud.enrol()
        cloud.add_repository(lab.root / "repository")
        agent.start(program="sendense.agent")
        try:
            yield cloud
        finally:
            agent.stop()
