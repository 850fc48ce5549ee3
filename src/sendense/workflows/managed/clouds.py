"""Clients of the clouds that the catalogue names, kept while their keys stay the same.

A client holds what took requests to learn (the cloud's clock, its features, how fast it may be
asked), so all threads of a process share one for each cloud and key.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from sendense.catalog.clouds import Clouds
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.transport import Limits
from sendense.errors import Conflict
from sendense.model.cloud import CloudKeys
from sendense.model.secret import Secret
from sendense.workflows.managed.cloud_jobs import CloudJobs


@dataclass(frozen=True)
class _Kept:
    client: CloudClient
    cloud: tuple[str, str, str]
    secret: bytes


class CloudClients:
    """Makes clients, and keeps them; for many threads."""

    def __init__(self, limits: Limits | None = None) -> None:
        """Connect to nothing yet; ``limits`` are for all clouds."""
        self.jobs = CloudJobs()
        """What clouds work on, asked once for all."""
        self._limits = limits
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, bool], _Kept] = {}
        self._replaced: list[CloudClient] = []

    def client(self, clouds: Clouds, cloud_id: str, *, restore: bool = False) -> CloudClient:
        """Give the client of a cloud; with ``restore`` the one that may change something."""
        cloud, keys = clouds.get(cloud_id), clouds.keys(cloud_id)
        if not cloud.enabled:
            raise Conflict(
                f"the cloud {cloud.name} is disabled",
                hint=f"sendense cloud edit {cloud.name} --enable",
            )
        api_key, secret = _pair(keys, restore=restore)
        same = (cloud.endpoint, cloud.ca_pem, api_key)
        place = (cloud_id, restore)
        with self._lock:
            kept = self._kept.get(place)
            if kept is not None and kept.cloud == same and kept.secret == secret.reveal():
                return kept.client
            client = CloudClient(
                cloud.endpoint,
                api_key,
                secret,
                name=cloud.name,
                ca_pem=cloud.ca_pem,
                limits=self._limits,
            )
            if kept is not None:
                # Closed with all others: another thread may be in the middle of a request.
                self._replaced.append(kept.client)
            self._kept[place] = _Kept(client, same, secret.reveal())
            return client

    def close(self) -> None:
        """Close all."""
        with self._lock:
            for client in (*self._replaced, *(kept.client for kept in self._kept.values())):
                client.close()
            self._replaced.clear()
            self._kept.clear()


def _pair(keys: CloudKeys, *, restore: bool) -> tuple[str, Secret]:
    if restore and keys.restore_api_key is not None and keys.restore_secret is not None:
        return keys.restore_api_key, keys.restore_secret
    return keys.api_key, keys.secret
