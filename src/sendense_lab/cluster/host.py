"""One host of a cluster: commands, files, power, network; and a hypervisor to the lab's VMs.

Commands enter the container's namespaces directly, so they work while its network is cut. libvirt
is reached by its socket for the same reason. What goes through the network is what a test starts
itself: ssh to `address`, migration.
"""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

import libvirt

from sendense_lab.cluster import cgroups, network
from sendense_lab.cluster.container import POWER_OFF, STOP_TIMEOUT_S, Container
from sendense_lab.cluster.network import Bridge
from sendense_lab.commands import run, wait_until
from sendense_lab.errors import CommandFailed, LabError
from sendense_lab.host_config import NUMERIC_USER, QemuUser

READY_TIMEOUT_S = 90
ENTER = ("--mount", "--uts", "--ipc", "--net", "--pid")
# What a login of root finds there; nsenter hands on this process' own otherwise.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}


class ClusterHost:
    """A host named `name` of a Debian release."""

    def __init__(
        self, name: str, suite: str, *, container: Container, bridge: Bridge, number: int
    ) -> None:
        self.name = name
        self.suite = suite
        self.container = container
        self.address = bridge.host_address(number)
        self.user = QemuUser(NUMERIC_USER, NUMERIC_USER)
        self.run_dir = container.folder / "jobs"
        self.host_uuid = uuid.uuid4()
        self.public_key = ""
        """Of its sshd: a line for known_hosts, without the address."""
        self._bridge = bridge
        self._number = number
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._init: int | None = None
        self._connection: libvirt.virConnect | None = None

    # --- inside -----------------------------------------------------------------------------

    def run(
        self, argv: Sequence[str | Path], *, stdin: str | None = None, timeout_s: float = 120
    ) -> str:
        """Standard output of a command that ended well, as root on the host."""
        words = [str(word) for word in argv]
        done = subprocess.run(
            self.command(words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=ENVIRONMENT,
        )
        if done.returncode != 0:
            raise CommandFailed(words, done.returncode, done.stderr or done.stdout)
        return done.stdout

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the host, for `subprocess`."""
        return ["nsenter", "--target", str(self.init), *ENTER, "--wd=/", "--", *argv]

    def seen(self, path: str | Path) -> Path:
        """Where this machine sees a path of the running host."""
        return Path(f"/proc/{self.init}/root") / str(path).lstrip("/")

    def put(self, path: str | Path, content: str | bytes, *, mode: int = 0o644) -> None:
        """Write a file on the running host, folders included."""
        data = content.encode() if isinstance(content, str) else content
        place = self.seen(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Never readable to others in between.
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)

    def read(self, path: str | Path) -> str:
        return self.seen(path).read_text()

    def journal(self, unit: str) -> str:
        """What a unit logged since the host was started."""
        return self.run(["journalctl", "--boot", "--no-pager", "--output=cat", f"--unit={unit}"])

    def outer_pid(self, inner: int) -> int:
        """The number on this machine of a process that has another on the host."""
        for pid in cgroups.pids(self.container.name):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if numbers.split()[2:] == [str(inner)]:
                return pid
        raise LabError(f"{self.name} has no process {inner}")

    # --- power ------------------------------------------------------------------------------

    @property
    def powered(self) -> bool:
        """Whether it runs."""
        return self.running

    @property
    def running(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def init(self) -> int:
        """Its first process, as this machine numbers it."""
        if self._init is None or not self.running:
            raise LabError(f"{self.name} does not run")
        return self._init

    def start(self) -> None:
        """Power on, and wait until systemd says that all is started."""
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        """Power on."""
        if self.running:
            raise LabError(f"{self.name} runs already")
        self._supervisor = self.container.start()
        self._init = self.container.init_of(self._supervisor)
        network.connect(self._bridge, self._number, self._init)

    def wait_ready(self) -> None:
        wait_until(self._is_up, f"the start of {self.name}", timeout_s=READY_TIMEOUT_S)

    def kill(self) -> None:
        """Cut its power: its init dies and with it, at once, every process, VMs included."""
        if self._supervisor is None:
            return
        if self._init is not None and self.running:
            os.kill(self._init, signal.SIGKILL)
        # The group too, as a machine that starts finds none. In groups that were killed before,
        # trixie's systemd (it clones services right into theirs) saw them die at their start.
        cgroups.remove(self.container.name)
        self._forget()

    def stop(self) -> None:
        """Power off in order, as `poweroff` does."""
        os.kill(self.init, POWER_OFF)
        wait_until(lambda: not self.running, f"the end of {self.name}", timeout_s=STOP_TIMEOUT_S)
        self._forget()

    # --- network ----------------------------------------------------------------------------

    def cut(self) -> None:
        """Pull its network cable: connections hang, nothing is refused."""
        network.set_up(self._cable, up=False)

    def lose(self, *, from_host: float = 0, to_host: float = 0) -> None:
        """Lose packets at random, in percent. 100 in one direction makes connections half-open."""
        network.lose(self._cable, from_host=from_host, to_host=to_host)

    def throttle(self, kbit_per_s: int) -> None:
        """Bound what goes to the host."""
        network.throttle(self._cable, kbit_per_s=kbit_per_s)

    def delay(self, kbit_per_s: int) -> None:
        """Make the line a narrow one, in both directions, in which what is sent stands in a queue.

        While it is full all that goes through it is late by up to a second.
        """
        network.throttle(self._cable, kbit_per_s=kbit_per_s)
        network.throttle_inside(self.init, kbit_per_s=kbit_per_s)

    def mend(self) -> None:
        """Plug the cable in again, and end all that was done to it."""
        network.keep(self._cable)
        network.unthrottle(self._cable)
        if self.running:
            network.unthrottle_inside(self.init)
        network.set_up(self._cable, up=True)

    # --- as a hypervisor --------------------------------------------------------------------

    @property
    def uri(self) -> str:
        """For libvirt and virsh on this machine."""
        return f"qemu+unix:///system?socket={self.seen('/run/libvirt/libvirt-sock')}"

    @property
    def migration_uri(self) -> str:
        return f"qemu+tcp://{self.address}/system"

    @property
    def migration_address(self) -> str:
        return f"tcp://{self.address}"

    @property
    def connection(self) -> libvirt.virConnect:
        """A connection that is kept, and opened again after the host or its libvirtd went away."""
        if self._connection is None or not _answers(self._connection):
            self._connection = libvirt.open(self.uri)
        return self._connection

    def qemu_pid(self, vm: str) -> int:
        """The process of a VM's QEMU, as this machine numbers it."""
        return self.outer_pid(int(self.read(f"/run/libvirt/qemu/{vm}.pid")))

    # --- inside of this module --------------------------------------------------------------

    @property
    def _cable(self) -> str:
        return self._bridge.cable(self._number)

    def _is_up(self) -> bool:
        if not self.running:
            raise LabError(f"{self.name} ended: {self.container.last_words()}")
        # `degraded` as well: one unit that fails to start does not make a host useless.
        asked = subprocess.run(
            self.command(["systemctl", "is-system-running"]),
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRONMENT,
        )
        return asked.stdout.strip() in ("running", "degraded")

    def _forget(self) -> None:
        self._connection = None
        self._init = None
        if self._supervisor is not None:
            self._supervisor.wait(timeout=10)
            self._supervisor = None


def _answers(connection: libvirt.virConnect) -> bool:
    """Whether libvirtd is still there; `isAlive` only knows once a call has failed."""
    try:
        connection.getLibVersion()
    except libvirt.libvirtError:
        return False
    return True


def write_identity(host: ClusterHost, hosts_file: str, authorized_key: str) -> None:
    """Make a host itself, before its first start: name, keys, who else there is."""
    root = host.container.written
    for folder in ("etc/ssh", "root/.ssh", "etc/libvirt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "root").chmod(0o700)
    (root / "root/.ssh").chmod(0o700)
    (root / "etc/hostname").write_text(f"{host.name}\n")
    (root / "etc/hosts").write_text(hosts_file)
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    (root / "root/.ssh/authorized_keys").write_text(authorized_key)
    key = root / "etc/ssh/ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", key])
    host.public_key = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    original = (host.container.lower / "etc/libvirt/libvirtd.conf").read_text()
    # Migration between two hosts with the same host_uuid is refused ("to the same host"), and
    # all see the same firmware, from which libvirt would take it.
    (root / "etc/libvirt/libvirtd.conf").write_text(f'{original}host_uuid = "{host.host_uuid}"\n')
    host.run_dir.mkdir(exist_ok=True)
    os.chown(host.run_dir, host.user.uid, host.user.gid)
