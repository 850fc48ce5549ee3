"""The control plane, brought together: what starts, in which order, and what stops it.

::

    catalogue (migrated) -> gateway (keys of the enrolled agents) -> jobs -> watch -> API

The API comes last, so that whoever reaches it finds everything behind it; it goes first at the
end.  Jobs that run here when the server stops go on at another worker, or after the next start.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from sendense.catalog.catalog import Catalog, open_catalog
from sendense.catalog.master_key import find_keys
from sendense.errors import NotAllowed, Rejected
from sendense.fleet.gateway import Gateway
from sendense.fleet.gateway_config import AgentKey, GatewaySettings
from sendense.jobs.service import JobService
from sendense.jobs.settings import JobSettings, RetryRules
from sendense.jobs.worker import WorkerSettings
from sendense.model.admission import Limits
from sendense.model.enrolment import GatewayPlace
from sendense.model.fleet import Host
from sendense.server.cloud_watch import CloudWatch
from sendense.server.handlers import Handlers
from sendense.server.settings import ServerSettings, address_of
from sendense.server.tidying import Tidier
from sendense.server.watch import Watch
from sendense.settings import Settings
from sendense.workflows.managed.enrolling import Desk
from sendense.workflows.managed.estate import Estate, Ways

log = logging.getLogger(__name__)

MASTER_KEY = "master.key"
_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound


def open_estate(settings: ServerSettings, engine: Settings) -> Estate:
    """Open the catalogue, and know the ways to what it names; for servers and workers."""
    _private(settings.state_dir)
    keys = find_keys(settings.state_dir / MASTER_KEY, os.environ)
    catalog = open_catalog(settings.database_url, keys)
    ways = Ways(
        forward_address=settings.forward_address,
        certificates=settings.state_dir / "certificates",
        worker=socket.gethostname(),
    )
    return Estate(catalog, engine, ways)


def worker_settings(settings: ServerSettings, name: str | None = None) -> WorkerSettings:
    """Say how a worker of this machine runs jobs."""
    return WorkerSettings(
        name=name or socket.gethostname(),
        database_url=settings.database_url,
        state_folder=settings.state_dir,
        jobs=JobSettings(
            limits=Limits(
                settings.max_jobs, settings.max_jobs_per_host, settings.max_jobs_per_repository
            ),
            retry=RetryRules(
                attempts=settings.attempts, first=timedelta(seconds=settings.retry_pause_s)
            ),
            slots=settings.worker_jobs,
            # A worker lets go of its jobs well before others may take them.
            fence_s=settings.worker_lease_s / 2,
            lease_s=settings.worker_lease_s,
        ),
    )


class ControlPlane:
    """All of it but the API, in one process."""

    def __init__(self, settings: ServerSettings, engine: Settings) -> None:
        """Prepare; nothing is opened yet."""
        self.settings = settings
        self._engine = engine
        self._stack = ExitStack()
        self.gateway: Gateway | None = None
        self._letting_in = threading.Lock()

    def __enter__(self) -> Self:
        """Start; what was started is stopped where something after it fails."""
        with ExitStack() as stack:
            self.estate = open_estate(self.settings, self._engine)
            stack.callback(self.estate.close)
            if self.settings.gateway_enabled:
                self.gateway = self._started_gateway()
                stack.callback(self.gateway.stop)
            handlers = Handlers(self.estate) if self.settings.embedded_worker else None
            self.jobs = JobService(worker_settings(self.settings), self.catalog, handlers)
            self.jobs.start()
            stack.callback(self.jobs.stop)
            watch = Watch(self.estate, every_s=self.settings.heartbeat_s)
            watch.start()
            stack.callback(watch.stop)
            self.cloud_watch = CloudWatch(
                self.estate,
                whole_s=self.settings.cloud_whole_s,
                quick_s=self.settings.cloud_quick_s,
            )
            self.cloud_watch.start()
            stack.callback(self.cloud_watch.stop)
            tidier = Tidier(self.catalog)
            tidier.start()
            stack.callback(tidier.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, in the reverse order."""
        self._stack.close()

    @property
    def catalog(self) -> Catalog:
        """Give the catalogue."""
        return self.estate.catalog

    def let_in(self) -> None:
        """Have the gateway let in exactly the agents that are enrolled now.

        One caller at a time: a list that was read before a revocation must not be set after it.
        """
        if self.gateway is None:
            return
        with self._letting_in:
            self.gateway.set_keys(agent_keys(self.catalog.hosts.enrolled()))

    def desk(self) -> Desk:
        """Give what enrolling takes."""
        settings = self.settings
        _, listen_port = address_of(settings.gateway_listen)
        named = settings.gateway_address or f"{socket.getfqdn()}:{listen_port}"
        host, port = address_of(named) if ":" in named else (named, listen_port)
        if self.gateway is None:
            raise Rejected(
                "this server runs no gateway, so hosts are enrolled at the one that does",
                hint="gateway_enabled",
            )
        place = GatewayPlace(
            host, port, self.gateway.account, self.gateway.host_keys(), settings.forward_address
        )
        return Desk(place, settings.port_range(), settings.data_connections, self.let_in)

    def _started_gateway(self) -> Gateway:
        host, port = address_of(self.settings.gateway_listen)
        gateway = Gateway(
            GatewaySettings(
                folder=self.settings.state_dir / "gateway",
                port=port,
                addresses=() if host in _EVERYWHERE else (host,),
                forward_address=self.settings.forward_address,
            )
        )
        gateway.set_keys(agent_keys(self.catalog.hosts.enrolled()))
        gateway.start()
        log.info("agents dial the gateway on %s", self.settings.gateway_listen)
        return gateway


def agent_keys(hosts: tuple[Host, ...]) -> list[AgentKey]:
    """Give the keys of agents that may log in, and the ports that each may listen on."""
    return [
        AgentKey(host.id, host.public_key, host.control_port, host.data_ports)
        for host in hosts
        if host.public_key and host.control_port is not None
    ]


def _private(folder: Path) -> None:
    """Make the directory: what is in it is private, and the gateway's account passes through."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    except OSError as error:
        raise NotAllowed(
            f"the directory {folder} cannot be made: {error.strerror}",
            hint="run as the user whose it is, or set state_dir (SENDENSE_SERVER_STATE_DIR)",
        ) from error
