"""Our engine without our command line: read, hash and write one disk, in this process.

The difference to the command is what a run costs whatever its size: the start of the
interpreter, libvirt's job, the manifest.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.stage import Stage
from bench.timing import Cost
from sendense.capture.host import Host
from sendense.model.decision import DiskDecision, Method, Mode, Reason
from sendense.repository.opening import create_repository
from sendense.repository.protocol import DiskSpec
from sendense.settings import Settings
from sendense.transfer.copy import CopyOptions, copy_disk


class Engine:
    """Full copies of one disk into a repository, which are never committed."""

    def __init__(self, stage: Stage, target: str, where: Path) -> None:
        """Make the repository in ``where``."""
        settings = Settings(uri=stage.host.uri, state_dir=stage.folder / "state")
        with Host(settings.host()) as host:
            self._machine = host.find(stage.vm.uuid)
        disk = next(item for item in self._machine.disks if item.target == target)
        decision = DiskDecision(target, Mode.FULL, Method.EVERYTHING, Reason.REQUESTED)
        size = stage.vm.disks[target].size
        self._spec = DiskSpec(disk, size, (), decision, settings.granularity)
        self._options = CopyOptions(connections=settings.connections)
        self._stage = stage
        self._repository = create_repository(f"qcow2:{where}")

    def copy(self) -> Cost:
        """Copy the disk once; gives what it took from the first request to the layer on disk."""
        with (
            self._stage.export(self._spec.disk.target) as export,
            self._repository.begin(self._machine, "engine") as writer,
        ):
            began, used = time.perf_counter(), time.process_time()
            sink = writer.disk(self._spec)
            result = copy_disk(export, sink, method=Method.EVERYTHING, options=self._options)
            sink.finish(read_bytes=result.read_bytes, sampled_blocks=0, seconds=result.seconds)
            return Cost(time.perf_counter() - began, time.process_time() - used)
