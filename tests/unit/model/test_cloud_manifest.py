"""What a point remembers of its instance: it comes back as it went, and shows no secret."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sendense.errors import Damaged, NotFound, Unsupported
from sendense.model.cloud import InstanceSecrets
from sendense.model.cloud_manifest import (
    manifest_from_bytes,
    manifest_to_bytes,
    secrets_from_bytes,
    secrets_to_bytes,
)
from sendense.model.secret import Secret
from tests.support.cloud_plans import a_manifest, a_nic, an_instance


def test_there_and_back():
    instance = an_instance(
        tags={"backup": "gold", "ü": "x"},
        created=datetime(2025, 5, 5, tzinfo=UTC),
        nics=(a_nic(secondary_ips=("10.1.0.6",)),),
        keypairs=("k",),
    )
    manifest = a_manifest(instance, sealed=bytes(range(256)))
    assert manifest_from_bytes(manifest_to_bytes(manifest)) == manifest


def test_without_secrets():
    manifest = a_manifest(sealed=None)
    assert manifest_from_bytes(manifest_to_bytes(manifest)).sealed is None


def content(**changes):
    return json.dumps({**json.loads(manifest_to_bytes(a_manifest())), **changes}).encode()


def test_a_later_format_is_refused():
    with pytest.raises(Unsupported, match="format 2"):
        manifest_from_bytes(content(format=2))


def test_a_field_that_is_not_known_is_left_aside():
    assert manifest_from_bytes(content(later="x")) == a_manifest()


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b"\xff", b"{}", content(disks=7), content(format="1"),
     content(disks=[{"volume_id": "x", "disk": "y"}]), b"[" * 100_000],
)  # fmt: skip
def test_damage(damaged):
    with pytest.raises(Damaged):
        manifest_from_bytes(damaged)


def test_volumes_and_disks_by_id():
    manifest = a_manifest()
    root, data = manifest.instance.volumes
    assert manifest.volumes == (root, data)
    assert manifest.disk_of(data.id).disk == f"serial:{data.serial}"
    for look_up in (manifest.volume, manifest.disk_of):
        with pytest.raises(NotFound):
            look_up("x")


@pytest.mark.parametrize(
    "secrets",
    [
        InstanceSecrets(),
        InstanceSecrets({"password": Secret("pä$$"), "raw": Secret(b"\xff\x00")}, Secret("IyE=")),
    ],
)
def test_secrets_there_and_back(secrets):
    assert secrets_from_bytes(secrets_to_bytes(secrets)) == secrets


@pytest.mark.parametrize("damaged", [b"hunter2", b'{"details": "hunter2"}', b"[]"])
def test_damaged_secrets_are_not_repeated(damaged):
    with pytest.raises(Damaged) as caught:
        secrets_from_bytes(damaged)
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"


def test_secrets_are_no_part_of_it_in_clear():
    manifest = replace(a_manifest(), sealed=b"\x01\x02")
    assert b"AQI=" in manifest_to_bytes(manifest)
