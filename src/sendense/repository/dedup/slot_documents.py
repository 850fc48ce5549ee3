"""A key slot: the ring, wrapped for one passphrase or one recovery key, as a JSON document.

The document says in plain words how it is to be opened, because it is read before anything is
certain.  All that it says is authenticated when it opens.  Beside this it carries a MAC under
the ring: a recovery slot can be *made* by anybody (its key is public), so before the ring is
wrapped again for the public key in a slot, the MAC has to show that a holder of the ring put
it there.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final

from blake3 import blake3

from sendense import clock
from sendense.errors import Damaged, Rejected, Unsupported
from sendense.model.secret import Secret
from sendense.repository.dedup import canonical_json
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import slot_wrapping as wrapping
from sendense.repository.dedup.canonical_json import Content
from sendense.repository.dedup.keys import MAX_EPOCH, KeyRing
from sendense.repository.dedup.recovery import RecoveryKey
from sendense.repository.dedup.slot_wrapping import Argon2
from sendense.units import MIB

FORMAT: Final = "sendense-key-slot"
VERSION: Final = 1
LARGEST: Final = 4 * MIB
"""Bytes of a slot; one with the ring of 65,535 epochs is smaller."""

_ARGON2: Final = "argon2id"
_HPKE: Final = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM"
_ID: Final = re.compile(r"[0-9a-f]{32}")
_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")
_LONGEST_LABEL: Final = 128
_PUBLIC_BYTES: Final = 32


class SlotKind(str, Enum):
    """What opens a slot."""

    PASSPHRASE = "passphrase"  # noqa: S105 - a word, no secret
    RECOVERY = "recovery"


@dataclass(frozen=True)
class Slot:
    """One wrapping of the ring."""

    id: str
    """32 hex digits."""
    kind: SlotKind
    label: str
    """What its owner calls it."""
    created_at: datetime
    generation: int
    """The newest epoch of the ring that it holds."""
    public_key: bytes | None
    """Of a recovery slot."""
    argon2: Argon2 | None
    """Of a passphrase slot."""
    content: Content = field(repr=False, hash=False)
    """The whole document."""

    @property
    def name(self) -> str:
        """Give the name of its object."""
        return fmt.KEYS + self.id

    def to_bytes(self) -> bytes:
        """Give the bytes to store."""
        return canonical_json.readable(self.content)

    def is_of(self, ring: KeyRing) -> bool:
        """Tell whether a holder of ``ring`` made this slot, and nobody changed it."""
        if self.generation not in ring.epochs:
            return False
        return hmac.compare_digest(self.content["mac"], _mac(self.content, ring, self.generation))

    def open_with(self, secret: Secret | RecoveryKey) -> KeyRing | None:
        """Give the ring, or none where the secret is not of this slot.

        :class:`~sendense.errors.Damaged` where it opens, and what is inside cannot be.
        """
        opened = self._unwrap(secret)
        if opened is None:
            return None
        ring = KeyRing.from_bytes(opened)
        right = ring.repository_id == self.content["repository"]
        if not right or ring.newest_epoch != self.generation or not self.is_of(ring):
            raise Damaged(f"{self.name} does not hold what it states", file=self.name)
        return ring

    def _unwrap(self, secret: Secret | RecoveryKey) -> bytes | None:
        bound = _bound(self.content)
        wrapped = base64.b64decode(self.content["wrapped"])
        if isinstance(secret, RecoveryKey):
            if self.public_key != secret.public:
                return None
            return wrapping.unwrap_with_private_key(wrapped, secret, bound=bound)
        if self.argon2 is None:
            return None
        return wrapping.unwrap_with_passphrase(
            wrapped,
            secret,
            self.argon2,
            salt=bytes.fromhex(self.content["kdf"]["salt"]),
            nonce=bytes.fromhex(self.content["nonce"]),
            bound=bound,
        )


def passphrase_slot(
    ring: KeyRing, passphrase: Secret, *, label: str, argon2: Argon2 = wrapping.STANDARD
) -> Slot:
    """Wrap ``ring`` for a passphrase."""
    wrapping.check_new_passphrase(passphrase)
    if not argon2.acceptable():
        raise Rejected(f"{argon2} is more than a reader accepts, or cannot be computed")
    salt = secrets.token_bytes(wrapping.SALT_BYTES)
    nonce = secrets.token_bytes(fmt.NONCE_BYTES)
    content = _description(ring, SlotKind.PASSPHRASE, label)
    content["kdf"] = {
        "name": _ARGON2,
        "memory_kib": argon2.memory_kib,
        "passes": argon2.passes,
        "lanes": argon2.lanes,
        "salt": salt.hex(),
    }
    content["nonce"] = nonce.hex()
    wrapped = wrapping.wrap_with_passphrase(
        ring.to_bytes(), passphrase, argon2, salt=salt, nonce=nonce, bound=_bound(content)
    )
    return _finish(content, wrapped, ring)


def recovery_slot(ring: KeyRing, public_key: bytes, *, label: str) -> Slot:
    """Wrap ``ring`` for the holder of a recovery key."""
    content = _description(ring, SlotKind.RECOVERY, label)
    content["hpke"] = _HPKE
    content["public_key"] = public_key.hex()
    wrapped = wrapping.wrap_for_public_key(ring.to_bytes(), public_key, bound=_bound(content))
    return _finish(content, wrapped, ring)


def _description(ring: KeyRing, kind: SlotKind, label: str) -> Content:
    if not _is_label(label):
        raise Rejected(
            "the name of a key is printable text of up to 128 characters",
            hint="say in a few words whose it is, or where it lies",
        )
    return {
        "format": FORMAT,
        "version": VERSION,
        "id": secrets.token_hex(16),
        "repository": ring.repository_id,
        "kind": kind.value,
        "label": label,
        "created_at": clock.format_utc(clock.now()),
        "generation": ring.newest_epoch,
    }


def _finish(content: Content, wrapped: bytes, ring: KeyRing) -> Slot:
    content["wrapped"] = base64.b64encode(wrapped).decode()
    content["mac"] = _mac(content, ring, ring.newest_epoch)
    return _build(content, fmt.KEYS + content["id"])


def _bound(content: Content) -> bytes:
    """Give what is authenticated with the ring: all but the wrapped ring and the MAC."""
    return canonical_json.encode(
        {key: value for key, value in content.items() if key not in ("wrapped", "mac")}
    )


def _mac(content: Content, ring: KeyRing, epoch: int) -> str:
    covered = {key: value for key, value in content.items() if key != "mac"}
    return blake3(canonical_json.encode(covered), key=ring.slot_key(epoch)).hexdigest()


# --- reading ---


def parse_slot(data: bytes, name: str, repository_id: str) -> Slot:
    """Give the slot in an object, or the error that says why it is none."""
    content = canonical_json.decode(data, name)
    version = content.get("version")
    if content.get("format") != FORMAT or type(version) is not int or version < 1:
        raise Damaged(f"{name} is no key slot", file=name)
    if version > VERSION:
        raise Unsupported(
            f"{name} was written by a newer version (format {version})",
            hint="use that version of sendense, or a later one",
            file=name,
        )
    slot = _build(content, name)
    if slot.name != name:
        raise Damaged(f"{name} is the slot {slot.id}, under another's name", file=name)
    if content["repository"] != repository_id:
        raise Damaged(f"{name} is a key slot of another repository", file=name)
    return slot


def _build(content: Content, name: str) -> Slot:
    try:
        return _strictly(content)
    except (KeyError, TypeError, ValueError):
        # Not chained: the error may quote what is in the slot.
        raise Damaged(f"{name} cannot be what was written as a key slot", file=name) from None


def _strictly(content: Content) -> Slot:
    """Give the slot, or one of Python's errors for a wrong value."""
    kind = SlotKind(content["kind"])
    known = _ID.fullmatch(content["id"]) and isinstance(content["repository"], str)
    if not known or not _is_label(content["label"]):
        raise ValueError("id or label")
    _hex(content["mac"], 32)
    if len(base64.b64decode(content["wrapped"], validate=True)) <= fmt.TAG_BYTES:
        raise ValueError("wrapped")
    generation = _whole(content["generation"])
    if not 1 <= generation <= MAX_EPOCH:
        raise ValueError("generation")
    return Slot(
        id=content["id"],
        kind=kind,
        label=content["label"],
        created_at=clock.parse_utc(content["created_at"]),
        generation=generation,
        public_key=_public_key(content) if kind is SlotKind.RECOVERY else None,
        argon2=_argon2(content) if kind is SlotKind.PASSPHRASE else None,
        content=content,
    )


def _public_key(content: Content) -> bytes:
    if content["hpke"] != _HPKE:
        raise ValueError("hpke")
    return _hex(content["public_key"], _PUBLIC_BYTES)


def _argon2(content: Content) -> Argon2:
    kdf = content["kdf"]
    argon2 = Argon2(_whole(kdf["memory_kib"]), _whole(kdf["passes"]), _whole(kdf["lanes"]))
    if kdf["name"] != _ARGON2 or not argon2.acceptable():
        raise ValueError("kdf")
    _hex(kdf["salt"], wrapping.SALT_BYTES)
    _hex(content["nonce"], fmt.NONCE_BYTES)
    return argon2


def _hex(value: object, length: int) -> bytes:
    if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) != 2 * length:
        raise ValueError("hex")
    return bytes.fromhex(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value


def _is_label(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_LABEL and value.isprintable()
