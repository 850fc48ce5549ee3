"""The life of one container: an init of its own in a control group of its own.

The root is an overlay that is mounted inside the container's mount namespace, so that it goes
with it. Nothing is registered with the machine's own service manager, if it has one.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sendense_lab.cluster import cgroups
from sendense_lab.commands import wait_until
from sendense_lab.errors import LabError

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60
# Of init in a container: an orderly power-off (systemd's SIGRTMIN+4 powers off as well).
POWER_OFF = signal.SIGRTMIN + 4
# Joins the groups, mounts the root, becomes the container. Arguments: groups, "--", mount, "--",
# command.
LAUNCH = """
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift
mount -t overlay overlay -o "$1" "$2"; shift 2
exec "$@"
"""


@dataclass(frozen=True)
class Container:
    """Where a container lives; a value, whether it runs or not."""

    name: str
    """Of its control group and its machine."""
    folder: Path
    """`upper` keeps what it wrote, over its restarts."""
    lower: Path
    """The root that it only reads."""
    binds: tuple[str, ...]
    """As `systemd-nspawn --bind` takes them."""

    @property
    def log(self) -> Path:
        """What its console says."""
        return self.folder / "console.log"

    @property
    def written(self) -> Path:
        """Its files while it does not run: what is put here is seen at its root."""
        return self.folder / "upper"

    def prepare(self) -> None:
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # mkdir obeys the umask, and the root of a host must be passable.
        self.written.chmod(0o755)

    def start(self) -> subprocess.Popen[bytes]:
        groups = [str(group) for group in cgroups.create(self.name)]
        options = f"lowerdir={self.lower},upperdir={self.written},workdir={self.folder / 'work'}"
        mount = [options, str(self.folder / "root")]
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", LAUNCH, "launch"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*argv, *groups, "--", *mount, *self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Version 2 alone inside: resource settings of units are then accepted, and
                # libvirt needs no other configuration than on a real host.
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )

    def init_of(self, supervisor: subprocess.Popen[bytes]) -> int:
        """The first process inside, as this machine numbers it."""
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")

        def look() -> int | None:
            if supervisor.poll() is not None:
                raise LabError(f"{self.name} did not start: {self.last_words()}")
            for pid in children.read_text().split():
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    return int(pid)
            return None

        return wait_until(look, f"the init of {self.name}", timeout_s=START_TIMEOUT_S)

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _command(self) -> Sequence[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.folder / 'root'}",
            f"--machine={self.name}",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--capability=all",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            *(f"--bind={bind}" for bind in self.binds),
            "--boot",
        ]
