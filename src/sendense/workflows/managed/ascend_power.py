"""Steps that start, stop and mark an instance.  Each looks first: done twice is done once.

The mark is what restores agree by, also those of another control plane: an instance that carries
the mark of another restore is left to that one.
"""

from __future__ import annotations

from sendense.cloudstack import actions, inventory
from sendense.errors import Busy, Conflict, NotFound
from sendense.model.ascend_steps import (
    MARKER,
    StartInstance,
    StopInstance,
    TagInstance,
    UntagInstance,
)
from sendense.model.cloud import CloudInstance
from sendense.workflows.managed.ascend_journal import pieces_of
from sendense.workflows.managed.ascend_site import Done, Site, settled_state


def stop(site: Site, step: StopInstance) -> Done:
    """Have an instance stopped."""
    uuid = site.id_of(step.instance_id)
    if settled_state(site, uuid) == "Running":
        _ensure_free(site, _looked_at(site, uuid))
        actions.stop(site.client, uuid, check=site.task.check)
    return Done()


def start(site: Site, step: StartInstance) -> Done:
    """Have an instance run."""
    uuid = site.id_of(step.instance_id)
    if settled_state(site, uuid) == "Stopped":
        _ensure_free(site, _looked_at(site, uuid))
        actions.start(site.client, uuid, check=site.task.check)
    settled_state(site, uuid)
    return Done(said={"started": True})


def tag(site: Site, step: TagInstance) -> Done:
    """Set tags; the marker says which job it is."""
    uuid, check = site.id_of(step.instance_id), site.task.check
    wanted = {key: site.task.job.id if key == MARKER else value for key, value in step.tags.items()}
    instance = _looked_at(site, uuid)
    there = instance.tags
    if MARKER in wanted:
        _ensure_free(site, instance)
    # CloudStack refuses to set what is there already.
    actions.untag(
        site.client,
        uuid,
        [key for key, value in wanted.items() if there.get(key, value) != value],
        check=check,
    )
    missing = {key: value for key, value in wanted.items() if there.get(key) != value}
    actions.tag(site.client, uuid, missing, check=check)
    return Done(said={"mark": wanted[MARKER]} if MARKER in wanted else {})


def untag(site: Site, step: UntagInstance) -> Done:
    """Take tags away, but for the mark of another restore."""
    uuid = site.id_of(step.instance_id)
    mark = _looked_at(site, uuid).tags.get(MARKER, "")
    keys = [key for key in step.keys if key != MARKER or site.is_ours(mark)]
    actions.untag(site.client, uuid, keys, check=site.task.check)
    return Done()


# --- The mark


def ensure_held(site: Site, instance: CloudInstance) -> None:
    """Refuse to write where another restore is at work, or where our mark was taken off.

    Whoever takes it off uses the instance again, so that what is on its disks is theirs.
    """
    step = _marking(site, instance)
    mark = instance.tags.get(MARKER, "")
    if step is None:
        _ensure_free(site, instance)
    elif not site.is_ours(mark):
        raise Conflict(
            f"{instance.shown_name} does not carry the tag {MARKER} of this restore any more"
            + (f", but that of {mark}" if mark else ""),
            hint="somebody took it to use it: begin the restore again",
            instance=instance.id,
        )
    elif mark != site.task.job.id:
        tag(site, step)


def _marking(site: Site, instance: CloudInstance) -> TagInstance | None:
    """Give the step that has marked an instance."""
    for piece in pieces_of(site.course.steps):
        step = piece.steps[0]
        if isinstance(step, TagInstance) and MARKER in step.tags:
            done = piece.number in site.journal.done
            if done and site.id_of(step.instance_id) == instance.id:
                return step
    return None


def _ensure_free(site: Site, instance: CloudInstance) -> None:
    """Refuse an instance that another restore is at work on."""
    mark = instance.tags.get(MARKER, "")
    if not mark or site.is_ours(mark):
        return
    try:
        other = site.estate.catalog.jobs.get(mark)
    except NotFound:
        raise Conflict(
            f"{instance.shown_name} carries the tag {MARKER} of {mark}, which is no job here",
            hint="another control plane may be restoring it; if none is, take the tag off",
            instance=instance.id,
        ) from None
    if not other.final:
        raise Busy(
            f"restore {mark} is at work on {instance.shown_name}",
            hint="wait until it has ended, or cancel it",
            instance=instance.id,
        )


def _looked_at(site: Site, uuid: str) -> CloudInstance:
    return inventory.instance(site.client, uuid)[0]
