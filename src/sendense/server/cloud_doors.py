"""Asking clouds for the API: whether they answer, what their keys may, and what they send by it.

A look has clients of its own, with little patience: an operator waits for it, and a cloud that is
disabled may be looked at too.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from sendense.api.services import PREFIX
from sendense.cloudstack import permissions, webhook
from sendense.cloudstack.checkup import CloudReport, look
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.features import Features
from sendense.cloudstack.permissions import Missing, Permission
from sendense.cloudstack.transport import Limits
from sendense.errors import NotFound, Rejected, SendenseError, Unavailable, Unsupported
from sendense.model.cloud import Cloud
from sendense.model.cloud_check import (
    CloudCheck,
    CloudIdentity,
    MissingPermission,
    Purpose,
    PurposeCheck,
)
from sendense.model.cloud_login import CloudLogin
from sendense.model.secret import Secret
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.signing_in import who, who_by_password

_IMPATIENT: Final = Limits(silent_s=20.0, whole_s=60.0, patience_s=5.0)
_FEATURES: Final = {
    "deploy-from-volume": ("deployVirtualMachine", "volumeid"),
    "import-volume": ("importVolume", ""),
    "import-vm": ("importVm", ""),
    "events": ("listEvents", ""),
    "webhooks": ("createWebhook", ""),
}
"""What a version may have and another lacks: a command, and a parameter of it."""
_WORDS: Final = Secret(b"-")


class CloudDoors:
    """Asks clouds with the keys of the catalogue, and takes what they send."""

    def __init__(self, estate: Estate, look_soon: Callable[[str, str], None]) -> None:
        """Ask those of an estate; ``look_soon`` takes a cloud and what an event of it named."""
        self._estate = estate
        self._look_soon = look_soon

    def place(self, endpoint: str, ca_pem: str) -> str:
        """Check where a cloud is to be asked, without asking; gives the endpoint as it is kept."""
        client = CloudClient(endpoint, "-", _WORDS, ca_pem=ca_pem)
        client.close()
        return client.endpoint

    def check(self, cloud_id: str) -> CloudCheck:
        """Ask a cloud how it is, and what its keys may."""
        cloud = self._estate.catalog.clouds.get(cloud_id)
        with self._clients(cloud) as (reading, restoring):
            failure = _tried(restoring)
            try:
                report = look(reading, restoring if failure is None else None)
            except SendenseError as error:
                return _away(error, reading)
            can = reading.features()
            changing = can if restoring is None or failure is not None else restoring.features()
            return _checked(report, cloud, _features(can, changing), failure)

    def role(self, name: str, *, restore: bool, webhooks: bool, cloud_id: str | None = None) -> str:
        """Give the commands of CloudMonkey that make a role; for one cloud, or for any."""
        wanted = [
            *permissions.READ,
            *(permissions.RESTORE if restore else ()),
            *(permissions.WEBHOOKS if webhooks else ()),
        ]
        if cloud_id is not None:
            features = self._estate.cloud(cloud_id).features()
            wanted = _known_to(features, wanted)
        return permissions.cloudmonkey_role(name, wanted)

    def webhook(self, cloud_id: str, url: str | None) -> None:
        """Have a cloud send its events to this server; without a URL no longer."""
        clouds = self._estate.catalog.clouds
        client, before = self._estate.cloud(cloud_id), clouds.keys(cloud_id)
        known = self._webhooks(client, cloud_id)
        if url is None:
            for each in known:
                client.call("deleteWebhook", id=each["id"])
            clouds.set_keys(cloud_id, replace(before, webhook_secret=None))
            return
        secret = Secret(secrets.token_urlsafe(32).encode())
        # First ours: an event that is signed with the new one may come at once.
        clouds.set_keys(cloud_id, replace(before, webhook_secret=secret))
        try:
            _register(client, cloud_id, known, _payload_url(url, cloud_id), secret)
        except BaseException:
            clouds.set_keys(cloud_id, before)
            raise

    def hint(self, cloud_id: str, body: bytes, headers: Mapping[str, str]) -> bool:
        """Take an event that was sent; tells whether it was signed as this cloud signs."""
        try:
            secret = self._estate.catalog.clouds.keys(cloud_id).webhook_secret
        except NotFound:
            return False
        signature = headers.get(webhook.SIGNATURE.lower(), "")
        if secret is None or not webhook.check_signature(body, signature, secret):
            return False
        instances: tuple[str, ...] = ()
        with suppress(Rejected):
            # One that cannot be read is a reason to look all the same.
            instances = webhook.parse(body, headers).instance_ids
        for instance in instances or ("",):
            self._look_soon(cloud_id, instance)
        return True

    def who(self, cloud_id: str, api_key: str, secret: Secret) -> CloudIdentity:
        """Ask a cloud whose keys these are; they are used this once."""
        return who(self._estate.catalog, cloud_id, api_key, secret)

    def who_by_password(self, cloud_id: str, login: CloudLogin) -> CloudIdentity:
        """Ask a cloud who this is, in a session that begins and ends with it."""
        return who_by_password(self._estate.catalog, cloud_id, login)

    def _webhooks(self, client: CloudClient, cloud_id: str) -> list[dict[str, Any]]:
        """Give the webhooks that we made in a cloud, told by their name."""
        if not client.features(again=True).has("createWebhook"):
            raise Unsupported(
                f"the cloud {client.name} has no webhooks for this key",
                hint="CloudStack has them from 4.20 on; the role needs what 'sendense cloud role "
                "--webhooks' prints. Without them changes are found each minute",
            )
        name = _name(cloud_id)
        pages = client.every("listWebhooks", "webhook", name=name)
        return [row for page in pages for row in page if row.get("name") == name]

    @contextmanager
    def _clients(self, cloud: Cloud) -> Iterator[tuple[CloudClient, CloudClient | None]]:
        keys = self._estate.catalog.clouds.keys(cloud.id)

        def client(api_key: str, secret: Secret) -> CloudClient:
            return CloudClient(
                cloud.endpoint, api_key, secret, name=cloud.name, ca_pem=cloud.ca_pem,
                limits=_IMPATIENT,
            )  # fmt: skip

        reading, restoring = client(keys.api_key, keys.secret), None
        try:
            if keys.restore_api_key is not None and keys.restore_secret is not None:
                restoring = client(keys.restore_api_key, keys.restore_secret)
            yield reading, restoring
        finally:
            reading.close()
            if restoring is not None:
                restoring.close()


def _tried(restoring: CloudClient | None) -> SendenseError | None:
    """Try the key for restores by itself, so that its failure is not taken for the cloud's."""
    if restoring is None:
        return None
    try:
        restoring.features()
    except SendenseError as error:
        return error
    return None


def _away(error: SendenseError, client: CloudClient) -> CloudCheck:
    return CloudCheck(
        reachable=not isinstance(error, Unavailable),
        failure=error.message,
        hint=error.hint or "",
        skew_s=round(client.skew_s, 1),
        warnings=client.warnings,
    )


def _checked(
    report: CloudReport, cloud: Cloud, features: Mapping[str, bool], failure: SendenseError | None
) -> CloudCheck:
    failed = "" if failure is None else failure.message
    restore = report.missing_restore if failure is None else ()
    return CloudCheck(
        reachable=True,
        version=report.version,
        skew_s=round(report.skew_s, 1),
        admin=report.admin,
        features=features,
        purposes=(
            PurposeCheck(Purpose.READ, own_key=True, missing=_missing(report.missing)),
            PurposeCheck(Purpose.RESTORE, cloud.has_restore_key, _missing(restore), failed),
            PurposeCheck(
                Purpose.WEBHOOKS,
                own_key=False,
                missing=_webhooks_lack(report, cloud),
                wanted=cloud.has_webhook,
            ),
        ),
        beyond=report.beyond,
        warnings=report.warnings,
    )


def _webhooks_lack(report: CloudReport, cloud: Cloud) -> tuple[MissingPermission, ...]:
    """Give what webhooks lack: nothing that is needed, as long as none is set."""
    found = _missing(report.missing_webhooks)
    return found if cloud.has_webhook else tuple(replace(each, optional=True) for each in found)


def _missing(found: tuple[Missing, ...]) -> tuple[MissingPermission, ...]:
    return tuple(
        MissingPermission(
            each.permission.api, each.permission.why, each.permission.optional, each.known_since
        )
        for each in found
    )


def _features(reading: Features, changing: Features) -> dict[str, bool]:
    return {
        word: any(
            each.takes(api, param) if param else each.has(api) for each in (reading, changing)
        )
        for word, (api, param) in _FEATURES.items()
    }


def _known_to(features: Features, wanted: list[Permission]) -> list[Permission]:
    """Leave out what came later than a version; what a key lacks, its role is made for."""
    later = {
        each.permission.api
        for each in permissions.missing(features, wanted)
        if each.known_since and _parts(features.version) < _parts(each.known_since)
    }
    return [each for each in wanted if each.api not in later]


def _parts(version: str) -> tuple[int, ...]:
    """Give a version for a comparison; one that cannot be read is newer than all."""
    try:
        return tuple(int(part) for part in version.split(".")[:3])
    except ValueError:
        return (1_000_000,)


def _name(cloud_id: str) -> str:
    return f"sendense-{cloud_id}"


def _payload_url(url: str, cloud_id: str) -> str:
    if not url.lower().startswith(("https://", "http://")):
        raise Rejected(f"{url} is no address of this server", hint="https://HOST[:PORT]")
    return f"{url.rstrip('/')}{PREFIX}/hooks/cloudstack/{cloud_id}"


def _register(
    client: CloudClient, cloud_id: str, known: list[dict[str, Any]], url: str, secret: Secret
) -> None:
    said = {
        "payloadurl": url,
        "secretkey": secret.reveal().decode(),
        "sslverification": url.lower().startswith("https://"),
        "state": "Enabled",
    }
    if not known:
        client.call("createWebhook", name=_name(cloud_id), scope="Global", **said)
        return
    client.call("updateWebhook", id=known[0]["id"], **said)
    for more in known[1:]:
        client.call("deleteWebhook", id=more["id"])
