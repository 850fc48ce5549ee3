"""Jobs: what takes longer than a request, one at a time for each instance.

A job's steps run under the world's lock; what they yield is done without it. A restart of the
management server marks every job that is not done as failed. What a host was told before goes on
there, and shows in the states afterwards, as it does when a real server comes back.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sendense_lab.simulator.catalogue import Body, Work
from sendense_lab.simulator.errors import INTERNAL, ApiError, masked
from sendense_lab.simulator.machines import MachineError
from sendense_lab.simulator.records import Account, Domain
from sendense_lab.simulator.shapes import Fields, set_fields, when
from sendense_lab.simulator.world import World

RUNNING, DONE, FAILED = 0, 1, 2
LOST = "job cancelled because of management server restart or shutdown"


@dataclass
class Job:
    """One job."""

    id: str
    account_id: str
    user_id: str
    java: str
    about: tuple[str, str]
    queue: str
    created: datetime
    for_admin: bool
    status: int = RUNNING
    code: int = 0
    result: Body | None = None
    completed: datetime | None = None
    stop: threading.Event = field(default_factory=threading.Event)


class Jobs:
    """All jobs of a management server, and the threads that do them."""

    def __init__(self, world: World, job_s: float) -> None:
        self.world = world
        self.job_s = job_s
        self._jobs: dict[str, Job] = {}
        self._queues: dict[str, deque[str]] = {}
        self._threads: set[threading.Thread] = set()

    def submit(  # noqa: PLR0913 - a job is its facts
        self, work: Work, *, account_id: str, user_id: str, java: str, wanted_id: str = "",
        for_admin: bool = False, told: Callable[[str, str], None] = lambda state, level: None,
    ) -> Job:  # fmt: skip
        """Begin a job. `told` hears of its states, for the events."""
        with self.world.lock:
            if wanted_id and wanted_id in self._jobs:
                raise ApiError(INTERNAL, f"A job with id {wanted_id} is there already")
            job = Job(
                wanted_id or str(uuid.uuid4()),
                account_id, user_id, java, work.about, work.queue, self.world.now(), for_admin,
            )  # fmt: skip
            self._jobs[job.id] = job
            if work.queue:
                self._queues.setdefault(work.queue, deque()).append(job.id)
            told("Scheduled", "INFO")
            thread = threading.Thread(
                target=self._do, args=(job, work, told), name=f"job-{job.id}", daemon=True
            )
            self._threads.add(thread)
        thread.start()
        return job

    def _do(self, job: Job, work: Work, told: Callable[[str, str], None]) -> None:
        world = self.world
        try:
            with world.changed:
                world.changed.wait_for(lambda: self._is_next(job) or job.stop.is_set())
                if job.stop.is_set():
                    work.steps.close()
                    return
                told("Started", "INFO")
            code, result = self._outcome(job, work.steps)
            with world.changed:
                if job.status == RUNNING:
                    self._end(job, DONE if code == 0 else FAILED, code, result)
                    told("Completed", "INFO" if code == 0 else "ERROR")
        finally:
            with world.changed:
                queue = self._queues.get(job.queue)
                if queue and job.id in queue:
                    queue.remove(job.id)
                if queue is not None and not queue:
                    del self._queues[job.queue]
                self._threads.discard(threading.current_thread())
                world.changed.notify_all()

    def _is_next(self, job: Job) -> bool:
        queue = self._queues.get(job.queue)
        return not queue or queue[0] == job.id

    def _outcome(
        self, job: Job, steps: Generator[Callable[[], object], object, Body]
    ) -> tuple[int, Body]:
        try:
            return 0, self._drive(job, steps)
        except ApiError as error:
            shown = error if job.for_admin else masked(error)
        except MachineError as error:
            shown = ApiError(INTERNAL, str(error))
            shown = shown if job.for_admin else masked(shown)
        except Exception as error:  # noqa: BLE001 - a job that dies must not be one that runs
            shown = ApiError(INTERNAL, f"{type(error).__name__}: {error}")
        return shown.code, {"errorcode": shown.code, "errortext": shown.text}

    def _drive(self, job: Job, steps: Generator[Callable[[], object], object, Body]) -> Body:
        """Take the steps: under the lock, save for what they yield. The first yield takes time."""
        waited = False
        sent: object = None
        failed: BaseException | None = None
        while True:
            with self.world.changed:
                try:
                    outside = steps.throw(failed) if failed else steps.send(sent)
                except StopIteration as end:
                    return dict(end.value or {})
                finally:
                    self.world.changed.notify_all()
            failed = None
            if not waited:
                waited = True
                if job.stop.wait(self.job_s):
                    with self.world.lock:
                        steps.close()
                    raise ApiError(INTERNAL, LOST)
            try:
                sent = outside()
            except Exception as error:  # noqa: BLE001 - the steps decide what it means
                failed = error

    def _end(self, job: Job, status: int, code: int, result: Body) -> None:
        job.status, job.code, job.result = status, code, result
        job.completed = self.world.now()

    def restart(self) -> int:
        """Lose all jobs in flight; gives how many."""
        with self.world.changed:
            lost = [job for job in self._jobs.values() if job.status == RUNNING]
            for job in lost:
                self._end(job, FAILED, INTERNAL, {"errorcode": INTERNAL, "errortext": LOST})
                job.stop.set()
            self.world.changed.notify_all()
            return len(lost)

    def settle(self) -> None:
        """End: lose what is in flight, and wait for the threads."""
        self.restart()
        with self.world.lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(60)

    # Questions

    def find(self, key: str) -> Job | None:
        """Give a job that has not expired."""
        self._expire()
        return self._jobs.get(key)

    def all(self) -> list[Job]:
        """Give all jobs, the oldest first."""
        self._expire()
        return list(self._jobs.values())

    def busy(self, instance_id: str) -> bool:
        """Tell whether an instance has a job that is not done."""
        return bool(self._queues.get(instance_id))

    def forget(self, key: str) -> None:
        """Drop a job, as time does."""
        with self.world.lock:
            self._jobs.pop(key, None)

    def _expire(self) -> None:
        limit = timedelta(minutes=float(self.world.settings["job.expire.minutes"]))
        before = self.world.now() - limit
        with self.world.lock:
            gone = [j.id for j in self._jobs.values() if j.completed and j.completed < before]
            for key in gone:
                del self._jobs[key]


def shape(world: World, job: Job) -> Fields:
    """Show a job as `queryAsyncJobResult` does."""
    account = world.get(Account, job.account_id)
    domain = world.get(Domain, account.domain_id)
    kind, key = job.about
    fields: Fields = {
        "accountid": account.id,
        "account": account.name,
        "domainid": domain.id,
        "domainpath": domain.path,
        "userid": job.user_id,
        "cmd": job.java,
        "jobid": job.id,
        "jobstatus": job.status,
        "jobprocstatus": 0,
        "jobresultcode": job.code,
        "created": when(job.created),
        "completed": when(job.completed) if job.completed else "",
        "jobinstancetype": kind if key else "",
        "jobinstanceid": key,
    }
    if job.result is not None:
        fields |= {"jobresulttype": "object", "jobresult": dict(job.result)}
    if world.since("4.19"):
        fields["managementserverid"] = world.management_id
    return set_fields(fields)
