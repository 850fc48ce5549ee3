"""Runs one backup in a process of its own that dies at a named step; a program for the tests.

``python -m tests.vm.doomed STEP SIGNAL SETTINGS REPOSITORY MACHINE CONSISTENCY``
with the settings as JSON.  At ``STEP`` it sends itself ``SIGNAL``.  It lists
the steps it reached on standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from sendense import steps
from sendense.capture.host import Host
from sendense.model.point import Consistency
from sendense.repository.opening import open_repository
from sendense.settings import Settings
from sendense.workflows.backup import Backup
from sendense.workflows.planning import BackupRequest
from sendense.workflows.sources import LocalSource
from tests.vm.site import ACCESS, opener


def main() -> int:
    """Back the machine up until the step is reached."""
    step, number, settings_json, repository, name, consistency = sys.argv[1:]
    settings = Settings(**json.loads(settings_json))

    def stop(reached: str) -> None:
        sys.stdout.write(f"{reached}\n")
        sys.stdout.flush()
        if reached == step:
            os.kill(os.getpid(), int(number))

    steps.listen(stop)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Host(settings.host()) as host:
        path = Path(name)
        machine = host.from_xml(path) if path.is_file() else host.find(name)
        request = BackupRequest(consistency=Consistency(consistency))
        source = LocalSource(host, settings, opener)
        Backup(source, open_repository(repository, ACCESS), settings, request).run(machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
