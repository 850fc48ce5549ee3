"""Clouds and what they have, with sensible defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sendense.model.cloud import (
    Cloud,
    CloudInstance,
    CloudKeys,
    CloudNic,
    CloudVolume,
    InstanceSecrets,
    Owner,
)
from sendense.model.secret import Secret
from tests.support.fleet import NOW

ACME = Owner("d-acme", "ROOT/acme", "ann")
KEYS_OF_CLOUD = CloudKeys("api-key", Secret("sign"))
NOTHING = InstanceSecrets()


def a_cloud(name: str = "west", **changes: Any) -> Cloud:
    """Give a cloud that is not known yet."""
    cloud = Cloud(f"id-{name}", name, f"https://{name}.example/client/api", NOW)
    return replace(cloud, **changes)


def a_cloud_instance(number: int = 1, **changes: Any) -> CloudInstance:
    """Give a running instance with a volume and a card."""
    uuid = f"00000000-0000-4000-8000-{number:012}"
    instance = CloudInstance(
        id=uuid,
        name=f"vm-{number}",
        state="Running",
        owner=ACME,
        zone_id="z1",
        display_name=f"Shop {number}",
        domain_name=f"i-2-{number}-VM",
        zone="west-1",
        host_id="h1",
        host="kvm1",
        offering="Small",
        cpus=2,
        memory_bytes=1 << 30,
        nics=(CloudNic(f"n-{number}", "net", "front", "52:54:00:00:00:01", "10.0.0.9"),),
        volumes=(CloudVolume(f"v-{number}", "ROOT", "ROOT", "Ready", 5 << 30, 0, f"p-{number}"),),
        tags={"backup": "daily"},
    )
    return replace(instance, **changes)


def pairs(*instances: CloudInstance) -> list[tuple[CloudInstance, InstanceSecrets]]:
    """Give instances that have no secrets."""
    return [(each, NOTHING) for each in instances]
