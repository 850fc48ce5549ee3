"""A stopped machine of two disks over a template, and a point of it; also run as a program.

As a program it restores in place and kills itself at a named step, for the crash tests.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sendense import steps
from sendense.model.machine import PowerState
from sendense.workflows.restore import (
    InPlace,
    RestoreOptions,
    ToFolder,
    plan_restore,
    run_restore,
)
from tests.integration.restore.memory import content_of, memory_point
from tests.integration.transfer.servers import MIB, run
from tests.support.builders import a_disk, a_machine, a_point, an_image

SIZE = 4 * MIB
DOMAIN = """
<domain type='kvm' id='3'><name>i-2-10-VM</name><uuid>2f1c7a5e-6f0a-4d0e-9d3e-0d1f5a1c0b01</uuid>
  <memory>262144</memory><os><type>hvm</type><nvram>/old/nvram</nvram></os>
  <devices>
    <disk type='file'><source file='/old/vda'/><target dev='vda'/></disk>
    <disk type='file'><source file='/old/vdb'/><target dev='vdb'/></disk>
  </devices>
</domain>
"""


class Stage:
    """The machine's images below a folder, and what a restore brings back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.images = [folder / "vda.qcow2", folder / "vdb.raw"]
        self.disks = [
            a_disk("vda", path=str(self.images[0])),
            a_disk("vdb", path=str(self.images[1]), format="raw"),
        ]
        self.machine = a_machine(*self.disks, power=PowerState.STOPPED, nvram=str(folder / "nvram"))
        self.contents = [content_of(SIZE, 1), content_of(SIZE + 512, 2)]
        self.repository = memory_point(
            a_point(machine=self.machine, disks=tuple(an_image(disk) for disk in self.disks)),
            self.contents,
            {"domain.xml": DOMAIN.encode(), "nvram.fd": b"variables"},
        )

    @property
    def point(self):
        return self.repository.point

    def build(self) -> Stage:
        """Make the images as they are before the restore."""
        template = self.folder / "template.raw"
        template.write_bytes(content_of(SIZE, 3))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "raw", self.images[0])
        self.images[1].write_bytes(content_of(SIZE + 512, 4))
        (self.folder / "nvram").write_bytes(b"older")
        return self

    def restore(self, **options):
        """Restore in place."""
        plan = plan_restore(self.point, InPlace(self.machine))
        wanted = RestoreOptions(state_dir=self.state_dir, **options)
        return run_restore(plan, self.repository, options=wanted)

    def restore_to(self, folder, destination=None, **options):
        """Restore to new files."""
        plan = plan_restore(self.point, destination or ToFolder(folder))
        return run_restore(plan, self.repository, options=RestoreOptions(**options))

    def now(self):
        """Read what the machine's disks hold."""
        return [content(self.images[0], "qcow2"), content(self.images[1], "raw")]


def content(image, image_format):
    """Read an image through QEMU."""
    raw = image.with_suffix(".now")
    run("qemu-img", "convert", "-f", image_format, "-O", "raw", image, raw)
    found = raw.read_bytes()
    raw.unlink()
    return found


def main(folder: str, kind: str, step: str, times: str) -> None:
    """Restore, and die the ``times``-th time that ``step`` is reached."""
    left = [int(times)]

    def die(reached: str) -> None:
        if reached == step:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    steps.listen(die)
    stage = Stage(Path(folder))
    if kind == "in-place":
        stage.restore()
    else:
        stage.restore_to(Path(folder) / "new")


if __name__ == "__main__":
    main(*sys.argv[1:])
