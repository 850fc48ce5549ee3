"""How a key ring is wrapped: for a passphrase by Argon2id, for a recovery key by HPKE.

Both authenticate, beside the ring, the rest of the slot's document (``bound``).  To
unwrap gives none where the secret does not fit, or anything was changed: the two cannot be told
apart, and must not be.
"""

from __future__ import annotations

import threading
import unicodedata
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sendense.errors import Rejected, Unavailable
from sendense.model.secret import Secret
from sendense.repository.dedup.recovery import RecoveryKey
from sendense.units import GIB, KIB, MIB

SALT_BYTES: Final = 16
SHORTEST: Final = 8
"""Characters of a new passphrase, at least."""

_KEY_BYTES: Final = 32
_MOST_MEMORY: Final = GIB // KIB
_MOST_LANES: Final = 16
_MOST_WORK: Final = 4 * GIB // KIB
"""Memory times passes: a few seconds."""


@dataclass(frozen=True)
class Argon2:
    """What a guess at a passphrase costs; the second recommendation of RFC 9106."""

    memory_kib: int = 64 * MIB // KIB
    passes: int = 3
    lanes: int = 4

    def acceptable(self) -> bool:
        """Tell whether it can be computed, and without taking a machine down.

        The parameters are read before anything is authenticated.
        """
        return (
            1 <= self.lanes <= _MOST_LANES
            and 8 * self.lanes <= self.memory_kib <= _MOST_MEMORY
            and 1 <= self.passes <= _MOST_WORK // self.memory_kib
        )


STANDARD: Final = Argon2()


def check_new_passphrase(passphrase: Secret) -> None:
    """Refuse a passphrase that is too short to be one."""
    text = passphrase.reveal().decode("utf-8", "replace")
    if len(text) < SHORTEST:
        raise Rejected(
            f"the new passphrase is too short: {SHORTEST} characters at least",
            hint="choose five or six random words, and keep them where you can find them",
        )


def wrap_with_passphrase(
    ring: bytes, passphrase: Secret, argon2: Argon2, *, salt: bytes, nonce: bytes, bound: bytes
) -> bytes:
    """Encrypt a ring under a passphrase."""
    return AESGCM(_stretched(passphrase, argon2, salt)).encrypt(nonce, ring, bound)


def unwrap_with_passphrase(
    wrapped: bytes, passphrase: Secret, argon2: Argon2, *, salt: bytes, nonce: bytes, bound: bytes
) -> bytes | None:
    """Give the ring, or none if it does not open."""
    try:
        return AESGCM(_stretched(passphrase, argon2, salt)).decrypt(nonce, wrapped, bound)
    except InvalidTag:
        return None


def wrap_for_public_key(ring: bytes, public: bytes, *, bound: bytes) -> bytes:
    """Encrypt a ring so that only the holder of a private key can read it."""
    try:
        return _suite().encrypt(ring, X25519PublicKey.from_public_bytes(public), bound)
    except ValueError:  # not 32 bytes, or a point that gives everybody the same secret
        raise Rejected(
            "this is no public key of a recovery key",
            hint="take it from the recovery sheet: 64 hexadecimal digits",
        ) from None


def unwrap_with_private_key(wrapped: bytes, key: RecoveryKey, *, bound: bytes) -> bytes | None:
    """Give the ring, or none if it does not open."""
    try:
        return _suite().decrypt(wrapped, key.x25519(), bound)
    except (InvalidTag, ValueError):
        return None


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


_ONE_AT_A_TIME = threading.Lock()
"""OpenSSL's Argon2 takes its threads from one pool of the process, and cryptography sets the size
of that pool for each derivation: two at a time fail, or wait for each other for ever (both seen
with cryptography 50.0.2).  It also bounds the memory to that of one."""


def _stretched(passphrase: Secret, argon2: Argon2, salt: bytes) -> bytes:
    stretcher = Argon2id(
        salt=salt,
        length=_KEY_BYTES,
        iterations=argon2.passes,
        lanes=argon2.lanes,
        memory_cost=argon2.memory_kib,
    )
    try:
        with _ONE_AT_A_TIME:
            return stretcher.derive(_normal(passphrase))
    except MemoryError:
        raise Unavailable(
            f"there are not {argon2.memory_kib // 1024} MiB of memory to open a key slot",
            hint="free some memory, then try again",
        ) from None


def _normal(passphrase: Secret) -> bytes:
    """Give the bytes of a passphrase: the same for each way to type an accented letter."""
    data = passphrase.reveal()
    try:
        return unicodedata.normalize("NFC", data.decode()).encode()
    except UnicodeDecodeError:
        return data
