"""A look at a cloud before it is trusted: what its keys can do, and what is odd about it.

Everything is asked at once and nothing stops at the first problem, so that an operator mends all
of it in one go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from sendense import clock
from sendense.cloudstack import permissions
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.features import Features
from sendense.cloudstack.permissions import Missing, Permission

INTEGRATION_PORT: Final = 8096
_PORT_S: Final = 3.0
_ENOUGH: Final = 1000
"""Bytes of an answer that tell whose it is."""
OLDEST: Final = (4, 18)


@dataclass(frozen=True)
class CloudReport:
    """What a look at a cloud showed."""

    version: str
    admin: bool
    """Its answers tell where instances run and where volumes lie."""
    skew_s: float
    missing: tuple[Missing, ...] = ()
    """What discovery and backups lack."""
    missing_restore: tuple[Missing, ...] = ()
    """What restores lack."""
    missing_webhooks: tuple[Missing, ...] = ()
    beyond: tuple[str, ...] = ()
    """Commands that the keys may use and need not."""
    warnings: tuple[str, ...] = ()

    @property
    def good_to_read(self) -> bool:
        """Tell whether discovery and backups have all that they need."""
        return self.admin and not any(not one.permission.optional for one in self.missing)

    @property
    def good_to_restore(self) -> bool:
        """Tell whether restores have all that they need."""
        return not any(not one.permission.optional for one in self.missing_restore)


def look(client: CloudClient, restore: CloudClient | None = None) -> CloudReport:
    """Look at a cloud; ``restore`` has the second key, where there is one."""
    features = client.features(again=True)
    changing = features if restore is None else restore.features(again=True)
    # A second key reads what its restores wait for, too.
    wanted = [*permissions.RESTORE, *([] if restore is None else _JOBS)]
    return CloudReport(
        version=features.version,
        admin=features.admin,
        skew_s=client.skew_s,
        missing=permissions.missing(features, permissions.READ),
        missing_restore=permissions.missing(changing, wanted),
        missing_webhooks=permissions.missing(features, permissions.WEBHOOKS),
        beyond=_beyond(features, None if restore is None else changing),
        warnings=(*client.warnings, *_oddities(client, features)),
    )


_JOBS: Final = tuple(
    one
    for one in permissions.READ
    if one.api in {"listApis", "listCapabilities", "queryAsyncJobResult", "listVirtualMachines",
                   "listVolumes"}
)  # fmt: skip


def _beyond(reading: Features, changing: Features | None) -> tuple[str, ...]:
    everything = (*permissions.READ, *permissions.RESTORE, *permissions.WEBHOOKS)
    if changing is None:
        return permissions.too_many(reading, everything)
    narrow: Iterable[Permission] = (*permissions.READ, *permissions.WEBHOOKS)
    found = {*permissions.too_many(reading, narrow), *permissions.too_many(changing, everything)}
    return tuple(sorted(found))


def _oddities(client: CloudClient, features: Features) -> list[str]:
    found = []
    if not features.admin:
        found.append(
            "the account is not of type Admin, or may not list hosts and pools: instances are "
            "shown without their hosts, so they cannot be backed up with this key"
        )
    if too_old(features.version):
        found.append(
            f"CloudStack {features.version} is older than 4.18, with which nothing was tried"
        )
    host = urlsplit(client.endpoint).hostname or ""
    if has_open_integration_port(host):
        found.append(
            f"port {INTEGRATION_PORT} of {host} lets anybody in as administrator without a key: "
            "set integration.api.port to 0, or close it to all but the management servers"
        )
    return found


def too_old(version: str) -> bool:
    """Tell a version that is older than any that was tried; one that cannot be read is not."""
    try:
        parts = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        return False
    return parts < OLDEST


def has_open_integration_port(host: str, port: int = INTEGRATION_PORT) -> bool:
    """Tell whether a cloud answers whoever asks, without a key."""
    where = f"[{host}]" if ":" in host else host
    address = f"http://{where}:{port}/client/api?command=listCapabilities&response=json"
    start, end = b"", clock.monotonic() + _PORT_S
    try:
        # Whatever answers there is a stranger: no more is read than is needed.
        with httpx.stream(
            "GET", address, headers={"Accept-Encoding": "identity"}, timeout=_PORT_S,
            trust_env=False, follow_redirects=False,
        ) as found:  # fmt: skip
            if found.status_code != 200:
                return False
            for piece in found.iter_raw():
                start += piece
                if len(start) >= _ENOUGH or clock.monotonic() > end:
                    break
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return b"listcapabilitiesresponse" in start
