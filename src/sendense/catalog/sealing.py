"""Secrets at rest: AES-256-GCM under a master key that is not in the database.

A sealed value is ``version (1) | key id (8) | nonce (12) | ciphertext and tag``.  Where it stands
(table, row and column) is authenticated with it: a value that somebody moved to another row, to
have it used there, does not open.

There may be several keys: the last one seals, all of them open.  So a key is changed by adding one,
sealing everything anew (``Catalog.reseal``), and removing the old one.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sendense.errors import Damaged, Rejected
from sendense.model.secret import Secret

KEY_BYTES = 32
KEY_ID_BYTES = 8
_VERSION = b"\x01"
_NONCE_BYTES = 12


@dataclass(frozen=True)
class Place:
    """Where a secret stands."""

    table: str
    row: str
    column: str

    @property
    def bound(self) -> bytes:
        """Give the bytes that are authenticated; no part can pass for another."""
        return "\x00".join((self.table, self.row, self.column)).encode()


@dataclass(frozen=True)
class MasterKey:
    """One key, and the name by which a sealed value tells which it needs."""

    id: bytes
    key: Secret

    @classmethod
    def new(cls) -> MasterKey:
        """Make one up."""
        key = Secret(AESGCM.generate_key(bit_length=8 * KEY_BYTES))
        return cls(secrets.token_bytes(KEY_ID_BYTES), key)


class MasterKeys:
    """The keys of one installation, oldest first."""

    def __init__(self, keys: Sequence[MasterKey]) -> None:
        """Keep them; there is at least one, and no two have one id."""
        self._by_id = {each.id: AESGCM(each.key.reveal()) for each in keys}
        if not keys or len(self._by_id) != len(keys):
            raise Rejected("there is no master key, or two have the same id")
        self.current = keys[-1].id

    def seal(self, secret: Secret, place: Place) -> bytes:
        """Encrypt a secret for the place where it will stand."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._by_id[self.current].encrypt(nonce, secret.reveal(), place.bound)
        return _VERSION + self.current + nonce + sealed

    def open(self, sealed: bytes, place: Place) -> Secret:
        """Give the secret that stands in a place."""
        shown = f"the {place.column} of {place.table} {place.row}"
        version, key_id, rest = sealed[:1], self.key_of(sealed), sealed[1 + KEY_ID_BYTES :]
        if version != _VERSION:
            raise Damaged(f"{shown} is sealed in a way that this version does not know")
        if key_id not in self._by_id:
            raise Rejected(
                f"{shown} is sealed with the master key {key_id.hex()}, which is not here",
                hint="put that key back into the master key file",
            )
        nonce, ciphertext = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        try:
            return Secret(self._by_id[key_id].decrypt(nonce, ciphertext, place.bound))
        except (InvalidTag, ValueError):
            raise Damaged(f"{shown} was changed in the database, or moved there") from None

    @staticmethod
    def key_of(sealed: bytes) -> bytes:
        """Give the id of the key that a value was sealed with."""
        return sealed[1 : 1 + KEY_ID_BYTES]
