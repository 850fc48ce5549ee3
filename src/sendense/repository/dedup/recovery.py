"""Recovery keys: an X25519 private key that exists on paper only.

Its text is made to be typed by a person: 15 groups of five characters, in Crockford's base 32
(no I, L, O, U).  The first four characters of a group carry the key, the fifth checks the group and
its place, so that a mistake is found where it was made::

    60 characters of content = 300 bits = 37 bytes and four zero bits:
    version 1 (u8) | private key (32) | first 4 bytes of the BLAKE3 of the 33 before

    the fifth character of group g (from 0), in the field of 32 elements with x^5 + x^2 + 1:
    a*x^4 + b*x^3 + c*x^2 + d*x + g

One wrong character, or two that changed places, are always found in their group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NoReturn

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sendense.errors import Rejected, Unsupported
from sendense.model.secret import Secret

BEGIN: Final = "-----BEGIN SENDENSE RECOVERY KEY-----"
END: Final = "-----END SENDENSE RECOVERY KEY-----"

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_LOOK_ALIKE: Final = str.maketrans("OIL", "011")
_GROUP: Final = 5
_GROUPS: Final = 15
_PER_LINE: Final = 5
_VERSION: Final = 1
_KEY_BYTES: Final = 32
_CHECKSUM_BYTES: Final = 4
_PADDING_BITS: Final = 4
_LONGEST: Final = 64 * 1024
_SEPARATORS: Final = re.compile(r"[\s\-_.,\u2010-\u2015\u2212]+")


@dataclass(frozen=True, repr=False)
class RecoveryKey:
    """A recovery key pair.  The public part is in the repository, the private one is not."""

    private: Secret
    """32 bytes."""
    public: bytes = field(init=False)
    """32 bytes."""

    def __post_init__(self) -> None:
        """Compute the public key."""
        object.__setattr__(self, "public", self.x25519().public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> RecoveryKey:
        """Make a new pair."""
        return cls(Secret(X25519PrivateKey.generate().private_bytes_raw()))

    def x25519(self) -> X25519PrivateKey:
        """Give the private key as the library has it."""
        return X25519PrivateKey.from_private_bytes(self.private.reveal())

    def to_text(self) -> Secret:
        """Give the private key as three lines that people can type."""
        known = bytes([_VERSION]) + self.private.reveal()
        groups = _to_groups(known + _checksum(known))
        rows = (groups[at : at + _PER_LINE] for at in range(0, _GROUPS, _PER_LINE))
        return Secret("\n".join("-".join(row) for row in rows))

    def __repr__(self) -> str:
        return f"RecoveryKey(public {self.public.hex()}, <secret>)"


def parse_recovery_key(text: Secret) -> RecoveryKey:
    """Read a recovery key as it was typed, or out of the whole recovery sheet.

    Case, spaces and line ends do not matter, nor O for 0, and I or L for 1.  A mistake is a
    :class:`Rejected` that says in which group it is, and never what the group is.
    """
    values = [_group_values(group, number) for number, group in enumerate(_split(_block(text)))]
    number = 0
    for group in values:
        for value in group:
            number = number << 5 | value
    if number & ((1 << _PADDING_BITS) - 1):
        _wrong("its last group is not what a recovery key ends with")
    content = (number >> _PADDING_BITS).to_bytes(1 + _KEY_BYTES + _CHECKSUM_BYTES, "big")
    known, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if checksum != _checksum(known):
        _wrong("every group is right by itself, but together they are no key")
    if known[0] != _VERSION:
        raise Unsupported(
            f"the recovery key is of version {known[0]}",
            hint="use the version of sendense that made it, or a later one",
        )
    return RecoveryKey(Secret(known[1:]))


def is_recovery_key(text: Secret) -> bool:
    """Tell whether a text is a recovery key, and not a passphrase."""
    try:
        parse_recovery_key(text)
    except Rejected:
        return False
    return True


def _to_groups(content: bytes) -> list[str]:
    number = int.from_bytes(content, "big") << _PADDING_BITS
    digits = _GROUPS * (_GROUP - 1)
    values = [number >> 5 * (digits - 1 - at) & 31 for at in range(digits)]
    groups = []
    for at in range(_GROUPS):
        group = values[at * (_GROUP - 1) : (at + 1) * (_GROUP - 1)]
        groups.append("".join(_ALPHABET[value] for value in [*group, _check(group, at)]))
    return groups


def _check(group: list[int], number: int) -> int:
    """Give what the last character of a group stands for."""
    total = 0
    for value in group:
        total = _times_x(total ^ value)
    return total ^ number


def _times_x(value: int) -> int:
    value <<= 1
    return value ^ 0b100101 if value & 32 else value


def _checksum(known: bytes) -> bytes:
    return blake3(known).digest(length=_CHECKSUM_BYTES)


def _block(text: Secret) -> str:
    """Give the part of a text that is the key: what lies between the marks, if they are there."""
    data = text.reveal()
    if len(data) > _LONGEST:
        _wrong("it is too long")
    try:
        found = data.decode()
    except UnicodeDecodeError:
        _wrong("it is not text")
    upper = found.upper()
    before, mark, after = upper.partition(BEGIN)
    return (after if mark else before).partition(END)[0].lstrip("\ufeff")


def _split(block: str) -> list[str]:
    """Give the groups: as they were typed, or every five characters."""
    typed = [part for part in _SEPARATORS.split(block) if part]
    if len(typed) == _GROUPS:
        for number, group in enumerate(typed):
            if len(group) != _GROUP:
                _wrong(f"{_place(number)} has {len(group)} characters, not {_GROUP}")
        return typed
    letters = "".join(typed)
    groups = [letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP)]
    if len(letters) != _GROUPS * _GROUP:
        for number, group in enumerate(groups[:_GROUPS]):
            _group_values(group, number)
        _wrong(f"it has {len(letters)} characters, not {_GROUPS * _GROUP}")
    return groups


def _group_values(group: str, number: int) -> list[int]:
    """Give what the characters of a group stand for, without the one that checks."""
    letters = group.translate(_LOOK_ALIKE)
    if any(letter not in _VALUES for letter in letters):
        _wrong(f"{_place(number)} has a character that never is in a recovery key")
    values = [_VALUES[letter] for letter in letters]
    if len(values) != _GROUP or _check(values[:-1], number) != values[-1]:
        _wrong(f"{_place(number)} is wrong, or something is missing before it")
    return values[:-1]


def _place(number: int) -> str:
    line, place = divmod(number, _PER_LINE)
    return f"group {number + 1} (line {line + 1}, group {place + 1} of {_PER_LINE})"


def _wrong(what: str) -> NoReturn:
    raise Rejected(
        f"this is no recovery key: {what}",
        hint=f"compare it with the recovery sheet: {_GROUPS} groups of {_GROUP} characters",
    )
