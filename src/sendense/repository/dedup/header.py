"""The header: the one object that says "here is a repository", and of which version.

It is plain JSON, because it is read before there is a key.  So until the ring is there nothing
in it is certain; then :func:`check_header` proves it by a MAC.  It is written once, and never
changed.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NoReturn

from blake3 import blake3

from sendense import __version__, clock
from sendense.errors import AlreadyExists, Damaged, NotFound, Rejected, Unsupported
from sendense.repository.dedup import canonical_json
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.canonical_json import Content
from sendense.repository.dedup.keys import KeyRing, is_uuid
from sendense.storage.store import Store
from sendense.units import MIB

LEVELS: Final = range(1, 20)
"""The compression levels of zstd that a repository may choose."""

_MOST: Final = MIB


@dataclass(frozen=True)
class Header:
    """What a repository says of itself."""

    id: str
    created_at: datetime
    program: str
    """The version that made it."""
    compression_level: int | None
    """None: chunks are stored as they are."""
    mac: str = field(repr=False)
    covered: bytes = field(repr=False)
    """What the MAC covers: also fields that are not known here."""


def write_header(
    store: Store, ring: KeyRing, *, created_at: datetime, compression_level: int | None
) -> Header:
    """Make ``store`` a repository; :class:`AlreadyExists` where it is one."""
    if compression_level is not None and compression_level not in LEVELS:
        raise Rejected(
            f"{compression_level} is no compression level", hint="choose one from 1 to 19"
        )
    content: Content = {
        "format": fmt.NAME,
        "version": fmt.VERSION,
        "id": ring.repository_id,
        "created_at": clock.format_utc(created_at),
        "program": __version__,
        "compression_level": compression_level,
    }
    mac = _mac(canonical_json.encode(content), ring)
    data = canonical_json.readable({**content, "mac": mac})
    try:
        store.put(fmt.HEADER, data, create=True)
    except AlreadyExists as error:
        if store.get(fmt.HEADER) == data:  # ours: the answer to a first try was lost
            return parse_header(data)
        raise AlreadyExists(
            f"there is a repository in {store.location} already",
            hint="use it as it is, or name another place",
            location=store.location,
        ) from error
    return parse_header(data)


def read_header(store: Store) -> Header:
    """Give the header, which proves nothing before :func:`check_header`."""
    try:
        size = store.info(fmt.HEADER).size
        if size > _MOST:
            raise Damaged(f"{fmt.HEADER} has an impossible size: {size} bytes", file=fmt.HEADER)
        data = store.get(fmt.HEADER)
    except NotFound:
        _explain_absence(store)
    return parse_header(data)


def parse_header(data: bytes) -> Header:
    """Give the header in ``data``."""
    content = canonical_json.decode(data, fmt.HEADER)
    kind, version = content.get("format"), content.get("version")
    if kind != fmt.NAME:
        raise Rejected(
            f"{fmt.HEADER} does not describe a dedup repository",
            hint="check the location: another program keeps its data there",
            file=fmt.HEADER,
        )
    if type(version) is not int or version < 1:
        raise _damaged()
    if version > fmt.VERSION:
        raise Unsupported(
            f"the repository is of a newer format (version {version}; known is {fmt.VERSION}),"
            f" made by sendense {_text(content, 'program')}",
            hint="use that version of sendense, or a later one",
            version=version,
        )
    return _build(content)


def check_header(header: Header, ring: KeyRing) -> None:
    """Prove that the header is what was written, and that ``ring`` is of this repository."""
    if ring.repository_id != header.id:
        raise Damaged(
            f"the key ring is of repository {ring.repository_id}, the header of {header.id}",
            hint="objects of two repositories were mixed: put the right header back from a copy",
            file=fmt.HEADER,
        )
    if not hmac.compare_digest(header.mac, _mac(header.covered, ring)):
        raise Damaged(
            "the header of the repository was changed since it was written",
            hint=f"put {fmt.HEADER} back from a copy, and find out who can write to the store",
            file=fmt.HEADER,
        )


def _build(content: Content) -> Header:
    mac = content.pop("mac", None)
    try:
        created_at = clock.parse_utc(content["created_at"])
        level = content["compression_level"]
        right = is_uuid(content["id"]) and isinstance(mac, str) and len(mac) == 64 and mac.isascii()
        right = right and (level is None or (type(level) is int and level in LEVELS))
    except (KeyError, TypeError, ValueError):
        raise _damaged() from None
    if not right:
        raise _damaged()
    return Header(
        id=content["id"],
        created_at=created_at,
        program=_text(content, "program"),
        compression_level=level,
        mac=str(mac),
        covered=canonical_json.encode(content),
    )


def _text(content: Content, key: str) -> str:
    """Give a short text that can be shown."""
    value = content.get(key)
    known = isinstance(value, str) and len(value) <= 64 and value.isprintable()
    return str(value) if known else "(unknown version)"


def _mac(covered: bytes, ring: KeyRing) -> str:
    return blake3(covered, key=ring.header_key).hexdigest()


def _damaged() -> Damaged:
    return Damaged(
        f"{fmt.HEADER} cannot be what was written",
        hint=f"put {fmt.HEADER} back from a copy of the repository",
        file=fmt.HEADER,
    )


# --- no header: what is it then? ---


def _explain_absence(store: Store) -> NoReturn:
    """Raise the error that says what is in ``store`` instead."""
    for name, is_it, what, hint in _FOREIGN:
        try:
            found = is_it(store.get(name)) if store.info(name).size <= _MOST else False
        except NotFound:
            continue
        if found:
            raise Rejected(
                f"there is {what} in {store.location}, not a dedup repository",
                hint=hint,
                location=store.location,
            )
    if _holds(store, fmt.PACKS, fmt.INDEX, fmt.POINTS):
        raise Damaged(
            f"the repository in {store.location} has lost its header ({fmt.HEADER})",
            hint=f"put {fmt.HEADER} back from a copy of the repository",
            file=fmt.HEADER,
        )
    if _holds(store, fmt.KEYS):
        raise NotFound(
            f"there is no repository in {store.location}, only the key slot of one that was begun",
            hint=f"remove the objects {fmt.KEYS}*, then run 'sendense repo init' again",
            location=store.location,
        )
    raise NotFound(
        f"there is no repository in {store.location}",
        hint="check the location and that it can be reached; 'sendense repo init' makes a new one",
        location=store.location,
    )


def _holds(store: Store, *prefixes: str) -> bool:
    return any(next(iter(store.list(prefix)), None) is not None for prefix in prefixes)


def _any(data: bytes) -> bool:
    return True


def _borg(data: bytes) -> bool:
    return data.startswith(b"[repository]")


_OTHER_PROGRAM: Final = "open it with that program, or name another place"
_FOREIGN: Final[tuple[tuple[str, Callable[[bytes], bool], str, str], ...]] = (
    ("sendense-repository.json", _any, "a chain of QCOW2 files", "open it as qcow2:<path>"),
    ("kopia.repository", _any, "a repository of Kopia", _OTHER_PROGRAM),
    ("kopia.repository.f", _any, "a repository of Kopia", _OTHER_PROGRAM),
    ("config", _borg, "a repository of Borg", _OTHER_PROGRAM),
    ("config", _any, "what looks like a repository of restic", _OTHER_PROGRAM),
)
"""The object, a look at its content, what it means, and what to do."""
