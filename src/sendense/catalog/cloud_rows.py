"""What clouds have as rows: columns that are searched, the whole value, and its secrets sealed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from sendense.catalog.sealing import MasterKeys, Place
from sendense.errors import Damaged
from sendense.model.cloud import CloudInstance, CloudKind, CloudObject, InstanceSecrets
from sendense.model.secret import Secret

_NAME = 255
_ID = 64


def digest_of(encoded: Mapping[str, Any]) -> str:
    """Give what two equal values have in common."""
    text = json.dumps(encoded, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def tags_text(tags: Mapping[str, str]) -> str:
    """Write tags so that a pattern finds one: ``&key=value&key=value&``."""
    if not tags:
        return ""
    pairs = (f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(tags.items()))
    return f"&{'&'.join(pairs)}&"


def tag_pattern(tag: str) -> str:
    """Give the pattern of ``key`` or ``key=value`` among tags."""
    name, given, value = tag.partition("=")
    return f"*&{_quoted(name)}={_quoted(value) if given else '*'}&*"


def tags_of(text: str) -> dict[str, str]:
    """Read what :func:`tags_text` wrote."""
    pairs = (pair.partition("=") for pair in text.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _quoted(text: str) -> str:
    return quote(text, safe="")


def instance_row(cloud_id: str, instance: CloudInstance, at: datetime) -> dict[str, Any]:
    """Give the row of an instance, without its secrets and since when it is known."""
    owner = instance.owner
    return {
        "uuid": instance.id,
        "cloud_id": cloud_id,
        "name": instance.name[:_NAME],
        "display_name": instance.display_name[:_NAME],
        "domain_name": instance.domain_name[:_NAME],
        "state": instance.state[:_NAME],
        "zone_id": instance.zone_id[:_ID],
        "zone": instance.zone[:_NAME],
        "domain_id": owner.domain_id[:_ID],
        "domain_path": owner.domain,
        "account": owner.account[:_NAME],
        "project_id": owner.project_id[:_ID],
        "project": owner.project[:_NAME],
        "offering": instance.offering[:_NAME],
        "host_id": instance.host_id[:_ID],
        "tags": tags_text(instance.tags),
        "value": instance,
        "seen_at": at,
        "gone_at": None,
    }


def object_row(cloud_id: str, kind: CloudKind, value: CloudObject, at: datetime) -> dict[str, Any]:
    """Give the row of an object, without since when it is known."""
    return {
        "cloud_id": cloud_id,
        "kind": kind,
        "id": value.id,
        "zone_id": zone_of(value),
        "name": value.name[:_NAME],
        "value": value,
        "seen_at": at,
        "gone_at": None,
    }


def zone_of(value: CloudObject) -> str:
    """Give the zone that an object is in; empty for what is in none or in several."""
    zone_id: str = getattr(value, "zone_id", "")
    return zone_id[:_ID]


def seal_secrets(keys: MasterKeys, uuid: str, secrets: InstanceSecrets) -> bytes | None:
    """Seal the secrets of an instance, where it has some."""
    if secrets == InstanceSecrets():
        return None
    content = {
        "details": {name: _shown(each) for name, each in secrets.details.items()},
        "user_data": None if secrets.user_data is None else _shown(secrets.user_data),
    }
    return keys.seal(Secret(json.dumps(content)), _place(uuid))


def open_secrets(keys: MasterKeys, uuid: str, sealed: bytes | None) -> InstanceSecrets:
    """Give the secrets of an instance back."""
    if sealed is None:
        return InstanceSecrets()
    content = json.loads(keys.open(sealed, _place(uuid)).reveal())
    user_data = content["user_data"]
    return InstanceSecrets(
        {name: _hidden(text) for name, text in content["details"].items()},
        None if user_data is None else _hidden(user_data),
    )


def same_secrets(
    keys: MasterKeys, uuid: str, sealed: bytes | None, secrets: InstanceSecrets
) -> bool:
    """Tell whether these are sealed there; what does not open any more is written anew."""
    try:
        return open_secrets(keys, uuid, sealed) == secrets
    except Damaged:
        return False


def _shown(secret: Secret) -> str:
    return secret.reveal().decode(errors="surrogateescape")


def _hidden(text: str) -> Secret:
    return Secret(text)


def _place(uuid: str) -> Place:
    return Place("cloud_instance", uuid, "secrets")
