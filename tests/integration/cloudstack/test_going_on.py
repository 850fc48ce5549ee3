"""Which restore another may go on with, and whose instance it is meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.cloudstack import inventory
from sendense.errors import Busy, Cancelled, Conflict, NotFound, Rejected
from sendense.model.ascend import Aim, AscendRequest
from sendense.model.ascend_order import CloudRestore
from sendense.model.ascend_steps import (
    MARKER,
    StartInstance,
    StopInstance,
    TagInstance,
    UntagInstance,
    WriteDisk,
    step_to_json,
)
from sendense.model.job import Job, JobKind, JobRequest, JobState
from sendense.workflows.managed import ascend, ascend_disks, ascend_power
from sendense.workflows.managed.ascend_continuing import (
    STALE,
    facts_of_earlier,
    needed_to_undo,
)
from sendense.workflows.managed.ascend_journal import Course, Piece, pieces_of, started_before
from tests.support.catalogs import catalog_at, sqlite_urls
from tests.support.cloud_restore import JOB, Place

OVER = WriteDisk("was", "volume", "pool", "/a", 1, instance_id="i")
PLAN = {"ascend": "plan", "steps": [step_to_json(OVER), step_to_json(StartInstance("i"))]}


class Jobs:
    """A catalogue with restores of one instance."""

    def __init__(self, catalog: Catalog) -> None:
        self.jobs = catalog.jobs
        self.estate: Any = SimpleNamespace(catalog=catalog)

    def restore(self, point: str = "p", continues: str = "", subject: str = "i") -> Job:
        wanted = CloudRestore("r", point, AscendRequest(Aim.IN_PLACE), "c", continues)
        request = JobRequest(
            JobKind.RESTORE, subject, wanted.to_content(), "tests", repository_id="r"
        )
        return self.jobs.submit(request, clock.now())

    def failed(self, ago: timedelta = timedelta(), **how: str) -> Job:
        job = self.restore(**how)
        self.jobs.remember(job.id, PLAN)
        return self.jobs.move(job.id, job.state, JobState.FAILED, clock.now() - ago)

    def going_on(self, job: Job) -> tuple[Any, ...]:
        return facts_of_earlier(self.estate, job, CloudRestore.of("r", job.content))


@pytest.fixture
def known():
    with sqlite_urls() as new_url, catalog_at(new_url()) as catalog:
        yield Jobs(catalog)


def test_one_that_failed_is_gone_on_with_by_one_only(known):
    before = known.failed()
    assert known.going_on(known.restore(continues=before.id)) == (PLAN,)
    # That one died before it remembered anything, the next does.
    second = known.failed(continues=before.id)
    with pytest.raises(Conflict, match=f"{second.id} went on with"):
        known.going_on(known.restore(continues=before.id))
    assert known.going_on(known.restore(continues=second.id))


@pytest.mark.parametrize("how", [{"point": "other"}, {"subject": "j"}])
def test_one_of_another_point_or_instance_is_not(known, how):
    before = known.failed(**how)
    with pytest.raises(Rejected, match="restores point"):
        known.going_on(known.restore(continues=before.id))


def test_one_under_way_is_not(known):
    before = known.restore()
    with pytest.raises(Conflict, match="is queued"):
        known.going_on(known.restore(continues=before.id))


def test_an_old_plan_writes_over_nothing(known):
    before = known.failed(STALE + timedelta(minutes=1))
    with pytest.raises(Conflict, match="too old"):
        known.going_on(known.restore(continues=before.id))


def test_whether_it_ran_is_known_however_often_it_was_gone_on_with():
    inherited = {"ascend": "inherited", "facts": [PLAN]}
    assert started_before(({"ascend": "inherited", "facts": [inherited]},))
    assert not started_before(({"ascend": "inherited", "facts": []},))


# --- What undoes it, while somebody may need that


def begun(point: str) -> dict[str, Any]:
    return {"ascend": "begun", "piece": 3, "host": "h", "attempt": {"point": point}}


def test_what_undoes_a_restore_is_needed_until_it_is_finished(known):
    job = known.restore()
    known.jobs.remember(job.id, PLAN)
    known.jobs.remember(job.id, begun("s-1"))
    assert needed_to_undo(known.estate, "other") == {}
    assert needed_to_undo(known.estate, "r") == {
        "s-1": f"undoes the restore {job.id}, which is not finished"
    }
    known.jobs.move(job.id, job.state, JobState.RUNNING, clock.now())
    known.jobs.move(job.id, JobState.RUNNING, JobState.SUCCEEDED, clock.now())
    assert needed_to_undo(known.estate, "r") == {}


def test_it_is_needed_while_one_that_failed_may_be_gone_on_with(known):
    before = known.failed()
    known.jobs.remember(before.id, begun("s-1"))
    old = known.failed(STALE + timedelta(minutes=1))
    known.jobs.remember(old.id, begun("s-0"))
    needed = needed_to_undo(known.estate, "r")
    assert set(needed) == {"s-1"}
    assert "failed and may be gone on with" in needed["s-1"]
    after = known.restore(continues=before.id)
    known.jobs.remember(after.id, {"ascend": "inherited", "facts": known.jobs.facts(before.id)})
    assert f"{after.id}, which is not" in needed_to_undo(known.estate, "r")["s-1"]


# --- The mark


class Marked(Place):
    """Ann's instance, and the states of other jobs."""

    def __init__(self, site: Any) -> None:
        super().__init__(site)
        self.others: dict[str, bool] = {}
        jobs = SimpleNamespace(get=self._job)
        self.estate = SimpleNamespace(catalog=SimpleNamespace(jobs=jobs))
        self.tag = TagInstance(self.vm.id, {MARKER: "running"})
        self.course = Course("cloud", "in-place", (self.tag,))

    def _job(self, job_id: str) -> Any:
        if job_id not in self.others:
            raise NotFound(f"no job {job_id}")
        return SimpleNamespace(final=self.others[job_id])

    @property
    def mark(self) -> str:
        return inventory.instance(self.client, self.vm.id)[0].tags.get(MARKER, "")

    def marked(self, by: str) -> None:
        self.vm.tags = {MARKER: by}

    def carried_out(self) -> None:
        site = self.site
        done = ascend_power.tag(site, self.tag)
        site.journal.finish(Piece(1, (self.tag,)), done.made, done.said)

    def held(self) -> None:
        site = self.site
        ascend_power.ensure_held(site, inventory.instance(self.client, self.vm.id)[0])


@pytest.fixture
def place(site):
    return Marked(site)


def test_the_mark_is_ours_until_it_is_taken_off(place):
    place.carried_out()
    assert place.mark == JOB
    place.held()
    ascend_power.untag(place.site, UntagInstance(place.vm.id, (MARKER,)))
    assert place.mark == ""
    with pytest.raises(Conflict, match="does not carry"):
        place.held()


def test_another_restore_at_work_is_waited_for(place):
    place.marked("other")
    place.others["other"] = False
    for act in (
        place.carried_out,
        place.held,
        lambda: ascend_power.start(place.site, StartInstance(place.vm.id)),
    ):
        with pytest.raises(Busy, match="at work"):
            act()
    ascend_power.untag(place.site, UntagInstance(place.vm.id, (MARKER,)))
    assert place.mark == "other"


def test_the_mark_of_one_that_has_ended_is_taken_over(place):
    place.marked("other")
    place.others["other"] = True
    place.carried_out()
    assert place.mark == JOB


def test_the_mark_of_another_control_plane_is_left(place):
    place.marked("theirs")
    with pytest.raises(Conflict, match="no job here"):
        place.carried_out()
    assert place.mark == "theirs"


def test_the_mark_that_another_took_over_meanwhile_ends_the_restore(place):
    place.carried_out()
    place.marked("other")
    place.others["other"] = True
    with pytest.raises(Conflict, match="that of other"):
        place.held()


def test_who_goes_on_takes_the_mark_of_the_one_before(place):
    place.carried_out()
    place.work.job = SimpleNamespace(id="the-next", attempt=1)
    place.held()
    assert place.mark == "the-next"


# --- What is left behind, and what undoes it


def test_a_safety_point_that_is_gone_ends_the_restore(place):
    def point(point_id: str) -> None:
        raise NotFound(f"no point {point_id}")

    site = replace(place.site, repository=SimpleNamespace(point=point))
    ascend_disks.ensure_undoable(site)
    site.journal.done[2] = {"safety_point": "p-1"}
    with pytest.raises(Conflict, match="p-1 is not there"):
        ascend_disks.ensure_undoable(site)


def test_who_cancels_hears_what_is_left(place):
    stop, uuid = StopInstance(place.vm.id, "web"), place.vm.id
    place.course = Course("cloud", "in-place", (stop, place.tag, OVER, StartInstance(uuid)))
    site = replace(place.site, point=SimpleNamespace(id="p"))
    pieces = pieces_of(place.course.steps)
    for piece in pieces[:2]:
        site.journal.finish(piece, {}, {})
    with pytest.raises(Cancelled) as caught, ascend._explained(site, pieces[2]):
        raise Cancelled("enough")
    hint = caught.value.hint or ""
    assert "web was stopped for it, and no disk of it is written over yet" in hint
    assert f"the tag {MARKER} stays" in hint
    assert f"--continue {JOB}" in hint
    site.journal.begin(pieces[2], host="h", work="w")
    with pytest.raises(Cancelled) as caught, ascend._explained(site, pieces[2]):
        raise Cancelled("enough")
    assert "half restored" in (caught.value.hint or "")
    assert "no disk" not in (caught.value.hint or "")
