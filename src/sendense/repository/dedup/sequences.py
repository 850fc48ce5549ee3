"""The highest sequence that a machine's points ever had, where its newest point is gone.

Points carry their sequence in their names, so a listing tells the highest.  Only when the
newest point is deleted, its number has to be kept: as an object that is nothing but its name.
"""

from __future__ import annotations

import re

from sendense.errors import Damaged, NotFound, Unsupported
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal_json, unseal_json

_NAME = re.compile(r"sequences/[0-9a-f]{32}/(\d{10})")


def highest(parts: Parts, tag: str) -> int:
    """Give the highest remembered number; 0 where there is none."""
    return max((number for _, number in _remembered(parts, tag)), default=0)


def remember(parts: Parts, tag: str, number: int) -> None:
    """Remember a number before the point that has it is deleted."""
    older = _remembered(parts, tag)
    if any(found >= number for _, found in older):
        return
    name = f"{_folder(tag)}{number:010d}"
    parts.store.put(name, seal_json(parts.ring, name, SealedKind.SEQUENCE, {}))
    parts.store.delete([item for item, _ in older])


def _remembered(parts: Parts, tag: str) -> list[tuple[str, int]]:
    found = []
    for item in parts.store.list(_folder(tag)):
        match = _NAME.fullmatch(item.name)
        if match and _is_ours(parts, item.name):
            found.append((item.name, int(match[1])))
    return found


def _is_ours(parts: Parts, name: str) -> bool:
    """Tell whether a name was given by somebody who holds the key."""
    try:
        unseal_json(parts.ring, name, SealedKind.SEQUENCE, parts.store.get(name))
    except (Damaged, NotFound, Unsupported):
        return False
    return True


def _folder(tag: str) -> str:
    return f"{fmt.SEQUENCES}{tag}/"
