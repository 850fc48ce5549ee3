"""The configuration files of a private libvirtd, as CloudStack's setup leaves a host.

As there: no authentication on the unix socket and on TCP, no security driver. Different from
there: QEMU runs unprivileged as on a plain distribution (harder: whoever creates sockets or
scratch files must care for permissions), and no control groups, since the lab has no systemd.
"""

from __future__ import annotations

import grp
import pwd
import uuid
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTION_USER = "libvirt-qemu"
# The id Debian reserves for libvirt-qemu; used when libvirt-daemon-system is not installed.
NUMERIC_USER = 64055
KVM = Path("/dev/kvm")


@dataclass(frozen=True)
class QemuUser:
    """Whom QEMU runs as."""

    uid: int
    gid: int
    name: str = DISTRIBUTION_USER


def qemu_user() -> QemuUser:
    try:
        entry = pwd.getpwnam(DISTRIBUTION_USER)
    except KeyError:
        return QemuUser(NUMERIC_USER, NUMERIC_USER)
    return QemuUser(entry.pw_uid, entry.pw_gid)


def write_accounts(folder: Path) -> dict[str, str]:
    """Account files with QEMU's user in them, and where to mount them; nothing if it exists.

    libvirt resolves its built-in user before it reads its configuration, so a machine without
    that account cannot start the QEMU driver whatever qemu.conf says ("Failed to parse user").
    """
    try:
        pwd.getpwnam(DISTRIBUTION_USER)
    except KeyError:
        pass
    else:
        return {}
    number = NUMERIC_USER
    passwd = f"{DISTRIBUTION_USER}:x:{number}:{number}::/var/lib/libvirt:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + passwd)
    group = f"{DISTRIBUTION_USER}:x:{number}:\n"
    (folder / "group").write_text(Path("/etc/group").read_text() + group)
    return {str(folder / "passwd"): "/etc/passwd", str(folder / "group"): "/etc/group"}


def hide_kvm(folder: Path) -> dict[str, str]:
    """Something to mount upon /dev/kvm so that nobody can open it.

    Without this, where the device exists but QEMU's user may not open it, libvirt finds KVM when
    it probes QEMU (as root) and misses it when it checks that finding: it probed QEMU again for
    each question, 18 times 4 s for one domain start ("KVM was enabled when probing").
    """
    if not KVM.exists():
        return {}
    nothing = folder / "no-kvm"
    nothing.touch(mode=0o000)
    return {str(nothing): str(KVM)}


def kvm_open_to(user: QemuUser) -> bool:
    """Whether QEMU's user may use the device."""
    if not KVM.exists():
        return False
    device = KVM.stat()
    groups = {user.gid} | {group.gr_gid for group in grp.getgrall() if user.name in group.gr_mem}
    if device.st_uid == user.uid:
        return device.st_mode & 0o600 == 0o600
    if device.st_gid in groups:
        return device.st_mode & 0o060 == 0o060
    return device.st_mode & 0o006 == 0o006


def write_config(etc: Path, *, host_uuid: uuid.UUID, tcp_port: int, user: QemuUser) -> None:
    """Write libvirtd.conf and qemu.conf into a folder that will be seen as /etc/libvirt."""
    (etc / "libvirtd.conf").write_text(_libvirtd_conf(host_uuid, tcp_port))
    (etc / "qemu.conf").write_text(_qemu_conf(user))


def _libvirtd_conf(host_uuid: uuid.UUID, tcp_port: int) -> str:
    # Migration between two hosts with the same host_uuid is refused ("to the same host").
    return f"""host_uuid = "{host_uuid}"
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
listen_tls = 0
listen_tcp = 1
listen_addr = "127.0.0.1"
tcp_port = "{tcp_port}"
auth_tcp = "none"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""


def _qemu_conf(user: QemuUser) -> str:
    # namespaces: QEMU's own /dev would hide a lab that lives on /dev/shm.
    # remember_owner: keeps owners in trusted.* attributes, which tmpfs and containers lack.
    return f"""user = "+{user.uid}"
group = "+{user.gid}"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
remember_owner = 0
"""
