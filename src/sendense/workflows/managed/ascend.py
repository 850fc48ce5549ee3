"""Restores into CloudStack: planned before anything is touched, and carried out piece by piece.

:func:`plan_restore` asks and decides; it changes nothing.  :func:`restore_into_cloud` is a job: its
plan is remembered first, then each piece before it begins and when it is done
(:mod:`~sendense.workflows.managed.ascend_journal`).  So a worker may die at any line, and the one
that comes after goes on behind what is done, without a second volume or instance.

What fails is left as it is and named, with ids.  A job goes on when it is tried again, and another
job can go on with one that failed (``continues``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import uuid4

from sendense import steps
from sendense.cloudstack import inventory
from sendense.cloudstack.client import CloudClient
from sendense.errors import Cancelled, NotFound, Rejected, SendenseError
from sendense.model.ascend import Aim, AscendPlan, AscendRequest, CloudView, RefusalCode
from sendense.model.ascend_names import owner_of, with_ids
from sendense.model.ascend_order import CloudRestore
from sendense.model.ascend_planning import plan_ascent
from sendense.model.ascend_steps import (
    MARKER,
    NEW,
    AttachVolume,
    DetachRoot,
    NewFile,
    SafetyPoint,
    StartInstance,
    StopInstance,
    TagInstance,
    UntagInstance,
    WriteDisk,
)
from sendense.model.cloud import CloudDomain, CloudKind, CloudPool, CloudProject
from sendense.model.cloud_manifest import CloudManifest
from sendense.model.job import Json
from sendense.model.point import RecoveryPoint
from sendense.repository.protocol import Repository
from sendense.workflows.managed import ascend_disks, ascend_making, ascend_power
from sendense.workflows.managed.ascend_continuing import facts_of_earlier
from sendense.workflows.managed.ascend_gather import looked_at, manifest_of, remembered, view_of
from sendense.workflows.managed.ascend_hosts import reached_plan
from sendense.workflows.managed.ascend_journal import (
    Course,
    Journal,
    Piece,
    pieces_of,
    started_before,
)
from sendense.workflows.managed.ascend_site import Done, Site
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.task import Task

log = logging.getLogger(__name__)

_OF_OTHERS = frozenset(
    {
        RefusalCode.ZONE, RefusalCode.NETWORK, RefusalCode.SERVICE_OFFERING, RefusalCode.POOL,
        RefusalCode.DISK_OFFERING, RefusalCode.TEMPLATE, RefusalCode.OWNER,
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Ground:
    """What a plan was made of."""

    point: RecoveryPoint
    manifest: CloudManifest
    cloud_id: str
    plan: AscendPlan = field(repr=False)


# --- Planning


def plan_restore(estate: Estate, wanted: CloudRestore) -> AscendPlan:
    """Tell all that a restore would do, or what is in its way; nothing is touched."""
    with estate.repository(wanted.repository_id) as repository:
        return _planned(estate, repository, wanted).plan


def _planned(estate: Estate, repository: Repository, wanted: CloudRestore) -> _Ground:
    point = repository.point(wanted.point_id)
    known = remembered(estate, repository, point)
    manifest = known.manifest
    cloud_id = wanted.cloud_id or manifest.cloud_id
    client = _client(estate, cloud_id, manifest)
    request = _with_owner(estate, cloud_id, manifest, wanted.request)
    view = view_of(client, cloud_id, manifest, request)
    request = _completed(estate, manifest, view, with_ids(manifest, view, request))
    plan = reached_plan(estate, cloud_id, plan_ascent(manifest, view, request, known.strays))
    plan = replace(plan, warnings=(*known.warnings, *plan.warnings))
    return _Ground(point, manifest, cloud_id, _for_tenants(plan) if wanted.tenant else plan)


def _with_owner(
    estate: Estate, cloud_id: str, manifest: CloudManifest, request: AscendRequest
) -> AscendRequest:
    if request.owner is None:
        return request
    present = estate.catalog.inventory.present
    domains = [
        each for each in present(cloud_id, CloudKind.DOMAIN) if isinstance(each, CloudDomain)
    ]
    projects = [
        each for each in present(cloud_id, CloudKind.PROJECT) if isinstance(each, CloudProject)
    ]
    owner = owner_of(request.owner, manifest.instance.owner, domains, projects)
    return replace(request, owner=owner)


def _for_tenants(plan: AscendPlan) -> AscendPlan:
    """Leave out what others have: hints name networks, templates and pools of the whole cloud."""
    hint = "ask whoever runs the backups to restore it"
    refusals = tuple(
        replace(refusal, hint=hint) if refusal.code in _OF_OTHERS else refusal
        for refusal in plan.refusals
    )
    return replace(plan, refusals=refusals)


def _client(estate: Estate, cloud_id: str, manifest: CloudManifest) -> CloudClient:
    try:
        return estate.cloud(cloud_id, restore=True)
    except NotFound:
        raise NotFound(
            f"the cloud of the point ({manifest.cloud or cloud_id}) is not known any more",
            hint="name the cloud to restore into; sendense cloud list shows them",
        ) from None


def _completed(
    estate: Estate, manifest: CloudManifest, view: CloudView, request: AscendRequest
) -> AscendRequest:
    """Give new files their names, and find out whether the instance ran before it all began."""
    names = {volume.id: str(uuid4()) for volume in manifest.instance.volumes}
    request = replace(request, file_names={**names, **request.file_names})
    instance = view.instance
    if request.aim is not Aim.IN_PLACE or request.start is not None or instance is None:
        return request
    earlier = instance.tags.get(MARKER)
    # An earlier restore stopped it and did not come to its end: it shall run as it did before.
    if earlier and started_before(estate.catalog.jobs.facts(earlier)):
        return replace(request, start=True)
    return request


# --- Carrying out


def restore_into_cloud(estate: Estate, task: Task) -> Json:
    """Carry out a job of the kind ``restore`` whose content names a cloud."""
    job = task.job
    if job.repository_id is None:
        raise TypeError("a restore has a repository")
    wanted = CloudRestore.of(job.repository_id, job.content)
    journal = Journal.of(task)
    if wanted.continues and journal.course is None:
        journal.inherit(facts_of_earlier(estate, job, wanted))
    with estate.repository(job.repository_id) as repository:
        site = _site(estate, task, repository, journal, wanted)
        total = len(site.course.steps)
        for piece in pieces_of(site.course.steps):
            if piece.number not in journal.done:
                with _explained(site, piece):
                    # It is shown while nothing else is; disks that are written show themselves.
                    task.waiting(f"step {piece.number} of {total}: {piece.steps[0].words}")
                    done = _carry_out(site, piece)
                    steps.reached("ascend-piece-carried-out")
                    journal.finish(piece, done.made, done.said)
                steps.reached("ascend-piece-done")
        return _result(site)


def _site(
    estate: Estate, task: Task, repository: Repository, journal: Journal, wanted: CloudRestore
) -> Site:
    if journal.course is None:
        ground = _planned(estate, repository, wanted)
        ground.plan.ensure()
        plan = ground.plan
        journal.plan(
            Course(
                cloud_id=ground.cloud_id,
                way=plan.way.value if plan.way is not None else "",
                steps=plan.steps,
                warnings=plan.warnings,
                allow_larger=plan.request.allow_larger,
            )
        )
        steps.reached("ascend-planned")
    course = journal.course
    if course is None:  # it was planned just now
        raise TypeError("no plan")
    point = repository.point(wanted.point_id)
    if point.machine.uuid != task.job.subject:
        raise Rejected(f"point {point.id} is not one of {task.job.subject}")
    client = estate.cloud(course.cloud_id, restore=True)
    return Site(
        estate=estate,
        task=task,
        repository=repository,
        point=point,
        manifest=manifest_of(estate, repository, point),
        client=client,
        pools=_pools(client),
        journal=journal,
        course=course,
        continues=wanted.continues,
    )


def _pools(client: CloudClient) -> dict[str, CloudPool]:
    return {pool.id: pool for page in inventory.pools(client) for pool in page}


def _carry_out(site: Site, piece: Piece) -> Done:
    step = piece.steps[0]
    log.info("step %d: %s", piece.number, step.words)
    match step:
        case StopInstance():
            return ascend_power.stop(site, step)
        case StartInstance():
            return ascend_power.start(site, step)
        case TagInstance():
            return ascend_power.tag(site, step)
        case UntagInstance():
            return ascend_power.untag(site, step)
        case SafetyPoint():
            return ascend_disks.safety_point(site, piece, step)
        case WriteDisk():
            return ascend_disks.write_disks(site, piece)
        case NewFile():
            return ascend_disks.new_file(site, piece)
        case AttachVolume():
            return ascend_making.attach(site, step)
        case DetachRoot():
            return ascend_making.detach_root(site, piece, step)
        case _:
            return ascend_making.make(site, piece, step)


# --- What is said of it


@contextmanager
def _explained(site: Site, piece: Piece) -> Iterator[None]:
    """Add to an error what there is now, and how it goes on."""
    try:
        yield
    except Cancelled as error:
        error.hint = "; ".join(_left(site, piece))
        raise
    except SendenseError as error:
        words = [error.hint] if error.hint else []
        words += _left(site, piece)
        error.hint = "; ".join(words)
        raise


def _left(site: Site, piece: Piece) -> list[str]:
    journal, words = site.journal, []
    writes = [step for step in piece.steps if isinstance(step, WriteDisk)]
    if writes and journal.begun(piece):
        names = ", ".join(
            f"{step.label} ({step.volume_id or journal.made.get(step.source, '')})"
            for step in writes
        )
        words.append(f"half restored, and not to be started: {names}")
    made = [f"{each['kind']} {each['name']} ({each['id']})" for each in journal.things()]
    if made:
        words.append(f"made so far: {', '.join(made)}")
    files = [
        step.path
        for other in pieces_of(site.course.steps)
        for step in other.steps
        if isinstance(step, NewFile) and other.number in journal.done
        if step.source not in journal.made
    ]
    if files:
        words.append(f"written, and not imported yet: {', '.join(files)}")
    words += _standing(site)
    safety = _safety_point(journal)
    if safety:
        words.append(f"point {safety} holds it as it was before")
    total = len(site.course.steps)
    words.append(
        f"this was step {piece.number} of {total} ({piece.steps[0].words}); to go on:"
        f" sendense cloud restore {site.point.id} --continue {site.task.job.id}"
    )
    return words


def _standing(site: Site) -> list[str]:
    """Tell how an instance was left that was there before."""
    journal, words = site.journal, []
    pieces = pieces_of(site.course.steps)
    done = [piece.steps[0] for piece in pieces if piece.number in journal.done]
    stopped = [step for step in done if isinstance(step, StopInstance) and step.instance_id != NEW]
    wrote = any(isinstance(piece.steps[0], WriteDisk) and journal.begun(piece) for piece in pieces)
    if stopped and not wrote and not any(isinstance(step, StartInstance) for step in done):
        words.append(f"{stopped[0].name} was stopped for it, and no disk of it is written over yet")
    marked = [step for step in done if isinstance(step, TagInstance) and MARKER in step.tags]
    if marked and not any(isinstance(step, UntagInstance) for step in done):
        words.append(f"the tag {MARKER} stays on it until it is restored, or taken off")
    return words


def _safety_point(journal: Journal) -> str:
    return next(
        (str(said["safety_point"]) for said in journal.done.values() if "safety_point" in said), ""
    )


def _result(site: Site) -> Json:
    journal, course = site.journal, site.course
    said = journal.done.values()
    instance = journal.made.get(NEW) or _instance_of(course)
    if instance:
        _known_now(site, instance)
    return {
        "point": site.point.id,
        "cloud": course.cloud_id,
        "way": course.way,
        "instance": instance,
        "made": {name: made for name, made in journal.made.items() if name != NEW},
        "new": journal.things(),
        "written": [
            *(item for each in said for item in each.get("written", ())),
            *(each for each in said if "file" in each),
        ],
        "safety_point": _safety_point(journal) or None,
        "left_over": [each["left_over"] for each in said if "left_over" in each],
        "started": any(each.get("started") for each in said),
        "warnings": [*course.warnings, *(each["warning"] for each in said if "warning" in each)],
    }


def _instance_of(course: Course) -> str:
    """Give the instance that the plan speaks of."""
    for step in course.steps:
        if isinstance(step, (StopInstance, TagInstance, StartInstance, AttachVolume, SafetyPoint)):
            return step.instance_id
    return ""


def _known_now(site: Site, uuid: str) -> None:
    """Have the inventory know the instance; an index, so that what fails here fails no restore."""
    try:
        looked_at(site.estate, site.course.cloud_id, uuid)
    except SendenseError as error:
        log.warning("instance %s is not in the inventory yet: %s", uuid, error)
