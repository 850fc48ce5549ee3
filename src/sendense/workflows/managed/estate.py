"""What managed work reaches: agents, clouds and repositories that the catalogue names.

Here names become connections.  Secrets are asked of the catalogue when they are needed, and live
as long as what was opened with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sendense.catalog.catalog import Catalog
from sendense.cloudstack.client import CloudClient
from sendense.errors import NotFound, Rejected
from sendense.fleet.address import AgentAddress
from sendense.fleet.agent_client import AgentClient
from sendense.fleet.certificates import worker_certificates
from sendense.model.fleet import Host, Instance, Transport
from sendense.model.holdings import RepositoryEntry
from sendense.model.secret import Secret
from sendense.repository.opening import Access, create_repository, open_repository
from sendense.repository.protocol import Repository
from sendense.settings import Settings
from sendense.storage.options import StoreOptions
from sendense.workflows.managed.clouds import CloudClients


@dataclass(frozen=True)
class Ways:
    """How agents are reached from where we run."""

    forward_address: str = "127.0.0.1"
    """Where the gateway's ends of the tunnels listen."""
    agent_socket: str = "/run/sendense/agent.sock"
    """Of an agent on our own host (transport ``local``)."""
    certificates: Path | None = None
    """Directory for our certificates, for the transport ``tls``."""
    worker: str = "worker"
    """Whom they name."""


@dataclass(frozen=True)
class Estate:
    """The catalogue, and the way to all that it names."""

    catalog: Catalog
    engine: Settings
    """How points are read and stored."""
    ways: Ways = Ways()
    clouds: CloudClients = field(default_factory=CloudClients)

    def cloud(self, cloud_id: str, *, restore: bool = False) -> CloudClient:
        """Give the client of a cloud; with ``restore`` the one that may change something."""
        return self.clouds.client(self.catalog.clouds, cloud_id, restore=restore)

    def close(self) -> None:
        """Close the catalogue and the connections to clouds."""
        self.clouds.close()
        self.catalog.close()

    @contextmanager
    def agent(self, host_id: str) -> Iterator[AgentClient]:
        """Give the agent of a host."""
        host = self.catalog.hosts.get(host_id)
        with AgentClient(self.address(host)) as client:
            yield client

    def address(self, host: Host) -> AgentAddress:
        """Say how the agent of a host is reached."""
        if host.enrolled_at is None or host.revoked_at is not None:
            raise Rejected(
                f"host {host.name} is not enrolled",
                hint=f"deploy its agent: sendense host deploy {host.name}",
            )
        ways = self.ways
        secret = self.catalog.hosts.ticket_secret(host.id)
        if host.transport is Transport.LOCAL:
            return AgentAddress(host.id, host.name, secret, socket=ways.agent_socket)
        if host.control_port is None:
            raise Rejected(f"host {host.name} has no port at the gateway")
        end = ways.forward_address
        direct = host.transport is Transport.TLS
        return AgentAddress(
            id=host.id,
            name=host.name,
            secret=secret,
            control=(end, host.control_port),
            data=tuple((end, port) for port in host.data_ports),
            direct=host.address if direct else None,
            certificates=self._certificates() if direct else None,
        )

    def _certificates(self) -> str | None:
        """Give the directory with our certificates, renewed where that is due."""
        folder = self.ways.certificates
        if folder is None:
            return None
        return str(worker_certificates(self.catalog.secrets, self.ways.worker, folder))

    def place_of(self, instance: Instance) -> str:
        """Give the id of the host where an instance is now."""
        if instance.host_id is None or instance.gone_at is not None:
            raise NotFound(
                f"no host shows the instance {instance.name} now",
                hint="start it, or look at its host: sendense host check",
            )
        return instance.host_id

    @contextmanager
    def repository(self, repository_id: str) -> Iterator[Repository]:
        """Open a repository."""
        entry = self.catalog.repositories.get(repository_id)
        repository = open_repository(entry.url, self._access(entry))
        try:
            yield repository
        finally:
            repository.close()

    def create(self, entry: RepositoryEntry) -> None:
        """Make the repository that an entry names, in its empty place."""
        create_repository(entry.url, access=self._access(entry)).close()

    def _access(self, entry: RepositoryEntry) -> Access:
        secrets = self.catalog.repositories.secrets(entry.id)

        def passphrase(_new: bool) -> Secret:
            if secrets.passphrase is None:
                raise Rejected(
                    f"no passphrase is known for the repository {entry.name}",
                    hint=f"give it: sendense repository edit {entry.name} --passphrase-file FILE",
                )
            return secrets.passphrase

        return Access(
            secret=passphrase,
            cache=self.engine.cache(),
            credentials=secrets.credentials or {},
            store=StoreOptions(),
        )
