"""The cluster: hosts, their network, one shared pool; leaves nothing behind.

On exit, whatever happened, all is ended and removed. A cluster whose process was killed is ended
by the next one, or by `make lab-cluster-down`.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import libvirt

from sendense_lab import journal
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.cluster import network, roots, teardown
from sendense_lab.cluster.container import Container
from sendense_lab.cluster.host import ClusterHost, write_identity
from sendense_lab.cluster.network import Bridge
from sendense_lab.commands import run
from sendense_lab.domain_xml import Boot
from sendense_lab.errors import LabError
from sendense_lab.host_config import NUMERIC_USER, QemuUser
from sendense_lab.pool import Pool
from sendense_lab.vm_making import DiskSpec, VmMaker

DEFAULT_HOSTS: Mapping[str, str] = {"kvm1": "bookworm", "kvm2": "bookworm"}


class Cluster:
    """Hosts by name, in `root`, a folder that must be new or empty."""

    def __init__(self, root: Path, hosts: Mapping[str, str], *, name: str = "cluster") -> None:
        self.root = root
        self.name = name
        self.hosts: dict[str, ClusterHost] = {}
        self.key = root / "id_ed25519"
        """The private key whose public half is root's on every host."""
        self._wanted = dict(hosts)
        self._entry: journal.Entry | None = None
        self._bridge: Bridge | None = None
        self._maker: VmMaker | None = None

    def __enter__(self) -> Cluster:
        # Errors arrive as exceptions; libvirt's binding would print each on stderr besides.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        journal.sweep()
        self.root.mkdir(parents=True, exist_ok=True)
        if any(self.root.iterdir()):
            raise LabError(f"{self.root} is not empty")
        lowers = roots.roots_of(set(self._wanted.values()))
        self._entry = journal.record(self.name, self.root)
        try:
            self._build(lowers)
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def bridge(self) -> Bridge:
        """The network; `bridge.address` is this machine's own address on it."""
        if self._bridge is None:
            raise LabError("the cluster is not entered")
        return self._bridge

    @property
    def pool(self) -> Pool:
        """Primary storage, at the same path on every host and here."""
        return self.maker.pool

    @property
    def vms(self) -> list[CloudVm]:
        return self.maker.made

    @property
    def known_hosts(self) -> str:
        """The content of a known_hosts file with all hosts in it."""
        lines = [f"{host.address} {host.public_key}\n" for host in self.hosts.values()]
        return "".join(lines)

    def create_vm(
        self,
        host: ClusterHost | None = None,
        *,
        boot: Boot = "guest",
        disks: Sequence[DiskSpec] = (DiskSpec(),),
        options: Sequence[str] = (),
    ) -> CloudVm:
        """A VM as CloudStack makes it, running on `host`, or stopped without one.

        A guest still boots: `vm.guest.wait_ready()`.
        """
        vm = self.maker.make(boot=boot, disks=disks, options=options)
        if host is not None:
            vm.start(host)
        return vm

    def migrate(self, vm: CloudVm, to: ClusterHost) -> None:
        """Live, over the network between the hosts."""
        vm.migrate(to)

    def ssh(self, host: ClusterHost, argv: Sequence[str], *, timeout_s: float = 60) -> str:
        """Run a command through the host's sshd, as root."""
        options = [
            f"UserKnownHostsFile={self.root / 'known_hosts'}",
            "BatchMode=yes",
            "ConnectTimeout=10",
        ]
        words = [word for option in options for word in ("-o", option)]
        return run(
            ["ssh", "-F", "none", "-i", self.key, *words, f"root@{host.address}", *argv],
            timeout_s=timeout_s,
        )

    def detach(self) -> None:
        """Leave everything running when the context ends, for `make lab-cluster-down`."""
        if self._entry is None:
            raise LabError("the cluster is not entered")
        journal.disown(self._entry)
        self._entry = None

    def close(self) -> None:
        """End and remove everything; the context manager does this."""
        if self._entry is None:
            return
        journal.take_down(self._entry)
        self._entry = None
        for host in self.hosts.values():
            host.kill()

    @property
    def maker(self) -> VmMaker:
        """Makes its VMs; for those whose name and disks someone else decides."""
        if self._maker is None:
            raise LabError("the cluster is not entered")
        return self._maker

    def _build(self, lowers: Mapping[str, Path]) -> None:
        identity = secrets.token_hex(2)
        # Before anything of that name is made: ending the cluster begins with this file.
        (self.root / teardown.ID_FILE).write_text(identity)
        self.root.chmod(0o755)
        pool = Pool(self.root / "mnt", link=teardown.POOL_LINKS)
        user = QemuUser(NUMERIC_USER, NUMERIC_USER)
        self._maker = VmMaker(self.root, pool, user, accelerator="qemu")
        self._bridge = network.create(identity)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self.key])
        shared = f"{self.root / 'mnt' / pool.id}:{pool.folder}"
        for number, (name, suite) in enumerate(self._wanted.items(), start=1):
            # The lab's own folder too: consoles, kernels and NVRAM of VMs are there.
            container = Container(
                name=f"{teardown.group_prefix(identity)}{name}",
                folder=self.root / name,
                lower=lowers[suite],
                binds=(str(self.root), shared),
            )
            self.hosts[name] = ClusterHost(
                name, suite, container=container, bridge=self._bridge, number=number
            )

    def _start(self) -> None:
        lines = ["127.0.0.1 localhost"]
        lines += [f"{host.address} {host.name}" for host in self.hosts.values()]
        key = self.key.with_suffix(".pub").read_text()
        for host in self.hosts.values():
            host.container.prepare()
            write_identity(host, "\n".join(lines) + "\n", key)
        (self.root / "known_hosts").write_text(self.known_hosts)
        for host in self.hosts.values():
            host.begin()
        for host in self.hosts.values():
            host.wait_ready()


@contextmanager
def cluster(
    hosts: Mapping[str, str] = DEFAULT_HOSTS,
    *,
    name: str = "cluster",
    where: Path = Path("/srv"),
) -> Iterator[Cluster]:
    """A cluster in a new folder: host names and the Debian release of each.

    The folder is seen at the same path on the hosts, so it cannot be where an init mounts
    something of its own: /dev/shm, /run, /tmp.
    """
    root = Path(tempfile.mkdtemp(prefix="sendense-lab-", dir=where))
    try:
        with Cluster(root, hosts, name=name) as entered:
            yield entered
    finally:
        if root.exists() and not any(root.iterdir()):
            root.rmdir()
