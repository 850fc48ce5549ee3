"""A server or a worker of durable jobs, as a process of its own that tests kill.

Its handlers do nothing but what the job's content says, and write down what happens in one folder:

* ``log``: a line for each thing that happened, by any process.
* ``busy/<subject>``: locked while a handler is at work.  A second one at the same time, in whatever
  process, finds it locked and writes ``OVERLAP``; a killed process leaves no lock.
* ``let-go``: made by a test, it ends the work of all jobs that are held.
* ``points/<job>``: made once by each job that is carried out.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sendense import steps
from sendense.catalog.catalog import Catalog
from sendense.catalog.database import Database
from sendense.catalog.sealing import MasterKey, MasterKeys
from sendense.errors import Cancelled, Rejected, Unavailable
from sendense.jobs import durable
from sendense.jobs.handlers import Abandoned, Check, Done, Report
from sendense.jobs.service import JobService
from sendense.jobs.settings import JobSettings, RetryRules
from sendense.jobs.worker import WorkerSettings, run_worker
from sendense.model.admission import Limits
from sendense.model.job import Job, JobKind, JobRequest

_PAUSE_S = 0.02


def quick_settings(**changes: Any) -> JobSettings:
    """Give settings that are impatient enough for tests.

    Not more so: a process that a loaded machine held up for a second or two is no dead one.
    """
    said: dict[str, Any] = {
        "limits": Limits(total=50, per_host=2, per_repository=20),
        "retry": RetryRules(attempts=3, first=timedelta(seconds=0.4), factor=1),
        "slots": 4,
        "poll_s": 0.1,
        "schedule_s": 0.3,
        "beat_s": 0.2,
        "fence_s": 3.0,
        "lease_s": 5.0,
        "turn_s": 3.0,
        "takes": 4,
        "drain_s": 0.5,
    }
    return JobSettings(**said | changes)


@dataclass
class ScriptedHandlers:
    """Does what the content of a job says."""

    folder: Path
    name: str

    def backup(self, job: Job, report: Report, check: Check) -> Done:
        """Work for ``hold_s``, or until it is let go; fail ``failures`` times; make a point."""
        content = job.content
        with self._alone(job):
            self._log(job, "begin")
            try:
                end = time.monotonic() + float(content.get("hold_s", 0))
                while time.monotonic() < end or self._held(job):
                    check()
                    report({"left_s": round(end - time.monotonic(), 2)})
                    time.sleep(_PAUSE_S)
                check()
            except Abandoned:
                self._log(job, "abandoned")
                raise
            except Cancelled:
                self._log(job, "cancelled")
                raise
            if "broken" in content:
                raise ZeroDivisionError(content["broken"])
            if job.attempt <= int(content.get("failures", 0)):
                self._log(job, "failed")
                kind = Unavailable if content.get("retryable", True) else Rejected
                raise kind("the host does not answer", hint="wait")
            self._make_point(job)
            self._log(job, "done")
        return Done({"point": job.id, "worker": self.name}, _follow_up(job))

    restore = verify = prune = gc = copy = discover = backup

    def _held(self, job: Job) -> bool:
        return "held" in job.content and not (self.folder / "let-go").exists()

    def _make_point(self, job: Job) -> None:
        """Make it once: who comes second finds it, and is content."""
        path = self.folder / "points" / job.id
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            self._log(job, "point-found")

    @contextmanager
    def _alone(self, job: Job) -> Iterator[None]:
        descriptor = os.open(self.folder / "busy" / job.subject, os.O_CREAT | os.O_RDWR)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._log(job, "OVERLAP")
            yield
        finally:
            os.close(descriptor)

    def _log(self, job: Job, what: str) -> None:
        line = f"{what} {job.kind.value} {job.subject} {job.id} {job.attempt} {self.name}\n"
        descriptor = os.open(self.folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)


def _follow_up(job: Job) -> tuple[JobRequest, ...]:
    if job.kind is not JobKind.PRUNE:
        return ()
    return (JobRequest(JobKind.GC, job.subject, {}, f"job:{job.id}"),)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "dispatcher", "worker"])
    parser.add_argument("--name", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--flows", default=durable.WORKFLOW_VERSION, help="of another release")
    parser.add_argument("--kill-at", help="a step, at which the process kills itself")
    parser.add_argument("--stop-at", help="a step, at which the process stops itself")
    return parser.parse_args()


def main() -> None:
    """Be what the arguments say."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    for step, number in ((arguments.kill_at, signal.SIGKILL), (arguments.stop_at, signal.SIGSTOP)):
        if step:
            steps.listen(_signalling(step, number))
    durable.WORKFLOW_VERSION = arguments.flows
    settings = WorkerSettings(
        arguments.name,
        arguments.url,
        arguments.folder / "state",
        quick_settings(slots=arguments.slots),
    )
    catalog = Catalog(Database(arguments.url), MasterKeys([MasterKey.new()]))
    handlers = ScriptedHandlers(arguments.folder, arguments.name)
    if arguments.role == "worker":
        run_worker(settings, catalog, handlers)
    else:
        _serve(settings, catalog, handlers if arguments.role == "server" else None)
    catalog.close()


def _signalling(step: str, number: int):
    pending = [step]

    def listener(name: str) -> None:
        if pending and name == pending[0]:
            pending.clear()
            os.kill(os.getpid(), number)
            time.sleep(1)  # a stop takes effect when another thread has taken it

    return listener


def _serve(settings: WorkerSettings, catalog: Catalog, handlers: ScriptedHandlers | None) -> None:
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    service = JobService(settings, catalog, handlers)
    service.start()
    ended.wait()
    service.stop()


if __name__ == "__main__":
    main()
