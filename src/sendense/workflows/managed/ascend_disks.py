"""Steps of a restore into a cloud that move bytes: the safety point, and disks that are written.

What an agent was told to do is remembered before, and settled by whoever comes after a process
that died: a try that the agent completed has succeeded, any other is given up and begun anew.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable
from dataclasses import asdict

from sendense.cloudstack import actions, inventory
from sendense.errors import Conflict, NotFound, Rejected, SendenseError
from sendense.fleet.remote_host import CaptureTerms
from sendense.model.ascend_steps import NewFile, SafetyPoint, WriteDisk
from sendense.model.cloud import CloudInstance, CloudVolume
from sendense.model.coding import decode
from sendense.model.job import Json
from sendense.model.places import NoPlace, place_of
from sendense.model.point import SAFETY, Consistency
from sendense.model.restoring import VolumePlace
from sendense.workflows.managed.ascend_gather import looked_at, manifest_of
from sendense.workflows.managed.ascend_hosts import host_with
from sendense.workflows.managed.ascend_journal import Piece
from sendense.workflows.managed.ascend_power import ensure_held
from sendense.workflows.managed.ascend_site import Done, Site
from sendense.workflows.managed.ascend_watch import STEADY, KeptStopped
from sendense.workflows.managed.backup import record
from sendense.workflows.managed.cloud_guard import prepare_capture
from sendense.workflows.managed.cloud_hosts import host_reaching
from sendense.workflows.planning import BackupRequest
from sendense.workflows.remote_backup import Attempt, RemoteBackupOptions, back_up_remotely
from sendense.workflows.remote_backup import settle as settle_capture
from sendense.workflows.remote_destinations import OntoVolumes, ToPool, plan_remote_restore
from sendense.workflows.remote_restore import RemoteRestoreOptions, run_remote_restore, settle

# --- The safety point


def safety_point(site: Site, piece: Piece, step: SafetyPoint) -> Done:
    """Back an instance up as it is now; gives the point that undoes the restore."""
    for fact in site.journal.begun(piece):
        with site.estate.agent(str(fact["host"])) as client:
            found = settle_capture(client, site.repository, decode(Attempt, fact["attempt"]))
        if found is not None:
            record(site.estate, site.task.job, site.repository, found)
            _ensure_holds(site, found.id, step)
            return Done(said={"safety_point": found.id})
    try:
        point = _captured(site, piece, step.instance_id)
    except SendenseError as error:
        if not error.retryable:
            error.hint = f"{error.hint or 'mend that'}, or restore without a safety point"
        raise
    _ensure_holds(site, point, step)
    return Done(said={"safety_point": point})


def _ensure_holds(site: Site, point_id: str, step: SafetyPoint) -> None:
    """Refuse a point that would not undo all that is written over."""
    point = site.repository.point(point_id)
    held = {volume.id for volume in manifest_of(site.estate, site.repository, point).volumes}
    missing = [each for each in step.volume_ids if each not in held]
    if missing:
        raise Conflict(
            f"the safety point {point_id} does not hold {', '.join(missing)}",
            hint="have these volumes backed up too, or restore without a safety point",
        )


def ensure_undoable(site: Site) -> None:
    """Refuse to write where the safety point that was made is not there any more."""
    for said in site.journal.done.values():
        if "safety_point" in said:
            try:
                site.repository.point(str(said["safety_point"]))
            except NotFound:
                raise Conflict(
                    f"the safety point {said['safety_point']} is not there any more",
                    hint="begin the restore again: it makes another",
                ) from None


def _captured(site: Site, piece: Piece, uuid: str) -> str:
    estate, task = site.estate, site.task
    looked_at(estate, site.course.cloud_id, uuid)
    capture = prepare_capture(estate, uuid, beside_cloudstack=True, for_restore=True)
    if capture is None:
        raise Conflict(f"the inventory does not have the instance {uuid}")

    def check() -> None:
        task.check()
        capture.watchman.check()

    def remember(attempt: Attempt) -> None:
        site.journal.begin(piece, host=capture.host_id, attempt=asdict(attempt))

    terms = CaptureTerms(
        id=site.work_id(),
        job=task.job.id,
        waiting=task.waiting,
        check=check,
        confirm=capture.watchman.confirm,
    )
    options = RemoteBackupOptions(
        terms,
        remember,
        task.report,
        domain_xml=capture.domain_xml,
        attachments={**capture.attachments, SAFETY: _safety(site)},
    )
    wanted = BackupRequest(consistency=Consistency.CRASH)
    with capture.watchman, estate.agent(capture.host_id) as client:
        result = back_up_remotely(client, uuid, site.repository, estate.engine, wanted, options)
    if result.point is None:
        raise Conflict(f"no safety point was made: {result.skipped}")
    record(estate, task.job, site.repository, result.point)
    return result.point.id


def _safety(site: Site) -> bytes:
    """Write what makes it known as a safety point, wherever it is copied."""
    said = {"format": 1, "job": site.task.job.id, "undoes_restore_of": site.point.id}
    return json.dumps(said, sort_keys=True).encode()


# --- Disks that are written


def write_disks(site: Site, piece: Piece) -> Done:
    """Write disks over volumes of an instance that is off, and read them back."""
    writes = [step for step in piece.steps if isinstance(step, WriteDisk)]
    instance, volumes = written_over(site, writes)
    ensure_held(site, instance)
    if not site.journal.begun(piece):
        ensure_undoable(site)
    places = {
        site.manifest.disk_of(step.source).disk: _place(site, step, volume)
        for step, volume in zip(writes, volumes, strict=True)
    }
    fresh = any(not step.volume_id for step in writes)
    whole = any(volume.kind == "ROOT" for volume in volumes)
    destination = OntoVolumes(
        machine=instance.id,
        places=places,
        name=instance.shown_name,
        allow_larger=site.course.allow_larger or fresh,
        nvram=whole and instance.boot_type.upper() == "UEFI",
    )
    with KeptStopped(site.client, instance, volumes) as watch:
        if _settled(site, piece) is None:
            host_id = host_reaching(site.estate, site.course.cloud_id, instance)
            _ensure_unmoved(volumes, written_over(site, writes)[1])
            said = _write(site, piece, host_id, destination, watch.check)
        else:
            said = {"resumed": True}
        # What was written while it ran would be neither the point nor what the guest wrote.
        watch.look()
        _ensure_unmoved(volumes, written_over(site, writes, STEADY)[1])
    return Done(said={"written": _named(writes, volumes, said)})


def written_over(
    site: Site, writes: list[WriteDisk], states: frozenset[str] = frozenset({"Ready"})
) -> tuple[CloudInstance, list[CloudVolume]]:
    """Look at the instance and at each volume that is written over, as they are now.

    The plan may be days old, and volumes are moved from one instance to another.
    """
    ids = {site.id_of(step.instance_id) for step in writes if step.instance_id}
    if len(ids) != 1 or not all(step.instance_id for step in writes):
        raise Conflict(
            "the plan does not say which instance's disks it writes over",
            hint="it is of another version: begin the restore again",
        )
    instance = inventory.instance(site.client, ids.pop())[0]
    volumes = []
    for step in writes:
        volume = actions.volume(site.client, step.volume_id or site.volume_of(step.source))
        _ensure_its_own(step, volume, instance, states)
        volumes.append(volume)
    return instance, volumes


def _ensure_its_own(
    step: WriteDisk, volume: CloudVolume, instance: CloudInstance, states: frozenset[str]
) -> None:
    wrong = ""
    if volume.instance_id != instance.id:
        now = volume.instance_id or "no instance"
        wrong = f"is attached to {now} now, and not to {instance.shown_name} ({instance.id})"
    elif step.owner is None or not step.owner.is_same(instance.owner):
        wrong = f"is of {instance.shown_name}, which is {instance.owner.words}'s now"
    elif not step.owner.is_same(volume.owner):
        wrong = f"is {volume.owner.words if volume.owner else 'nobody'}'s now"
    elif volume.state not in states:
        wrong = f"is {volume.state} now, and not Ready"
    elif step.pool_id and volume.pool_id != step.pool_id:
        wrong = f"lies in the pool {volume.pool or volume.pool_id} now"
    if wrong:
        raise Conflict(
            f"volume {volume.name} ({volume.id}) {wrong}: it is not written over",
            hint="it was changed in CloudStack meanwhile: look there, and begin the restore again",
        )


def _ensure_unmoved(before: list[CloudVolume], after: list[CloudVolume]) -> None:
    for was, now in zip(before, after, strict=True):
        if (was.path, was.pool_id, was.size) != (now.path, now.pool_id, now.size):
            raise Conflict(
                f"volume {now.name} ({now.id}) was moved or resized while it was written",
                hint="what it holds now is not sure: begin the restore again",
            )


def _place(site: Site, step: WriteDisk, volume: CloudVolume) -> VolumePlace:
    place = place_of(volume, site.pools.get(volume.pool_id))
    if isinstance(place, NoPlace):
        raise Rejected(place.reason, hint=place.hint)
    if step.path and place.path != step.path:
        raise Conflict(
            f"volume {volume.name} lies at {place.path} now, and not at {step.path}",
            hint="CloudStack moved it meanwhile: begin the restore again",
        )
    return VolumePlace(place.path, step.format, volume.size)


def _named(writes: list[WriteDisk], volumes: list[CloudVolume], said: Json) -> list[Json]:
    disks = said.get("disks", {})
    return [
        {"volume": volume.id, "name": volume.name, "source": step.source, **disks.get(place, {})}
        for step, volume, place in (
            (step, volume, volume.path.rpartition("/")[2])
            for step, volume in zip(writes, volumes, strict=True)
        )
    ]


def new_file(site: Site, piece: Piece) -> Done:
    """Write a disk to a new file of a pool, and read it back."""
    step = next(step for step in piece.steps if isinstance(step, NewFile))
    folder = posixpath.dirname(step.path)
    disk = site.manifest.disk_of(step.source).disk
    destination = ToPool(folder, image_format=step.format, names={disk: step.name})
    if _settled(site, piece) is None:
        host_id = host_with(site.estate, site.course.cloud_id, {folder}, site.point.machine.uuid)
        said = _write(site, piece, host_id, destination, lambda: None, only=disk)
    else:
        said = {"resumed": True}
    return Done(said={"file": step.path, **said.get("disks", {}).get(step.name, {})})


def _settled(site: Site, piece: Piece) -> str | None:
    """Bring the tries that died to their ends; gives the one that was completed, if there is."""
    done = None
    for fact in site.journal.begun(piece):
        work = str(fact["work"])
        with site.estate.agent(str(fact["host"])) as client:
            status = settle(client, work, _options(site, work, lambda: None))
        if status is not None:
            done = work
    return done


def _write(
    site: Site,
    piece: Piece,
    host_id: str,
    destination: OntoVolumes | ToPool,
    watch: Callable[[], None],
    *,
    only: str = "",
) -> Json:
    targets = {image.disk.identity: image.disk.target for image in site.point.disks}
    plan = plan_remote_restore(site.point, destination, include=(targets[only],) if only else ())
    options = _options(site, site.work_id(), watch, changed=isinstance(destination, OntoVolumes))
    site.journal.begin(piece, host=host_id, work=options.id)
    with site.estate.agent(host_id) as client:
        result = run_remote_restore(client, plan, destination, site.repository, options)
    return {
        "host": host_id,
        "disks": {
            posixpath.basename(item.path): {
                "written_bytes": item.data_bytes + item.zero_bytes,
                "compared_bytes": item.compared_bytes,
                "proven": item.read_back,
            }
            for item in result.disks
        },
    }


def _options(
    site: Site, work: str, watch: Callable[[], None], *, changed: bool = False
) -> RemoteRestoreOptions:
    def check() -> None:
        site.task.check()
        watch()

    return RemoteRestoreOptions(
        id=work,
        job=site.task.job.id,
        waiting=site.task.waiting,
        listener=site.task.report,
        check=check,
        changed_only=changed,
        verify=True,
    )
