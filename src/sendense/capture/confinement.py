"""AppArmor and SELinux: may a confined QEMU use our folders?

libvirt confines each QEMU to the files in its domain's XML.  What a backup adds at
run time, an NBD socket and a scratch file, is not in there.  The lines and the label
below are what it takes; which of the two is in force, libvirt itself says in its
capabilities (``secmodel``).

Neither could be run where this was written.  The AppArmor lines follow from the
profiles of Debian's libvirt 9.0 (both include the ``local`` files named here) and
from what users of virtnbdbackup found (its issue 7); the SELinux type is the policy's
own for ``/var/lib/libvirt/qemu``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sendense.capture.session import HostSettings
from sendense.model.finding import Finding, Level

_QEMU_LOCAL = "etc/apparmor.d/local/abstractions/libvirt-qemu"
_HELPER_LOCAL = "etc/apparmor.d/local/usr.lib.libvirt.virt-aa-helper"

_SELINUX_TYPE = "qemu_var_run_t"
_SELINUX_TYPES = (_SELINUX_TYPE, "svirt_image_t", "svirt_tmp_t")
"""Types that a confined QEMU may create sockets and write files in."""


def examine_confinement(
    settings: HostSettings, models: tuple[str, ...], *, root: Path = Path("/")
) -> Iterator[Finding]:
    """Look at what libvirt's security ``models`` allow; ``root`` is where the system is."""
    if "apparmor" in models:
        yield from _examine_apparmor(settings, root)
    if "selinux" in models:
        yield from _examine_selinux(settings, root)
    if not {"apparmor", "selinux"} & set(models):
        yield Finding("confinement", Level.OK, "libvirt does not confine QEMU")


def _examine_apparmor(settings: HostSettings, root: Path) -> Iterator[Finding]:
    wanted = {
        _QEMU_LOCAL: (f"{settings.socket_dir}/*.sock rw,", f"{settings.scratch_dir}/* rwk,"),
        # The helper reads a file before it writes the profile that lets QEMU open it.
        _HELPER_LOCAL: (f"{settings.scratch_dir}/* r,",),
    }
    missing = {
        name: [line for line in lines if line not in _lines_of(root / name)]
        for name, lines in wanted.items()
    }
    commands = []
    for name, lines in missing.items():
        if lines:
            quoted = " ".join(f"'{line}'" for line in lines)
            folder = Path("/", name).parent
            commands.append(f"mkdir -p {folder} && printf '%s\\n' {quoted} >> /{name}")
    if not commands:
        yield Finding("apparmor", Level.OK, "AppArmor lets QEMU use our folders")
        return
    yield Finding(
        "apparmor",
        Level.PROBLEM,
        "AppArmor confines QEMU, and its rules do not name our folders",
        " && ".join([*commands, "systemctl reload apparmor"]),
    )


def _examine_selinux(settings: HostSettings, root: Path) -> Iterator[Finding]:
    enforcing = _first_line(root / "sys/fs/selinux/enforce") == "1"
    for name in dict.fromkeys((settings.socket_dir, settings.scratch_dir)):
        kind = _selinux_type(Path(name))
        if kind in _SELINUX_TYPES:
            yield Finding("selinux", Level.OK, f"{name} is labelled {kind}")
            continue
        yield Finding(
            "selinux",
            Level.PROBLEM if enforcing else Level.WARNING,
            f"{name} is labelled {kind or 'nothing'}: SELinux keeps QEMU out"
            + ("" if enforcing else " once it is enforcing"),
            f"semanage fcontext -a -t {_SELINUX_TYPE} '{name}(/.*)?' && restorecon -Rv {name}",
        )


def _lines_of(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in path.read_text().splitlines())
    except OSError:
        return ()


def _first_line(path: Path) -> str:
    return next(iter(_lines_of(path)), "")


def _selinux_type(folder: Path) -> str:
    """Give the type of a label such as ``system_u:object_r:qemu_var_run_t:s0``."""
    try:
        label = os.getxattr(folder, "security.selinux").decode(errors="replace")
    except OSError:
        return ""
    parts = label.rstrip("\0").split(":")
    return parts[2] if len(parts) > 2 else ""
