"""Condemnations: packs that nobody may newly refer to, before they are removed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sendense.errors import Damaged, NotAllowed, NotFound, SendenseError, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal_json, unseal_json
from sendense.storage.store import ObjectInfo


@dataclass(frozen=True)
class Condemnation:
    """Some packs on their way out."""

    id: str
    packs: frozenset[str]
    since: datetime
    """By the store's clock."""

    @property
    def name(self) -> str:
        """Give the name of its object."""
        return f"{fmt.CONDEMNED}{self.id}"


def condemn(parts: Parts, packs: Iterable[str]) -> str:
    """Condemn packs; gives the condemnation's id."""
    made = secrets.token_hex(16)
    name = f"{fmt.CONDEMNED}{made}"
    value = {"packs": sorted(packs)}
    parts.store.put(name, seal_json(parts.ring, name, SealedKind.CONDEMNED, value), create=True)
    return made


def read_all(parts: Parts, doubts: list[SendenseError] | None = None) -> tuple[Condemnation, ...]:
    """Read all condemnations.

    One that cannot be read is an error; where ``doubts`` is given, it is added to that and
    passed over.  Who has not read it has not seen it, so its packs stay as long as he is at work.
    """
    found = []
    for item in parts.store.list(fmt.CONDEMNED):
        try:
            found.append(read(parts, item))
        except NotFound:
            continue  # carried out since it was listed
        except (Damaged, NotAllowed, Unsupported) as error:
            if doubts is None:
                raise
            doubts.append(error)
    return tuple(found)


def read(parts: Parts, item: ObjectInfo) -> Condemnation:
    """Read one condemnation."""
    value = unseal_json(parts.ring, item.name, SealedKind.CONDEMNED, parts.store.get(item.name))
    try:
        packs = frozenset(map(str, value["packs"]))
    except (KeyError, TypeError) as error:
        raise Damaged(f"{item.name} is no condemnation", file=item.name) from error
    return Condemnation(item.name.removeprefix(fmt.CONDEMNED), packs, item.modified)
