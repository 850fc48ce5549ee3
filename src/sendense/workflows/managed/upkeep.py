"""Looking after repositories: verify, prune, collect garbage, copy, and list anew."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sendense import clock
from sendense.errors import Damaged, SendenseError
from sendense.model.coding import decode
from sendense.model.holdings import entry_of
from sendense.model.job import Json
from sendense.model.point import RecoveryPoint
from sendense.model.progress import Progress, ProgressListener
from sendense.model.retention import KeepRules
from sendense.repository.dedup.collecting.plan import CollectOptions
from sendense.repository.dedup.collecting.running import collect
from sendense.repository.dedup.repository import DedupRepository
from sendense.repository.protocol import LostPoint, Repository, VerifyLevel
from sendense.workflows.copy import run_copy
from sendense.workflows.copy_planning import CopyRequest, plan_copy
from sendense.workflows.managed.ascend_continuing import needed_to_undo
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.task import Task, optional, text
from sendense.workflows.prune import plan_prune, run_prune
from sendense.workflows.verify import verify_points

log = logging.getLogger(__name__)


def verify(estate: Estate, task: Task) -> Json:
    """Check points; damage is a failed job that names them."""
    job = task.job
    level = VerifyLevel(text(job.content, "level", VerifyLevel.DATA.value))
    with estate.repository(str(job.repository_id)) as repository:
        chosen = _chosen(repository, job.content)
        checked = verify_points(repository, chosen, level, listener=_asking(task))
        relist(estate, str(job.repository_id), repository)
    bad = [item.point.id for item in checked if not item.sound]
    if bad:
        raise Damaged(
            f"{len(bad)} of {len(checked)} points are not sound",
            hint="'sendense points show' tells what is damaged; the next backup heals what it can",
            points=", ".join(bad),
        )
    return {"verified": len(checked), "level": level.value}


def prune(estate: Estate, task: Task) -> Json:
    """Delete the points that no rule keeps."""
    job = task.job
    # How long a safety point stays is said once for all, and not by each policy.
    rules = replace(decode(KeepRules, dict(job.content["keep"])), safety=estate.engine.keep_safety)
    machine = optional(job.content, "machine")
    with estate.repository(str(job.repository_id)) as repository:
        needed = needed_to_undo(estate, str(job.repository_id))
        plan = plan_prune(repository, rules, machine=machine, now=clock.now(), needed=needed)
        deleted = run_prune(repository, plan, listener=_asking(task))
        relist(estate, str(job.repository_id), repository)
    return {
        "deleted": list(deleted),
        "kept": [
            {"point": item.point.id, "reason": item.verdict.reason}
            for item in plan.judged
            if item.verdict.keep
        ],
    }


def collect_garbage(estate: Estate, task: Task) -> Json:
    """Give back the space that nothing refers to any more."""
    with estate.repository(str(task.job.repository_id)) as repository:
        if not isinstance(repository, DedupRepository):
            return {"freed_bytes": 0, "note": "this kind of repository has no garbage"}
        done = collect(repository, CollectOptions(), _asking(task))
    return {
        "freed_bytes": done.plan.freed_now,
        "freed_later_bytes": done.plan.freed_later,
        "unreadable": list(done.unreadable),
    }


def copy(estate: Estate, task: Task) -> Json:
    """Copy points to another repository; what is there already is not copied again."""
    job = task.job
    request = CopyRequest(
        points=tuple(str(item) for item in job.content.get("points") or ()),
        machine=optional(job.content, "machine"),
        last=optional(job.content, "last"),
    )
    target_id = text(job.content, "to")

    @contextmanager
    def watch(_machine: str) -> Iterator[ProgressListener]:
        yield _asking(task)

    with (
        estate.repository(str(job.repository_id)) as source,
        estate.repository(target_id) as target,
    ):
        planned = plan_copy(source, target, request)
        results = run_copy(source, target, planned.plan, watch=watch)
        relist(estate, target_id, target)
    failed = [item for item in results if item.error is not None]
    if failed:
        first = failed[0].error
        if isinstance(first, SendenseError):
            raise first
        raise RuntimeError("a copy was broken off") from first
    return {"copied": sum(1 for item in results if item.point is not None), "points": len(results)}


def relist(estate: Estate, repository_id: str, repository: Repository) -> int:
    """Make the catalogue's list of a repository's points again from what is stored."""
    began = clock.now()
    holds = repository.holds()
    entries = (entry_of(point, repository_id, holds) for point in repository.points())
    return estate.catalog.points.replace(repository_id, entries, listed_at=began)


def _chosen(repository: Repository, content: Json) -> tuple[RecoveryPoint | LostPoint, ...]:
    named = content.get("points") or ()
    if named:
        return tuple(repository.point(str(name)) for name in named)
    machine = optional(content, "machine")
    return (*repository.points(machine), *repository.lost(machine))


def _asking(task: Task) -> ProgressListener:
    """Give a listener that passes progress on; these have no other place to be stopped at."""

    def listen(progress: Progress, /) -> None:
        task.report(progress)
        task.check()

    return listen
