"""A worker that carries out one job of a catalogue in a process of its own, and kills itself.

``python -m tests.vm.ascend_worker LAB JOB STEP NUMBER``: at the step's so-manieth time; the
result is written to standard output where it comes that far.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from sendense import steps
from sendense.server.control_plane import open_estate
from sendense.server.handlers import JobTask
from sendense.server.settings import ServerSettings
from sendense.settings import Settings
from sendense.workflows.managed.restore import restore


def main(lab: str, job_id: str, step: str, number: str) -> None:
    """Carry out the job."""
    root = Path(lab)
    settings = ServerSettings(state_dir=root / "server")
    estate = open_estate(settings, Settings(cache_dir=root / "cache"))
    left = [int(number)]

    def reached(name: str) -> None:
        if name == step:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    steps.listen(reached)
    job = estate.catalog.jobs.get(job_id)
    task = JobTask(estate.catalog, job, lambda progress: None, lambda: None)
    print(json.dumps(restore(estate, task)))
    estate.close()


main(*sys.argv[1:])
