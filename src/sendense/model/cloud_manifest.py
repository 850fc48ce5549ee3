"""What a point remembers of its instance in the cloud: the attachment ``cloudstack.json``.

A lost instance is made again from this alone: its offering, networks, MACs, tags, owner, and which
disk of the point was which volume.  The file says its version; one of a later version is refused
rather than half understood, and fields that are not known are left aside.

Details and user data may hold passwords.  They travel as ``sealed``: bytes that the caller has
encrypted (:func:`secrets_to_bytes` gives what to seal).  Nothing else of it is secret.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional

from sendense.errors import Damaged, NotFound, Rejected, Unsupported
from sendense.model.cloud import CloudInstance, CloudVolume, InstanceSecrets
from sendense.model.coding import decode, encode
from sendense.model.secret import Secret

ATTACHMENT = "cloudstack.json"
"""The attachment's name."""
FORMAT = 1


@dataclass(frozen=True)
class ManifestDisk:
    """Which disk of the point was which volume; the volume itself is among the instance's."""

    volume_id: str
    disk: str
    """The disk's identity in the point: ``serial:...`` or ``path:...``."""
    format: str = "qcow2"


@dataclass(frozen=True)
class CloudManifest:
    """An instance as it was when its point was made."""

    cloud_id: str
    cloud: str
    """The cloud's name then."""
    version: str
    """CloudStack's."""
    taken_at: datetime
    instance: CloudInstance
    disks: tuple[ManifestDisk, ...]
    """The disks that the point holds; a volume that is not among them was left out."""
    sealed: Optional[bytes] = None
    """Details and user data, sealed by whoever wrote it; none: it had neither."""
    format: int = FORMAT

    @property
    def volumes(self) -> tuple[CloudVolume, ...]:
        """Give the volumes that the point holds, in the order of its disks."""
        return tuple(self.volume(item.volume_id) for item in self.disks)

    def volume(self, volume_id: str) -> CloudVolume:
        """Give one volume as it was."""
        for volume in self.instance.volumes:
            if volume.id == volume_id:
                return volume
        raise NotFound(f"the point remembers no volume {volume_id}", volume=volume_id)

    def disk_of(self, volume_id: str) -> ManifestDisk:
        """Give the disk of the point that a volume is."""
        for item in self.disks:
            if item.volume_id == volume_id:
                return item
        raise NotFound(f"the point holds no disk of volume {volume_id}", volume=volume_id)


def manifest_to_bytes(manifest: CloudManifest) -> bytes:
    """Write a manifest."""
    return json.dumps(encode(manifest), ensure_ascii=True, sort_keys=True).encode()


def manifest_from_bytes(content: bytes) -> CloudManifest:
    """Read a manifest; what does not fit is :class:`Damaged`."""
    found = _json(content)
    version = found.get("format")
    if type(version) is int and version > FORMAT:
        raise Unsupported(
            f"{ATTACHMENT} is of format {version}, and this version reads up to {FORMAT}",
            hint="restore with the version of Sendense that made the point, or a later one",
        )
    try:
        manifest = decode(CloudManifest, found, place=ATTACHMENT)
        _ = manifest.volumes
    except Rejected as error:
        raise Damaged(f"{ATTACHMENT} cannot be read: {error.message}") from error
    return manifest


def secrets_to_bytes(secrets: InstanceSecrets) -> bytes:
    """Write secrets as the bytes that the caller seals."""
    return json.dumps(
        {
            "details": {key: _text(value) for key, value in secrets.details.items()},
            "user_data": None if secrets.user_data is None else _text(secrets.user_data),
        }
    ).encode()


def secrets_from_bytes(content: bytes) -> InstanceSecrets:
    """Read what :func:`secrets_to_bytes` wrote; no error repeats any of it."""
    found = _json(content)
    details, user_data = found.get("details"), found.get("user_data")
    if not isinstance(details, dict) or not isinstance(user_data, (str, type(None))):
        raise Damaged("the instance's secrets cannot be read")
    return InstanceSecrets(
        {str(key): Secret(str(value)) for key, value in details.items()},
        None if user_data is None else Secret(user_data),
    )


def _text(secret: Secret) -> str:
    return secret.reveal().decode(errors="surrogateescape")


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        # The cause would show a piece of what may be secret.
        raise Damaged(f"{ATTACHMENT} or its secrets are no JSON") from None
    if not isinstance(found, dict):
        raise Damaged(f"{ATTACHMENT} or its secrets are no object")
    return found
