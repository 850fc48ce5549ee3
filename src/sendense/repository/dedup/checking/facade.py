"""The way in: checking and repairing a repository as a whole."""

from __future__ import annotations

from sendense.errors import Rejected
from sendense.model.progress import ProgressListener, silent
from sendense.repository.dedup.checking.findings import CheckLevel, CheckResult
from sendense.repository.dedup.checking.repair_plan import RepairPlan, prepare
from sendense.repository.dedup.checking.repairing import Repairing, RepairResult
from sendense.repository.dedup.checking.whole_check import WholeCheck
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.dedup.repository import DedupRepository

SAMPLE_PERCENT = 5.0
"""Of the packs, where nobody says how many."""


def check(
    repository: DedupRepository,
    level: CheckLevel,
    percent: float = SAMPLE_PERCENT,
    progress: ProgressListener = silent,
) -> CheckResult:
    """Check a repository, and remember what is found.

    ``percent`` of the packs are read at the level of samples.  Backups and restores go on
    meanwhile; the collection of garbage and a repair do not.
    """
    if not 0 < percent <= 100:
        raise Rejected(f"{percent:g} percent cannot be read", hint="name a number up to 100")
    parts = repository.parts
    with parts.leases.acquire(Wish(LeaseKind.CHECK, "a check of the repository")) as lease:
        checking = WholeCheck(
            parts, repository.header, lease, level=level, percent=percent, progress=progress
        )
        return checking.run()


def plan_repair(repository: DedupRepository, progress: ProgressListener = silent) -> RepairPlan:
    """Say what a repair would do now; changes nothing.

    What only the reading of all data finds, it knows from the notes of a check at that level.
    """
    parts = repository.parts
    with parts.leases.acquire(Wish(LeaseKind.CHECK, "the plan of a repair")) as lease:
        prepared = prepare(parts, lease.check, progress)
        prepared.close()
        return prepared.plan


def repair(repository: DedupRepository, progress: ProgressListener = silent) -> RepairResult:
    """Mend what can be mended, while nobody writes; restores go on meanwhile."""
    parts = repository.parts
    with parts.leases.acquire(Wish(LeaseKind.REPAIR, "a repair of the repository")) as lease:
        prepared = prepare(parts, lease.check, progress)
        try:
            return Repairing(prepared, lease, progress).run()
        finally:
            prepared.close()
