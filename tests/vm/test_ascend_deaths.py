"""Restores into a cloud whose worker dies at every line: another goes on, and nothing doubles."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from sendense import clock, steps
from sendense.model.ascend import Aim, AscendRequest
from sendense.model.job import Job, JobState
from sendense.model.progress import Progress
from sendense.workflows.managed.ascend import restore_into_cloud
from sendense_lab.lab import Lab
from tests.vm.agent_site import MIB, ROOT
from tests.vm.ascend_site import AscendSite, CloudHere, lost, shown

pytestmark = pytest.mark.vm

MOST = 120


class Killed(BaseException):
    """The end of a worker, as far as it goes without ending the tests too."""


@dataclass
class MortalTask:
    """A job whose facts outlive those who carry it out; each place kills once."""

    job: Job
    kept: list[str] = field(default_factory=list)
    killed_at: set[tuple[str, int]] = field(default_factory=set)

    @property
    def facts(self) -> tuple[Any, ...]:
        return tuple(json.loads(each) for each in self.kept)

    def remember(self, fact: Any) -> None:
        self.kept.append(json.dumps(fact))

    def report(self, progress: Progress, /) -> None:
        pass

    def waiting(self, reason: str | None) -> None:
        self.die_once("waiting")

    def check(self) -> None:
        self.die_once("check")

    def die_once(self, place: str) -> None:
        """Die here, unless somebody did at this place, with as much remembered."""
        done = sum('"done"' in each for each in self.kept)
        key = (place, done)
        if key not in self.killed_at:
            self.killed_at.add(key)
            raise Killed


@contextmanager
def killing(task: MortalTask) -> Iterator[None]:
    def reached(name: str) -> None:
        if name.startswith("ascend-") or name == "remote-disk-written":
            task.die_once(name)

    steps.listen(reached)
    try:
        yield
    finally:
        steps.unlisten()


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab, kind="Filesystem") as site:
        yield site


def carried_out(here: CloudHere, uuid: str, point: str, request: AscendRequest) -> dict[str, Any]:
    """Have a restore carried out by many workers, each of which dies; gives its result."""
    wanted = here.request(uuid, here.wanted(point, request))
    job = Job(
        id="mortal", kind=wanted.kind, subject=uuid, content=wanted.content,
        state=JobState.RUNNING, attempt=1, priority=0, requested_by="tests",
        created_at=clock.now(), repository_id=wanted.repository_id,
    )  # fmt: skip
    task = MortalTask(job)
    for attempt in range(1, MOST):
        task.job = replace(job, attempt=attempt)
        try:
            with killing(task):
                result = restore_into_cloud(here.site.estate, task)
        except Killed:
            continue
        assert attempt > 10
        return dict(result)
    raise AssertionError(sorted(task.killed_at))


WAYS = {
    "4.18": "deploy-and-overwrite",
    "4.20": "deploy-and-swap-root",
}
RECREATE = AscendRequest(Aim.RECREATE)


@pytest.mark.parametrize("version", WAYS)
def test_a_lost_instance_is_made_once(site: AscendSite, version: str) -> None:
    with site.cloud(version) as here:
        uuid, point, was, truth = lost(here)
        done = carried_out(here, uuid, point, RECREATE)
        assert done["way"] == WAYS[version]
        ensure_made_once(here, done, 1 if version == "4.20" else 0)
        assert shown(here.row(done["instance"])) == was
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)


def ensure_made_once(here: CloudHere, done: dict[str, Any], left: int = 0) -> None:
    """There is one instance with its two volumes, and what is told to be left over."""
    assert [row["id"] for row in here.instances()] == [done["instance"]]
    assert len(here.all_volumes()) == 2 + left
    assert len(done["left_over"]) == left


def test_workers_that_are_killed(site: AscendSite) -> None:
    """Processes, and SIGKILL: nothing of theirs is taken back by them."""
    with site.cloud("4.22") as here:
        uuid, point, was, truth = lost(here)
        far = clock.now() + timedelta(days=1)
        wanted = replace(here.request(uuid, here.wanted(point, RECREATE)), not_before=far)
        job = site.control.catalog.jobs.submit(wanted, clock.now())
        run_worker(site, job.id, "remote-disk-written", 1)
        run_worker(site, job.id, "ascend-piece-carried-out", 2)
        run_worker(site, job.id, "ascend-piece-carried-out", 4)
        done = json.loads(run_worker(site, job.id, "nowhere", 1))
        assert done["way"] == "import-and-deploy"
        ensure_made_once(here, done)
        assert shown(here.row(done["instance"])) == was
        here.api.run("stopVirtualMachine", id=done["instance"])
        here.ensure_same(done["instance"], truth)


def run_worker(site: AscendSite, job_id: str, step: str, number: int) -> str:
    """Have a process carry out a job until it kills itself; gives what it wrote before."""
    command = [sys.executable, "-m", "tests.vm.ascend_worker", str(site.root), job_id, step]
    ended = subprocess.run([*command, str(number)], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == (0 if step == "nowhere" else -signal.SIGKILL), ended.stderr
    return ended.stdout


def test_in_place(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        vm = here.add("shop")
        point = here.back_up(vm.id)["point"]
        truth = here.freeze(vm.id)
        here.api.run("startVirtualMachine", id=vm.id)
        here.machine(vm.id).write("vdb", 9 * MIB, 256 * 1024, 7)
        done = carried_out(here, vm.id, point, AscendRequest(Aim.IN_PLACE))
        row = here.row(vm.id)
        assert (row["state"], row["tags"]) == ("Running", [])
        points = here.site.control.catalog.points.of_machine(vm.id, here.site.control.repository_id)
        assert sorted(each.id for each in points) == sorted([point, done["safety_point"]])
        here.api.run("stopVirtualMachine", id=vm.id)
        here.ensure_same(vm.id, truth)
