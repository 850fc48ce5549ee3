"""The API of the tests: a real server on a free port, and somebody of each role to ask it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import uvicorn

from sendense import clock
from sendense.api.app import create_app
from sendense.api.attempts import Attempts
from sendense.api.services import CatalogQueue, Services
from sendense.catalog.catalog import Catalog
from sendense.errors import NotFound, Rejected
from sendense.model.access import Grant, Role, User
from sendense.model.holdings import RepositoryEntry, entry_of
from sendense.model.secret import Secret
from sendense.repository.opening import Access, create_repository, open_repository
from sendense.repository.protocol import Repository, RepositoryInfo
from sendense_lab.ports import free_port
from tests.support.builders import a_machine
from tests.support.fleet import (
    NOW,
    a_heartbeat,
    a_host,
    a_point_entry,
    a_policy,
    a_repository_entry,
    a_request,
)
from tests.support.points import Write, data, disk, noise, store

T = TypeVar("T")
MINE, OTHER = "u1", "u2"
"""Instances: the tenant's, and somebody else's."""


@dataclass
class FolderDoor:
    """The way to real repositories, and only to those in one folder."""

    catalog: Catalog
    folder: Path

    def make(self, entry: RepositoryEntry) -> None:
        """Make one."""
        create_repository(self._inside(entry), access=self._access(entry)).close()

    def look(self, repository_id: str) -> RepositoryInfo:
        """Describe one."""
        repository = self._open(repository_id)
        try:
            return repository.info()
        finally:
            repository.close()

    def list_again(self, repository_id: str) -> int:
        """List its points."""
        repository = self._open(repository_id)
        try:
            holds = repository.holds()
            entries = [entry_of(point, repository_id, holds) for point in repository.points()]
        finally:
            repository.close()
        self.catalog.points.replace(repository_id, entries, listed_at=NOW)
        return len(entries)

    def use(self, repository_id: str, act: Callable[[Repository], T]) -> T:
        """Do something with one."""
        repository = self._open(repository_id)
        try:
            return act(repository)
        finally:
            repository.close()

    def _open(self, repository_id: str) -> Repository:
        entry = self.catalog.repositories.get(repository_id)
        return open_repository(self._inside(entry), self._access(entry))

    def _inside(self, entry: RepositoryEntry) -> str:
        place = urlsplit(entry.url)
        path = Path(place.path).resolve() if place.path.startswith("/") else None
        if place.scheme not in {"", "dedup", "qcow2"} or place.netloc or path is None:
            raise Rejected(f"the tests do not open {entry.url}")
        if not path.is_relative_to(self.folder):
            raise NotFound(f"the tests do not open {entry.url}")
        return entry.url

    def _access(self, entry: RepositoryEntry) -> Access:
        secrets = self.catalog.repositories.secrets(entry.id)
        return Access(
            secret=lambda _new: secrets.passphrase or Secret(b""),
            credentials=secrets.credentials or {},
        )


@dataclass
class ApiSite:
    """A server, and its catalogue."""

    url: str
    services: Services
    tokens: dict[Role, str] = field(default_factory=dict)
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def catalog(self) -> Catalog:
        """Give its catalogue."""
        return self.services.catalog

    def client(self, role: Role | None = Role.ADMIN, *, token: str | None = None) -> httpx.Client:
        """Give a client of a role, of a token, or of nobody."""
        text = token or (self.tokens[role] if role else None)
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        client = httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=120)
        self.clients.append(client)
        return client

    def close_clients(self) -> None:
        """Close the clients that were given so far."""
        while self.clients:
            self.clients.pop().close()

    def token(self, user: str, **options: object) -> str:
        """Make a token."""
        made = self.catalog.tokens.issue(user, "test", NOW, **options)  # type: ignore[arg-type]
        return made[1].reveal().decode()


@contextmanager
def api_site(catalog: Catalog, folder: Path, *, allowed: int = 10) -> Iterator[ApiSite]:
    """Serve a catalogue, with a user of each role."""
    services = Services(
        catalog, CatalogQueue(catalog), FolderDoor(catalog, folder), Attempts(allowed=allowed),
        hook_attempts=Attempts(allowed=allowed),
    )  # fmt: skip
    with serving_api(services) as url:
        site = ApiSite(url, services)
        for role in Role:
            grant = Grant(instances=(MINE,)) if role is Role.TENANT else Grant()
            catalog.users.add(User(role.value, role, NOW, grant=grant))
            site.tokens[role] = site.token(role.value)
        try:
            yield site
        finally:
            site.close_clients()


@contextmanager
def serving_api(services: Services) -> Iterator[str]:
    """Run the server in a thread; give its URL."""
    port = free_port()
    config = uvicorn.Config(
        create_app(services), host="127.0.0.1", port=port, log_config=None,
        timeout_graceful_shutdown=1, lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 120
        while not server.started:
            assert thread.is_alive(), f"the API did not get port {port}"
            assert time.monotonic() < end, "the API did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def fill(catalog: Catalog) -> None:
    """Put one of everything into a catalogue: two instances with a point and a job each."""
    catalog.repositories.add(a_repository_entry())
    catalog.repositories.add(a_repository_entry("unused"))
    catalog.hosts.add(a_host())
    catalog.hosts.heard("id-kvm1", a_heartbeat(), NOW)
    machines = [a_machine(uuid=uuid, name=f"vm-{uuid}") for uuid in (MINE, OTHER)]
    catalog.instances.see("id-kvm1", machines, NOW)
    # Of now, so that nothing has been due: both instances are protected.
    catalog.policies.add(replace(a_policy(), updated_at=clock.now()))
    for number, uuid in enumerate((MINE, OTHER), start=1):
        point = a_point_entry(number, machine_uuid=uuid, machine_name=f"vm-{uuid}")
        catalog.points.put([point], NOW)
        catalog.jobs.submit(a_request(subject=uuid), NOW, job_id=f"job-{uuid}")
    catalog.settings.put("mail.from", "sendense@example.net", NOW)


def vault_with_points(site: ApiSite, folder: Path, *points: str) -> str:
    """Have the server use a new repository with these points of one machine; gives its id."""
    url = f"qcow2:{folder}/vault"
    entry = site.catalog.repositories.add(replace(a_repository_entry("vault"), url=url))
    site.services.repositories.make(entry)

    def fill_it(repository: Repository) -> None:
        for point in points:
            store(repository, point, Write(disk(), 1 << 20, (data(0, noise(65536)),)))

    site.services.repositories.use(entry.id, fill_it)
    site.services.repositories.list_again(entry.id)
    return entry.id
