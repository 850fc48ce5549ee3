"""One KVM host of the lab: a libvirtd of its own, with everything it starts.

What can be done to a real host can be done here: restart or kill its libvirtd (its VMs live on),
or take its power away (`power_off`: everything dies at once). `close` ends what is left. The
machine's own libvirtd, if there is one, is never touched and never noticed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import uuid
from pathlib import Path

import libvirt

from sendense_lab import host_config, private_root, processes
from sendense_lab.commands import wait_until
from sendense_lab.errors import LabError
from sendense_lab.ports import free_port
from sendense_lab.processes import ProcessIdentity

# A path of a unix socket has at most 107 bytes; QEMU's and libvirt's get appended to ours.
LONGEST_FOLDER = 60
START_TIMEOUT_S = 90


class Hypervisor:
    """A host named `name` whose files live in `folder`."""

    def __init__(self, folder: Path, *, name: str, kvm: bool = False) -> None:
        if len(str(folder)) > LONGEST_FOLDER:
            raise LabError(f"{folder} is too long for unix sockets below it, take a shorter root")
        self.folder = folder
        self._kvm = kvm
        self.name = name
        self.user = host_config.qemu_user()
        self.host_uuid = uuid.uuid4()
        self.tcp_port = free_port()
        self.run_dir = folder / "jobs"
        self._inits: list[subprocess.Popen[bytes]] = []
        self._daemon: ProcessIdentity | None = None
        self._connection: libvirt.virConnect | None = None
        self._binds = {str(folder / name): at for name, at in private_root.TARGETS.items()}
        self._prepare()

    @property
    def powered(self) -> bool:
        """Whether anything can run there: QEMUs do without their libvirtd."""
        return True

    @property
    def socket(self) -> Path:
        """libvirtd's socket, as seen from outside."""
        return self.folder / "run/libvirt-sock"

    @property
    def uri(self) -> str:
        """For libvirt and virsh on this machine, outside of the namespace."""
        return uri_of(self.folder)

    @property
    def migration_uri(self) -> str:
        """For another host's libvirtd, as the target of a live migration."""
        return f"qemu+tcp://127.0.0.1:{self.tcp_port}/system"

    @property
    def migration_address(self) -> str:
        """Where another host's QEMU sends a guest to."""
        return "tcp://127.0.0.1"

    @property
    def log(self) -> Path:
        """The folder that libvirtd sees as /var/log/libvirt; QEMU's logs are in `qemu/`."""
        return self.folder / "log"

    @property
    def capabilities(self) -> Path:
        """Where libvirt keeps what it found out about QEMU."""
        return self.folder / "cache/qemu/capabilities"

    @property
    def pid(self) -> int:
        if self._daemon is None or not self._daemon.alive():
            raise LabError(f"libvirtd of {self.name} does not run")
        return self._daemon.pid

    @property
    def connection(self) -> libvirt.virConnect:
        """A connection that is kept, and opened again after libvirtd went away."""
        if self._connection is None or not self._connection.isAlive():
            self._connection = self.connect()
        return self._connection

    def connect(self) -> libvirt.virConnect:
        """A new connection; the caller closes it."""
        return libvirt.open(self.uri)

    def qemu_pid(self, vm: str) -> int:
        """The process of a VM's QEMU."""
        return int((self.folder / f"run/qemu/{vm}.pid").read_text())

    def start(self) -> None:
        """Start libvirtd and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        daemon = ["libvirtd", "--listen", "--pid-file", str(self.folder / "libvirtd.pid")]
        with (self.log / "start.log").open("ab") as log:
            init = subprocess.Popen(
                private_root.command_line(self.name, self._binds, daemon),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._inits.append(init)
        with init.stdout as answer:  # type: ignore[union-attr]
            number = answer.readline()
        self._daemon = ProcessIdentity.of(int(number)) if number else None
        wait_until(self._answers, f"libvirtd of {self.name}", timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """End libvirtd in order (SIGTERM). VMs live on."""
        self._end_daemon(signal.SIGTERM)

    def kill(self) -> None:
        """Kill libvirtd (SIGKILL). VMs live on."""
        self._end_daemon(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def power_off(self) -> None:
        """The host loses its power: libvirtd and all VMs are gone at once, nothing is saved."""
        processes.kill(processes.living_in(self.folder / "run"))
        self._forget_daemon()
        # A power cycle empties /run: otherwise libvirtd would look for its VMs after a start.
        _empty(self.folder / "run")

    def close(self) -> None:
        """End libvirtd and every process it started."""
        self._connection = None
        end_all(self.folder)
        self._forget_daemon()
        for init in self._inits:
            init.wait(timeout=10)

    def _prepare(self) -> None:
        for name, target in private_root.TARGETS.items():
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            # A mount needs a place. Empty folders at libvirt's own paths are all that a lab ever
            # leaves on a machine without libvirt: removing one that another lab has mounted upon
            # would unmount it there.
            Path(target).mkdir(parents=True, exist_ok=True)
        self.run_dir.mkdir(exist_ok=True)
        os.chown(self.run_dir, self.user.uid, self.user.gid)
        self.run_dir.chmod(0o770)
        self._binds.update(host_config.write_accounts(self.folder))
        if not self._kvm:
            self._binds.update(host_config.hide_kvm(self.folder))
        host_config.write_config(
            self.folder / "etc", host_uuid=self.host_uuid, tcp_port=self.tcp_port, user=self.user
        )

    def _answers(self) -> bool:
        if self._daemon is None or not self._daemon.alive():
            raise LabError(f"libvirtd of {self.name} ended, see {self.log}")
        if not _accepts(self.socket):
            return False
        # Only the full connection waits for the QEMU driver.
        try:
            self._connection = self.connect()
        except libvirt.libvirtError:
            return False
        return True

    def _end_daemon(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
        self._forget_daemon()

    def _forget_daemon(self) -> None:
        self._connection = None
        if self._daemon is not None:
            processes.wait_gone([self._daemon], timeout_s=90)
            self._daemon = None


def uri_of(folder: Path) -> str:
    """The URI of the hypervisor in `folder`."""
    return f"qemu+unix:///system?socket={folder}/run/libvirt-sock"


def end_all(folder: Path) -> None:
    """End every process of the hypervisor in `folder`, also one that was left behind."""
    # Again and again: libvirtd might just have started one more.
    for _ in range(5):
        found = processes.living_in(folder / "run")
        if not found:
            return
        processes.end(found)
    raise LabError(f"processes of {folder} keep coming")


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
