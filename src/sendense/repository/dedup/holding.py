"""Pins and locks as objects: ``holds/<point id>/<id>``, each sealed and never changed.

A change is a new object, then the removal of the older ones.  Between the two a point
has both, and the stricter counts.  An object that cannot be read holds its point as a
pin: what it said may have been a lock, and nobody loses a point over a flipped bit.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pydantic import TypeAdapter, ValidationError

from sendense import clock
from sendense.errors import Damaged, NotAllowed, NotFound, Rejected, Unsupported
from sendense.model.hold import Hold, HoldKind, with_hold, without_hold
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.canonical_json import Content
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import seal_json, unseal_json

log = logging.getLogger(__name__)

_HOLD: TypeAdapter[Hold] = TypeAdapter(Hold)

UNREADABLE = "its pin or lock cannot be read"
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def read_all(parts: Parts) -> tuple[Hold, ...]:
    """Give all holds, one of each kind for a point."""
    return tuple(_strictest(hold for _, hold in _read(parts, fmt.HOLDS)))


def read_of(parts: Parts, point_id: str) -> tuple[Hold, ...]:
    """Give the holds of one point."""
    return tuple(_strictest(hold for _, hold in _read(parts, f"{fmt.HOLDS}{point_id}/")))


def add(parts: Parts, hold: Hold) -> None:
    """Pin or lock a point that is there."""
    older = list(_read(parts, f"{fmt.HOLDS}{hold.point_id}/"))
    with_hold(tuple(_strictest(item for _, item in older)), hold, clock.now())
    name = f"{fmt.HOLDS}{hold.point_id}/{secrets.token_hex(16)}"
    value = _HOLD.dump_python(hold, mode="json")
    parts.store.put(name, seal_json(parts.ring, name, SealedKind.HOLD, value), create=True)
    parts.store.delete([name for name, item in older if item.kind is hold.kind])


def remove(parts: Parts, point_id: str, kind: HoldKind) -> None:
    """Take a hold off, where that is allowed."""
    found = list(_read(parts, f"{fmt.HOLDS}{point_id}/"))
    without_hold(tuple(_strictest(item for _, item in found)), point_id, kind, clock.now())
    parts.store.delete([name for name, item in found if item.kind is kind])


def forget(parts: Parts, point_id: str) -> None:
    """Remove what is left of the holds of a point that is deleted."""
    parts.store.delete([item.name for item in parts.store.list(f"{fmt.HOLDS}{point_id}/")])


def _strictest(holds: Iterable[Hold]) -> Iterator[Hold]:
    found: dict[tuple[str, HoldKind], Hold] = {}
    for hold in holds:
        key = (hold.point_id, hold.kind)
        other = found.get(key)
        if other is None or _end(hold) >= _end(other):
            found[key] = hold
    return iter(sorted(found.values(), key=lambda item: (item.point_id, item.kind.value)))


def _end(hold: Hold) -> datetime:
    return hold.until or hold.made_at


def parse(value: Content, name: str) -> Hold:
    """Give the hold that a document stands for; ``name`` is for the error."""
    try:
        return _HOLD.validate_json(json.dumps(value), strict=True)
    except (Rejected, ValidationError) as error:
        raise Damaged(f"{name} is no pin and no lock", file=name) from error


def _read(parts: Parts, prefix: str) -> Iterator[tuple[str, Hold]]:
    for item in parts.store.list(prefix):
        point_id = item.name.removeprefix(fmt.HOLDS).partition("/")[0]
        try:
            value = unseal_json(parts.ring, item.name, SealedKind.HOLD, parts.store.get(item.name))
            hold = parse(value, item.name)
        except NotFound:
            continue  # replaced since it was listed
        except (Damaged, NotAllowed, Unsupported) as error:
            log.warning("%s", error)
            hold = Hold(point_id, HoldKind.PIN, None, UNREADABLE, _UNKNOWN_TIME)
        if hold.point_id == point_id:
            yield item.name, hold
