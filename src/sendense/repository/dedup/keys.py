"""The key ring: every secret of a repository, and what is derived from them.

There are two kinds of secrets.  The *identity secret* is chosen once: it decides how blocks
are recognised, so that a change of keys does not store everything a second time.  The *data
secrets*, one for each epoch, encrypt.  The newest encrypts what is newly written; all of
them stay, to read what was written before.  Nothing is encrypted with a secret itself, only
with what BLAKE3 derives from it under a context that names the purpose.

A ring is never stored as it is: :mod:`~sendense.repository.dedup.slots` wraps it.
"""

from __future__ import annotations

import itertools
import secrets
import struct
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NoReturn

from blake3 import blake3

from sendense.errors import Damaged, NotAllowed, Rejected
from sendense.model.secret import Secret
from sendense.repository.dedup import format as fmt

SECRET_BYTES: Final = 32
MAX_EPOCH: Final = 0xFFFF
PACK_HEADER_BYTES: Final = 24

_MAGIC: Final = b"SNDK"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sB16s32sH")
_EPOCH: Final = struct.Struct("<H32s")


@dataclass(frozen=True, repr=False)
class KeyRing:
    """The secrets of one repository.

    The derived keys are plain bytes, made once: hot loops use them.
    """

    repository_id: str
    """A UUID in its usual form: lower case, with hyphens."""
    identity: Secret
    epochs: Mapping[int, Secret] = field(hash=False)
    """The data secret of each epoch that the ring holds, in ascending order."""

    newest_epoch: int = field(init=False, compare=False)
    block_key: bytes = field(init=False, compare=False)
    chunk_key: bytes = field(init=False, compare=False)
    node_key: bytes = field(init=False, compare=False)
    tag_key: bytes = field(init=False, compare=False)
    header_key: bytes = field(init=False, compare=False)
    _derived: Mapping[str, Mapping[int, bytes]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Check what is given, and derive the keys."""
        ordered = {number: self.epochs[number] for number in sorted(self.epochs)}
        _check(self.repository_id, self.identity, ordered)
        self._set("epochs", MappingProxyType(ordered))
        self._set("newest_epoch", max(ordered))
        for name, context in _OF_IDENTITY.items():
            self._set(name, _derive(self.identity, context))
        per_epoch = {
            context: {number: _derive(secret, context) for number, secret in ordered.items()}
            for context in _OF_EPOCH
        }
        self._set("_derived", per_epoch)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def create(cls, repository_id: str) -> KeyRing:
        """Make the ring of a new repository, with its first epoch."""
        return cls(repository_id, _new_secret(), {1: _new_secret()})

    def next_epoch(self, *, above: int = 0) -> KeyRing:
        """Give a ring with one more epoch, whose number is also higher than ``above``."""
        number = max(self.newest_epoch, above) + 1
        if number > MAX_EPOCH:
            raise Rejected(
                f"the repository has had {MAX_EPOCH} keys, and cannot have another",
                hint="make a new repository, and copy the points there",
            )
        return KeyRing(self.repository_id, self.identity, {**self.epochs, number: _new_secret()})

    def pack_key(self, header: bytes, epoch: int) -> bytes:
        """Give the key of one pack, from its header and the pack secret of its epoch."""
        if len(header) != PACK_HEADER_BYTES:
            raise ValueError(f"a pack header has {PACK_HEADER_BYTES} bytes, not {len(header)}")
        return blake3(header, key=self._of_epoch(fmt.PACK_CONTEXT, epoch)).digest()

    def sealing_key(self, epoch: int) -> bytes:
        """Give the key that seals small objects in an epoch."""
        return self._of_epoch(fmt.SEALING_CONTEXT, epoch)

    def slot_key(self, epoch: int) -> bytes:
        """Give the key of the MAC of the key slots that were made in an epoch."""
        return self._of_epoch(fmt.SLOT_CONTEXT, epoch)

    def machine_tag(self, machine_uuid: str) -> str:
        """Give the 32 hex digits that stand for a machine in the names of objects."""
        return blake3(machine_uuid.encode(), key=self.tag_key).hexdigest(length=16)

    @property
    def fingerprint(self) -> str:
        """Give 16 hex digits that tell whether a ring is that of a repository.

        It can be shown: the recovery sheet has it.
        """
        return blake3(b"fingerprint", key=self.header_key).hexdigest(length=8)

    def to_bytes(self) -> bytes:
        """Give the ring as bytes, in the one spelling that it has."""
        head = _HEAD.pack(
            _MAGIC,
            _VERSION,
            uuid.UUID(self.repository_id).bytes,
            self.identity.reveal(),
            len(self.epochs),
        )
        parts = (_EPOCH.pack(number, item.reveal()) for number, item in self.epochs.items())
        return head + b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyRing:
        """Give the ring that :meth:`to_bytes` wrote, or raise :class:`Damaged`."""
        if len(data) < _HEAD.size:
            raise Damaged("the key ring is cut")
        magic, version, repository, identity, count = _HEAD.unpack_from(data)
        if magic != _MAGIC or version != _VERSION:
            raise Damaged("the key ring is none, or of a version that is not known")
        if count == 0 or len(data) != _HEAD.size + count * _EPOCH.size:
            raise Damaged("the key ring has not the length that it states")
        pairs = list(_EPOCH.iter_unpack(data[_HEAD.size :]))
        numbers = [number for number, _ in pairs]
        if numbers[0] == 0 or any(a >= b for a, b in itertools.pairwise(numbers)):
            raise Damaged("the epochs of the key ring are not in order")
        epochs = {number: Secret(secret) for number, secret in pairs}
        return cls(str(uuid.UUID(bytes=repository)), Secret(identity), epochs)

    def _of_epoch(self, context: str, epoch: int) -> bytes:
        try:
            return self._derived[context][epoch]
        except KeyError:
            raise NotAllowed(
                f"this key ring does not hold epoch {epoch} (its newest is {self.newest_epoch})",
                hint="the repository's key was rotated: open it again, with a current passphrase",
                epoch=epoch,
                newest=self.newest_epoch,
            ) from None

    def __repr__(self) -> str:
        numbers = ",".join(str(number) for number in self.epochs)
        return f"KeyRing({self.repository_id}, epochs {numbers}, <secret>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key ring is not pickled")


_OF_IDENTITY: Final = {
    "block_key": fmt.BLOCK_CONTEXT,
    "chunk_key": fmt.CHUNK_CONTEXT,
    "node_key": fmt.NODE_CONTEXT,
    "tag_key": fmt.TAG_CONTEXT,
    "header_key": fmt.HEADER_CONTEXT,
}
_OF_EPOCH: Final = (fmt.PACK_CONTEXT, fmt.SEALING_CONTEXT, fmt.SLOT_CONTEXT)


def is_uuid(text: object) -> bool:
    """Tell whether a value is a UUID in its usual form."""
    try:
        return isinstance(text, str) and str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _check(repository_id: str, identity: Secret, epochs: Mapping[int, Secret]) -> None:
    if not is_uuid(repository_id):
        raise ValueError(f"{repository_id!r} is no UUID in its usual form")
    if not epochs or min(epochs) < 1 or max(epochs) > MAX_EPOCH:
        raise ValueError("a key ring has epochs, numbered from 1")
    if any(len(item.reveal()) != SECRET_BYTES for item in (identity, *epochs.values())):
        raise ValueError(f"every secret of a key ring has {SECRET_BYTES} bytes")


def _new_secret() -> Secret:
    return Secret(secrets.token_bytes(SECRET_BYTES))


def _derive(secret: Secret, context: str) -> bytes:
    return blake3(secret.reveal(), derive_key_context=context).digest()
