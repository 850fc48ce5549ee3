"""Asking every agent how it is, and taking over what runs on its host.

The inventory is what the agents' libvirt shows.  Events are hints that it changed: an agent whose
events tell of something new is asked for its machines at once, the others every few minutes.  One
agent that does not answer keeps nobody waiting but a thread of the pool.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sendense import clock
from sendense.errors import SendenseError
from sendense.fleet.agent_client import AgentClient
from sendense.model.agent_status import Heartbeat
from sendense.model.fleet import Host
from sendense.workflows.managed.estate import Estate

log = logging.getLogger(__name__)

_THREADS = 16
_INVENTORY_S = 300.0
"""How old an inventory may be where no event told of a change."""


@dataclass
class _Known:
    """What is remembered of an agent between two looks."""

    client: AgentClient | None = None
    secret_of: str = ""
    last_event: int = -1
    boot: str = ""
    listed_at: float = float("-inf")
    silent: bool = False


class Watch:
    """Looks at all agents, again and again, until it is stopped."""

    def __init__(self, estate: Estate, *, every_s: float) -> None:
        """Look at the agents of an estate about every so many seconds."""
        self._estate = estate
        self._every_s = every_s
        self._known: dict[str, _Known] = {}
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="watch")
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look that is under way is waited for."""
        self._stop.set()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for known in self._known.values():
            if known.client is not None:
                known.client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = clock.monotonic()
            try:
                self.look()
            except SendenseError as error:
                log.warning("the hosts cannot be listed: %s", error)
            self._stop.wait(max(0.5, self._every_s - (clock.monotonic() - began)))

    def look(self) -> Mapping[str, bool]:
        """Look at all agents once; tells which of them answered."""
        hosts = self._estate.catalog.hosts.enrolled()
        for gone in self._known.keys() - {host.id for host in hosts}:
            self._forget(gone)
        answered = self._pool.map(self._look_at, hosts)
        return {host.id: found for host, found in zip(hosts, answered, strict=True)}

    def _look_at(self, host: Host) -> bool:
        known = self._known.setdefault(host.id, _Known())
        if self._stop.is_set():
            return False
        try:
            client = self._client(host, known)
            heartbeat = client.heartbeat()
            self._estate.catalog.hosts.heard(host.id, heartbeat, clock.now())
            if self._is_due(known, heartbeat):
                at = clock.now()
                seen = self._estate.catalog.instances.see(host.id, client.machines(), at)
                known.listed_at = clock.monotonic()
                known.boot, known.last_event = heartbeat.facts.boot_id, heartbeat.last_event
                if seen.new or seen.moved or seen.gone:
                    log.info(
                        "host %s: %d new, %d moved here, %d gone",
                        host.name, len(seen.new), len(seen.moved), len(seen.gone),
                    )  # fmt: skip
        except SendenseError as error:
            if not known.silent:
                log.warning("host %s: %s", host.name, error)
            known.silent = True
            return False
        if known.silent:
            log.info("host %s answers again", host.name)
        known.silent = False
        return True

    def _client(self, host: Host, known: _Known) -> AgentClient:
        """Keep the connection; a host that was enrolled again has another secret and place."""
        stamp = f"{host.enrolled_at}{host.control_port}{host.transport.value}"
        if known.client is None or known.secret_of != stamp:
            if known.client is not None:
                known.client.close()
            known.client = AgentClient(self._estate.address(host))
            known.secret_of = stamp
        return known.client

    def _forget(self, host_id: str) -> None:
        known = self._known.pop(host_id)
        if known.client is not None:
            known.client.close()

    @staticmethod
    def _is_due(known: _Known, heartbeat: Heartbeat) -> bool:
        changed = (known.boot, known.last_event) != (
            heartbeat.facts.boot_id,
            heartbeat.last_event,
        )
        return changed or clock.monotonic() - known.listed_at >= _INVENTORY_S
