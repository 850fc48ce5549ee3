"""Jobs pushed about by workers, a dispatcher and people in any order: the fence holds.

The model beside the catalogue knows only who holds which job.  What workers say that do not hold
one any more must change nothing.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sendense.catalog.database import Database
from sendense.catalog.jobs import Jobs
from sendense.catalog.migrating import migrate
from sendense.catalog.runs import Ending, Runs, Taken, hand_over, place, running, waiting
from sendense.catalog.workers import Workers
from sendense.errors import Conflict
from sendense.model.job import FINAL_STATES, JobFailure, JobKind, JobState
from sendense.model.running import Worker
from tests.support.fleet import a_request

START = datetime(2026, 11, 29, tzinfo=UTC)
FAILURE = JobFailure("unavailable", "gone", None, True)
ENDINGS = {
    "done": Ending(JobState.SUCCEEDED, "done", result={"point": "p"}),
    "again": Ending(JobState.QUEUED, "tried again", failure=FAILURE, not_before=START),
    "failed": Ending(JobState.FAILED, "not tried again", failure=FAILURE),
    "follow": Ending(
        JobState.SUCCEEDED, "done", result={}, follow_up=(a_request(JobKind.GC, subject="r"),)
    ),
}
names = st.sampled_from(["w1", "w2"])
picks = st.integers(0, 99)


class Fence(RuleBasedStateMachine):
    """Workers remember every job that they ever took up, and go on to speak of it."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(f"sqlite:///{Path(self.folder.name) / 'catalog.db'}")
        migrate(self.database)
        self.jobs, self.runs = Jobs(self.database), Runs(self.database)
        self.workers = Workers(self.database)
        self.now = START
        self.lives: dict[str, Worker] = {}
        self.taken: list[tuple[Worker, Taken]] = []
        self.holder: dict[str, tuple[str, int]] = {}
        """Incarnation and take of who may speak of a job."""
        self.ended: dict[str, JobState] = {}
        for name in ("w1", "w2"):
            self.start(name)

    def teardown(self):
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()

    def tick(self):
        self.now += timedelta(seconds=1)
        return self.now

    @rule(name=names)
    def start(self, name):
        """A worker begins a life, again."""
        at = self.tick()
        life = Worker(name, f"{name}-{at.timestamp():.0f}", 9, "1", "1", at, at)
        self.workers.register(life)
        self.lives[name] = life

    @rule(subject=st.sampled_from(["a", "b", "c"]))
    def submit(self, subject):
        self.jobs.submit(a_request(subject=subject), self.tick())

    @rule(name=names)
    def place_the_first(self, name):
        with self.database.write() as connection:
            for job in waiting(connection, self.tick())[:1]:
                assert place(connection, job, self.lives[name], self.now) is not None
                self.holder[job.job_id] = (self.lives[name].incarnation, 1)

    @precondition(lambda self: self.holder)
    @rule(pick=picks, name=names)
    def take_up(self, pick, name):
        job_id = sorted(self.holder)[pick % len(self.holder)]
        life, (incarnation, take) = self.lives[name], self.holder[job_id]
        taken = self.runs.take_up(job_id, life, self.tick())
        if incarnation == life.incarnation:
            assert taken is not None
            assert taken.run.take == take
        elif incarnation.startswith(name):  # its own life before
            assert taken is not None
            assert taken.run.take == take + 1
            self.holder[job_id] = (life.incarnation, take + 1)
        else:
            assert taken is None
        if taken is not None:
            self.taken.append((life, taken))

    @precondition(lambda self: self.holder)
    @rule(pick=picks, name=names)
    def hand_over(self, pick, name):
        run = self.runs.list()[pick % len(self.holder)]
        with self.database.write() as connection:
            assert hand_over(connection, run, self.lives[name], run.workflow_id)
            assert not hand_over(connection, run, self.lives[name], run.workflow_id)
        self.holder[run.job_id] = (self.lives[name].incarnation, run.take + 1)

    @precondition(lambda self: self.taken)
    @rule(pick=picks, ending=st.sampled_from(sorted(ENDINGS)))
    def say_how_it_ended(self, pick, ending):
        life, taken = self.taken[pick % len(self.taken)]
        job_id = taken.job.id
        speaks = self.holder.get(job_id) == (life.incarnation, taken.run.take)
        # A take of the attempt before may have the same number.
        speaks = speaks and taken.run.attempt == self.jobs.get(job_id).attempt
        cancelling = self.jobs.get(job_id).state is JobState.CANCELLING
        state = self.runs.end(taken.run, ENDINGS[ending], self.tick())
        assert (state is not None) == speaks
        if state is None:
            return
        del self.holder[job_id]
        wanted = ENDINGS[ending].state
        if wanted is JobState.QUEUED and cancelling:
            wanted = JobState.CANCELLED
        assert state is wanted
        if state in FINAL_STATES:
            self.ended[job_id] = state

    @precondition(lambda self: self.taken)
    @rule(pick=picks)
    def renew(self, pick):
        life, taken = self.taken[pick % len(self.taken)]
        states = self.runs.renew(
            life, self.tick(), {taken.job.id: taken.run}, {taken.job.id: {"done": pick}}
        )
        if self.lives[life.name] != life:
            assert states is None

    @precondition(lambda self: self.jobs.open())
    @rule(pick=picks)
    def cancel(self, pick):
        jobs = self.jobs.open()
        job = jobs[pick % len(jobs)]
        asked = self.jobs.request_cancel(job.id, self.tick())
        if asked.state is JobState.CANCELLED:
            self.ended[job.id] = asked.state

    @precondition(lambda self: self.ended)
    @rule(pick=picks)
    def cancel_what_has_ended(self, pick):
        job_id = sorted(self.ended)[pick % len(self.ended)]
        try:
            self.jobs.request_cancel(job_id, self.tick())
        except Conflict:
            return
        raise AssertionError("it had ended")

    @invariant()
    def a_job_runs_if_it_has_a_run(self):
        if not hasattr(self, "database"):
            return
        runs = {run.job_id: (run.incarnation, run.take) for run in self.runs.list()}
        assert runs == self.holder
        with self.database.read() as connection:
            held = running(connection)
        assert {job.job_id for job in held} == set(runs)
        assert len({job.subject for job in held}) == len(held)

    @invariant()
    def what_has_ended_stays_so(self):
        for job_id, state in getattr(self, "ended", {}).items():
            assert self.jobs.get(job_id).state is state


TestFence = Fence.TestCase
TestFence.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
