"""Keeping the local index in step with the index objects of the store.

The order matters: a writer has its lease before it calls :func:`refresh`, so that a
condemnation is seen here, or its author sees the lease (``docs/format.md``, "Order of
writing").
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sendense.errors import Damaged, NotAllowed, NotFound, SendenseError, Unsupported
from sendense.repository.dedup import condemning, damages
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.ahead import beside
from sendense.repository.dedup.damages import DamageNote
from sendense.repository.dedup.entries import PackRecord
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.index_objects import decode_index, encode_index
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal, unseal

log = logging.getLogger(__name__)


def put_index(parts: Parts, records: Sequence[PackRecord]) -> str:
    """Store the directories of packs that are durable; gives the index object's name."""
    name = f"{fmt.INDEX}{secrets.token_hex(16)}"
    payload = encode_index(records)
    parts.store.put(name, seal(parts.ring, name, SealedKind.INDEX, payload), create=True)
    return name


def read_index(parts: Parts, name: str) -> list[PackRecord]:
    """Read one index object."""
    payload = unseal(parts.ring, name, SealedKind.INDEX, parts.store.get(name))
    try:
        return decode_index(payload)
    except Damaged as error:
        raise Damaged(f"{name} is no index object: {error.message}", file=name) from error


@dataclass(frozen=True)
class Fresh:
    """What was read beside the index objects."""

    condemnations: frozenset[str]
    """Their ids: what the holder of a lease has seen."""
    damage: DamageNote
    """All notes of it together."""


def refresh(parts: Parts, doubts: list[SendenseError] | None = None) -> Fresh:
    """Bring the local index up to date; gives what was seen on the way.

    An object that cannot be read is an error; where ``doubts`` is given, it is added to that
    and passed over.  So can go on who takes what he does not find for not stored.  Who removes
    what he finds no use for must not.
    """
    of_damage: list[SendenseError] | None = None if doubts is None else []
    with beside(lambda: damages.read_all(parts, of_damage)) as notes:
        condemned = condemning.read_all(parts, doubts)
        damage = damages.together(notes())
    if doubts is not None:
        doubts += of_damage or ()
    replaced: set[str] = set()
    while new := _catch_up(parts, doubts) - replaced:
        log.debug("%d index objects came or went while they were read", len(new))
        replaced |= new  # a listing that lags shows them again
    parts.index.set_condemned(frozenset(pack for item in condemned for pack in item.packs))
    parts.index.set_damaged(damage.records)
    parts.index.set_bad_packs(damage.packs)
    return Fresh(frozenset(item.id for item in condemned), damage)


def _catch_up(parts: Parts, doubts: list[SendenseError] | None) -> set[str]:
    """Add the index objects that are new, and forget those that are gone.

    Gives those of which the listing was wrong: they were listed and not there (their successors
    came later), or somebody entered them meanwhile who has seen another listing.

    What is known is asked first.  An object that another thread or process enters meanwhile
    would otherwise be missing in a listing that is older, and taken for gone.
    """
    known = parts.index.names()
    stored = frozenset(item.name for item in parts.store.list(fmt.INDEX))
    absent: set[str] = set()
    new = _fetch(parts, sorted(stored - known), absent, doubts)
    parts.index.apply(new, sorted(known - stored))
    return absent | parts.index.count_only(stored)


def _fetch(
    parts: Parts, names: Sequence[str], absent: set[str], doubts: list[SendenseError] | None
) -> Iterator[tuple[str, list[PackRecord]]]:
    for name in names:
        try:
            yield name, read_index(parts, name)
        except NotFound:
            absent.add(name)
        except (Damaged, NotAllowed, Unsupported) as error:
            if doubts is None:
                raise
            if name not in {doubt.data.get("file") for doubt in doubts}:
                doubts.append(error)
