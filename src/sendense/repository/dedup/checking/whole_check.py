"""The check of a whole repository, from its lease to its result.

What was found is remembered also when the check is broken off in the middle: bad records are
noted, so that backups store them again, and packs that were read are not read first the next time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from sendense import clock
from sendense.errors import NotAllowed, OutOfSpace, SendenseError, Unavailable
from sendense.model.progress import ProgressListener
from sendense.repository.dedup import damages
from sendense.repository.dedup.checking import (
    conclusions,
    notes,
    pack_listing,
    point_look,
    small_objects,
)
from sendense.repository.dedup.checking.checked_packs import CheckedPacks
from sendense.repository.dedup.checking.findings import (
    CheckFinding,
    CheckLevel,
    CheckResult,
    Weight,
)
from sendense.repository.dedup.checking.notes import Settlement
from sendense.repository.dedup.checking.pack_proof import PackProof, PackTask
from sendense.repository.dedup.checking.pack_reading import PackReading
from sendense.repository.dedup.checking.survey import (
    Survey,
    adopt,
    enter_notes,
    survey,
    walk,
)
from sendense.repository.dedup.header import Header
from sendense.repository.dedup.lease import Lease
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.shelf import PackSummary

log = logging.getLogger(__name__)

_REMEMBER_S = 600.0
"""How often what was read is written down."""
_NEVER = datetime.min.replace(tzinfo=UTC)
_HEAVIEST = (Weight.DAMAGE, Weight.RISK, Weight.INFORMATION)


class WholeCheck:
    """One check under way."""

    def __init__(
        self,
        parts: Parts,
        header: Header,
        lease: Lease,
        *,
        level: CheckLevel,
        percent: float,
        progress: ProgressListener,
    ) -> None:
        """Check while ``lease`` is held; ``percent`` of the packs at the level of samples."""
        self._parts = parts
        self._header = header
        self._lease = lease
        self._level = level
        self._percent = percent
        self._progress = progress
        self._began = clock.monotonic()
        self._now = parts.leases.store_now()
        self._checked = CheckedPacks(parts)
        self._good: list[str] = []
        """Packs that were read and not yet written down."""
        self._read: set[str] = set()
        self._bytes = 0

    def run(self) -> CheckResult:
        """Check, remember, and tell."""
        found = survey(self._parts, self._lease.check)
        try:
            self._read_packs(found)
            enter_notes(found, self._read)
            walk(found, self._lease.check, self._progress)
            self._lease.check()
            settlement = self._remember(found)
            return self._result(found, settlement)
        finally:
            found.close()

    # --- reading packs ---

    def _read_packs(self, found: Survey) -> None:
        if self._level is CheckLevel.STRUCTURE:
            return
        if self._level is CheckLevel.DATA and found.packs.unnamed:
            adopt(found)
        found.blame.settle()
        chosen = self._chosen(found)
        reading = PackReading(
            found.parts,
            check=self._lease.check,
            progress=self._progress,
            total=sum(item.size for item in chosen),
        )
        try:
            self._take(found, reading.run(self._tasks(found, chosen)))
        except BaseException:
            with suppress(SendenseError):
                self._remember_in_haste(found)
            raise
        finally:
            self._bytes = reading.done
        self._write_down()

    def _chosen(self, found: Survey) -> list[PackSummary]:
        """Give the packs to read, those first that were not read for longest."""
        there = [item for item in found.fresh.index.packs() if item.head.id not in found.packs.gone]
        times = self._checked.times
        there.sort(key=lambda item: (times.get(item.head.id, _NEVER), item.head.id))
        if self._level is CheckLevel.DATA:
            return there
        count = -int(-len(there) * self._percent // 100)
        deciding = notes.deciding_packs(found.notes, conclusions.places(found))
        return [
            item for place, item in enumerate(there) if place < count or item.head.id in deciding
        ]

    def _tasks(self, found: Survey, chosen: Iterable[PackSummary]) -> Iterator[PackTask]:
        for item in chosen:
            entries = found.fresh.index.entries_of(item.head.id)
            yield PackTask(item.head, item.size, entries)

    def _take(self, found: Survey, proofs: Iterator[PackProof]) -> None:
        """Enter what was proven of each pack."""
        written = clock.monotonic()
        for proof in proofs:
            conclusions.enter(found, proof)
            if proof.failure is None:
                self._read.add(proof.task.head.id)
            if proof.good:
                self._good.append(proof.task.head.id)
            if clock.monotonic() - written >= _REMEMBER_S:
                self._write_down()
                written = clock.monotonic()

    # --- remembering ---

    def _write_down(self) -> None:
        with _telling("which packs were read"):
            self._checked.add(self._good, self._now)
            self._good = []

    def _remember_in_haste(self, found: Survey) -> None:
        """Write down what is known in the middle: no point is named yet."""
        self._write_down()
        proven = conclusions.proven(found, self._read, everything=self._everything)
        if proven.records or proven.packs:
            damages.remember(
                self._parts, points=frozenset(), records=proven.records, packs=proven.packs
            )

    def _remember(self, found: Survey) -> Settlement:
        proven = conclusions.proven(found, self._read, everything=self._everything)
        settlement = notes.settle(found.notes, proven)
        with _telling("what was found"):
            notes.carry_out(self._parts, settlement)
            if proven.everything:
                lost = conclusions.lost_notes(found)
                self._parts.store.delete([item.name for item in lost])
            self._checked.tidy({item.head.id for item in found.fresh.index.packs()})
        return settlement

    @property
    def _everything(self) -> bool:
        return self._level is CheckLevel.DATA

    # --- telling ---

    def _result(self, found: Survey, settlement: Settlement) -> CheckResult:
        points_gone = point_look.gone(self._parts, found.points)
        findings = [
            *small_objects.look_at_header(self._parts, self._header),
            *small_objects.look_at_slots(self._parts),
            *found.points.findings(),
            *points_gone,
            *conclusions.index_findings(found),
            *conclusions.cause_findings(found),
            *conclusions.noted(found, settlement),
            *pack_listing.strays(found.packs, self._now, found.needed),
            *self._others(found),
        ]
        findings.sort(key=lambda item: (_HEAVIEST.index(item.weight), item.what.value, item.object))
        told = [item.object for item in points_gone if item.weight is Weight.INFORMATION]
        self._parts.seen.forget(told)
        touched = {
            point for item in findings if item.weight is Weight.DAMAGE for point in item.points
        }
        return CheckResult(
            level=self._level,
            findings=tuple(findings),
            points=len(found.points.named),
            touched=tuple(sorted(touched)),
            packs=len(self._read),
            packs_total=found.packs.total,
            checked_bytes=self._bytes,
            healed=tuple(sorted(settlement.healed)),
            seconds=clock.monotonic() - self._began,
        )

    def _others(self, found: Survey) -> Iterator[CheckFinding]:
        """Tell of small objects that cannot be read."""
        lost = {item.name for item in conclusions.lost_notes(found)} if self._everything else set()
        for item in [*found.others, *self._checked.unreadable]:
            finding = small_objects.finding_of(item)
            gone = item.name in lost
            yield replace(finding, weight=Weight.INFORMATION) if gone else finding


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Go on where the store cannot be written, and say what is not remembered."""
    try:
        yield
    except (NotAllowed, OutOfSpace, Unavailable) as error:
        log.warning("%s cannot be remembered: %s", what, error)
