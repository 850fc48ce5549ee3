"""Root file systems of Debian releases, built once and then only read.

A root is named by its release, its packages and this recipe, and lies outside of any checkout, so
a second run finds it. Hosts write into an overlay of their own. The packages come from where this
machine's apt gets its own: its lists say where that is.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sendense_lab.commands import run
from sendense_lab.errors import LabError
from sendense_lab.guest_image import locked

SUITES = ("bullseye", "bookworm", "trixie")
PACKAGES = (
    "dbus",
    "iproute2",
    "libnbd-bin",
    "libvirt-clients",
    "libvirt-daemon-system",
    "openssh-client",
    "openssh-server",
    "procps",
    "python3",
    "python3-libvirt",
    "python3-yaml",
    "qemu-system-x86",
    "qemu-utils",
    "sudo",
    "systemd",
    "systemd-sysv",
)
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
BUILD_TIMEOUT_S = 900

# Sockets would start libvirtd on demand and without --listen; CloudStack's set-up masks them too.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "libvirtd-admin.socket",
    "libvirtd-ro.socket",
    "libvirtd-tcp.socket",
    "libvirtd-tls.socket",
    "libvirtd.socket",
    "systemd-machined.service",
)
LIBVIRTD_CONF = """listen_tls = 0
listen_tcp = 1
tcp_port = "16509"
auth_tcp = "none"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
"""
# As CloudStack leaves it; AppArmor cannot be had in a container.
QEMU_CONF = 'security_driver = "none"\n'


def cache_dir() -> Path:
    """Where roots live: on a disk, they have some 400 MB each."""
    return Path(os.environ.get("SENDENSE_LAB_ROOTS", "/var/cache/sendense-lab"))


def root_of(suite: str) -> Path:
    """The root of a release, built if the cache lacks it (one to two minutes)."""
    if suite not in SUITES:
        raise LabError(f"no such release: {suite}; there are {', '.join(SUITES)}")
    entry = cache_dir() / f"{suite}-{_recipe(suite)}"
    with locked(cache_dir() / f"{suite}.lock"):
        if not entry.exists():
            _build(suite, entry)
    return entry


def roots_of(suites: set[str]) -> dict[str, Path]:
    """Several at once: most of the time goes into downloads."""
    names = sorted(suites)
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(names, pool.map(root_of, names), strict=True))


def _recipe(suite: str) -> str:
    content = f"{suite} {PACKAGES} {Path(__file__).read_text()}"
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _build(suite: str, entry: Path) -> None:
    for tool in ("mmdebstrap", "systemd-nspawn"):
        if shutil.which(tool) is None:
            raise LabError(f"{tool} is missing: `make setup` installs what this needs")
    draft = Path(tempfile.mkdtemp(dir=entry.parent, prefix="building-"))
    try:
        root = draft / "root"
        run(_command(suite, root), timeout_s=BUILD_TIMEOUT_S)
        _configure(root)
        # The rename is the commit: an entry that exists is whole.
        root.rename(entry)
    finally:
        shutil.rmtree(draft)


def _command(suite: str, root: Path) -> list[str]:
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io"]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    argv += [f"--aptopt={line}" for line in _apt_transport()]
    return [*argv, f"--include={','.join(PACKAGES)}", suite, str(root), _mirror()]


def _mirror() -> str:
    """Where this machine's apt finds Debian."""
    listing = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"])
    if not listing.strip():
        run(["apt-get", "update"], timeout_s=300)
        listing = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"])
    for line in listing.splitlines():
        origin, label, address = line.rsplit(" ", 2)
        if (origin, label) == ("Debian", "Debian"):
            return address
    raise LabError("apt has no source of Debian's main archive, from which roots could be made")


def _apt_transport() -> list[str]:
    """How this machine's apt reaches its sources: proxies and time-outs."""
    lines = run(["apt-config", "dump"]).splitlines()
    return [line for line in lines if line.startswith(("Acquire::http", "Acquire::https"))]


def _configure(root: Path) -> None:
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (root / "etc/default/libvirtd").write_text('LIBVIRTD_ARGS="--listen"\n')
    (root / "etc/libvirt/libvirtd.conf").write_text(LIBVIRTD_CONF)
    (root / "etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    # Each host makes its own.
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("")
