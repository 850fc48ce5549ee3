"""Looking at the small objects that are no points: does each open, and is it what its name says?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from sendense.errors import Damaged, NotFound, SendenseError
from sendense.repository.dedup import condemning, damages, header, holding, slots
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.canonical_json import Content
from sendense.repository.dedup.checking.findings import CheckFinding, Weight, What
from sendense.repository.dedup.checking.rereading import UNREADABLE, Refused, twice
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.header import Header
from sendense.repository.dedup.lease_claim import Claim
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.sealing import unseal_json
from sendense.storage.store import ObjectInfo

Read = Callable[[Parts, ObjectInfo], object]


def look_at_header(parts: Parts, known: Header) -> list[CheckFinding]:
    """Hold the header against the one that the repository was opened with."""
    try:
        header.check_header(header.read_header(parts.store), parts.ring)
    except (*UNREADABLE, NotFound) as error:
        return [CheckFinding(What.HEADER, fmt.HEADER, error.message, Weight.DAMAGE)]
    return []


def look_at_slots(parts: Parts) -> list[CheckFinding]:
    """Hold every key slot against the ring."""
    found = slots.list_slots(parts.store, parts.ring.repository_id)
    findings = [Refused(item.name, item.error).finding(What.SLOT) for item in found.unreadable]
    ours = 0
    for slot in found.slots:
        if slot.is_of(parts.ring):
            ours += 1
            continue
        message = f"{slot.name} is not what a holder of the repository's key has written"
        if slot.generation > parts.ring.newest_epoch:
            message = f"{slot.name} is of a newer key than the one in hand"
        findings.append(CheckFinding(What.SLOT, slot.name, message, Weight.RISK))
    if not ours:
        message = "the repository has no key slot that opens it"
        findings.append(CheckFinding(What.NO_SLOT, fmt.KEYS, message, Weight.DAMAGE))
    return findings


def look_at_others(parts: Parts) -> list[Refused]:
    """Give the leases, condemnations, notes, holds and sequences that cannot be read."""
    return [refused for prefix in READERS for refused in _look(parts, prefix)]


def _look(parts: Parts, prefix: str) -> Iterator[Refused]:
    read = READERS[prefix]
    for item in parts.store.list(prefix):
        try:
            twice(partial(read, parts, item), item)
        except NotFound:
            continue  # removed since it was listed
        except UNREADABLE as error:
            yield Refused(item.name, error)


def _lease(parts: Parts, item: ObjectInfo) -> object:
    return Claim.from_json(_content(parts, item, SealedKind.LEASE), item.name)


def _hold(parts: Parts, item: ObjectInfo) -> object:
    return holding.parse(_content(parts, item, SealedKind.HOLD), item.name)


def _sequence(parts: Parts, item: ObjectInfo) -> object:
    return _content(parts, item, SealedKind.SEQUENCE)


def _note(parts: Parts, item: ObjectInfo) -> object:
    return damages.read(parts, item.name)


def _content(parts: Parts, item: ObjectInfo, kind: SealedKind) -> Content:
    return unseal_json(parts.ring, item.name, kind, parts.store.get(item.name))


READERS: dict[str, Read] = {
    fmt.LEASES: _lease,
    fmt.CONDEMNED: condemning.read,
    fmt.DAMAGE: _note,
    fmt.HOLDS: _hold,
    fmt.SEQUENCES: _sequence,
}
_KINDS: dict[str, tuple[What, Weight]] = {
    fmt.LEASES: (What.LEASE, Weight.INFORMATION),
    fmt.CONDEMNED: (What.CONDEMNATION, Weight.RISK),
    fmt.DAMAGE: (What.NOTE, Weight.RISK),
    fmt.HOLDS: (What.HOLD, Weight.RISK),
    fmt.SEQUENCES: (What.SEQUENCE, Weight.RISK),
    fmt.CHECKED: (What.CHECKED, Weight.INFORMATION),
}


def finding_of(refused: Refused) -> CheckFinding:
    """Give the finding about one of these objects."""
    what, weight = _KINDS[refused.name.partition("/")[0] + "/"]
    return refused.finding(what, weight)


def explained(refused: Refused, parts: Parts) -> Refused:
    """Tell damage from an object of a newer key.

    The epoch stands in plain before an object.  One that no key slot states is no newer key,
    but a flipped bit.
    """
    epoch = refused.error.data.get("epoch")
    if epoch is None or refused.damaged:
        return refused
    newest = max(
        (slot.generation for slot in slots.list_slots(parts.store, parts.ring.repository_id).slots),
        default=parts.ring.newest_epoch,
    )
    if int(epoch) <= newest:
        return refused
    error: SendenseError = Damaged(
        f"{refused.name} states a key that was never made (epoch {epoch})", file=refused.name
    )
    return Refused(refused.name, error)
