"""A place where durable jobs run in real processes: a database, a folder, and who was started."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.errors import SendenseError
from sendense.jobs.durable import prepare
from sendense.model.job import Job, JobKind, JobState
from tests.support.catalogs import catalog_at
from tests.support.fleet import a_request

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 120.0


class JobSite:
    """Starts processes, submits jobs, and tells what happened."""

    def __init__(self, url: str, folder: Path, catalog: Catalog) -> None:
        """Begin with nothing running."""
        self.url = url
        self.folder = folder
        self.catalog = catalog
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("busy", "points"):
            (folder / name).mkdir()

    def start(self, role: str, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a process; one that was under the name must have ended."""
        before = self.processes.get(name)
        assert before is None or before.poll() is not None
        command = [sys.executable, "-m", "tests.support.job_process", role, "--name", name,
                   "--url", self.url, "--folder", str(self.folder), *options]  # fmt: skip
        with (self.folder / f"{name}.err").open("ab") as errors:
            process = subprocess.Popen(command, cwd=_ROOT, stderr=errors)
        self.processes[name] = process
        return process

    def kill(self, name: str) -> None:
        """End a process at once."""
        self.processes[name].kill()
        self.processes[name].wait(_PATIENCE_S)

    def stop(self, name: str) -> None:
        """Ask a process to end, and see that it does so well."""
        self.processes[name].terminate()
        assert self.processes[name].wait(_PATIENCE_S) == 0, self.errors(name)

    def died(self, name: str) -> None:
        """Wait until a process has killed itself."""
        assert self.processes[name].wait(_PATIENCE_S) == -signal.SIGKILL, self.errors(name)

    def submit(self, kind: JobKind = JobKind.BACKUP, subject: str = "u1", **content: Any) -> Job:
        """Submit a job that somebody asked for."""
        changes = {name: content.pop(name) for name in ("host_id", "policy_id") if name in content}
        return self.catalog.jobs.submit(
            a_request(kind, subject=subject, content=content, **changes), clock.now()
        )

    def let_go(self) -> None:
        """Have jobs end that are ``held``."""
        (self.folder / "let-go").touch()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so; the database may be away meanwhile."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                if condition():
                    return
            except SendenseError:
                pass
            assert time.monotonic() < end, f"{what}\n{self.log()}\n{self.all_errors()}"
            time.sleep(0.03)

    def wait(self, job: Job, *states: JobState) -> Job:
        """Wait until a job is in a state; gives it."""
        self.wait_for(lambda: self.catalog.jobs.get(job.id).state in states, f"{job.id}: {states}")
        return self.catalog.jobs.get(job.id)

    def wait_end(self, job: Job) -> Job:
        """Wait until a job has ended."""
        return self.wait(job, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)

    def wait_log(self, *words: str) -> None:
        """Wait until something was written down."""
        self.wait_for(lambda: bool(self.lines(*words)), " ".join(words))

    def lines(self, *words: str) -> list[list[str]]:
        """Give what was written down that has all of some words."""
        return [line for line in self.log_lines() if all(word in line for word in words)]

    def log_lines(self) -> list[list[str]]:
        """Give all that was written down, in order."""
        return [line.split() for line in self.log().splitlines()]

    def log(self) -> str:
        """Give it as text."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def points(self) -> set[str]:
        """Give the jobs that made a point."""
        return {path.name for path in (self.folder / "points").iterdir()}

    def errors(self, name: str) -> str:
        """Give the end of what a process said."""
        return (self.folder / f"{name}.err").read_text()[-4000:]

    def all_errors(self) -> str:
        """Give the end of what all of them said."""
        return "\n".join(f"--- {name}\n{self.errors(name)}" for name in self.processes)

    def assert_sound(self) -> None:
        """See that nothing ran twice at once, and that nobody holds anything any more."""
        self.wait_for(lambda: self.catalog.runs.list() == (), "nobody holds anything")
        assert not self.lines("OVERLAP")

    def end(self) -> None:
        """Kill what is left."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait(_PATIENCE_S)


@contextmanager
def job_site(url: str, folder: Path) -> Iterator[JobSite]:
    """Give a place, for as long as a test uses it."""
    prepare(url)
    with catalog_at(url) as catalog:
        site = JobSite(url, folder, catalog)
        try:
            yield site
        finally:
            site.end()
