"""Examines a host for all that a capture needs, before the first one fails for want of it.

Every finding that is not well carries the command that mends it.  Nothing is
changed here but by :func:`prepare_folders`.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
from collections.abc import Iterator
from typing import Optional

import libvirt

from sendense.capture.confinement import examine_confinement
from sendense.capture.connection import close, connect, errors
from sendense.capture.domainxml import parse_document
from sendense.capture.folders import Account, examine_folders, prepare
from sendense.capture.images import bitmaps_supported, run_tool
from sendense.capture.machinecheck import examine_machine
from sendense.capture.session import HostSettings
from sendense.errors import NotAllowed, SendenseError
from sendense.model.finding import Finding, Level

_LIBVIRT_SINCE = (7, 6, 0)
_QEMU_SINCE = (6, 1, 0)

_TOOLS = {
    "qemu-img": ("qemu-utils", "qemu-img"),
    "qemu-nbd": ("qemu-utils", "qemu-img"),
    "setpriv": ("util-linux", "util-linux"),
}
"""Programs, with the packages of Debian's and of Red Hat's family."""

_QEMU_USERS = ("libvirt-qemu", "qemu")
"""Debian's and Red Hat's, where libvirt cannot be asked."""


def examine_host(settings: HostSettings, *, machines: bool = True) -> tuple[Finding, ...]:
    """Look at everything a capture needs on this host, and at each of its machines."""
    findings = [*_examine_tools()]
    try:
        connection = connect(settings.uri)
    except SendenseError as error:
        findings.append(_not_reached(error, settings.uri))
        findings += examine_folders(settings, _account_by_name())
        return tuple(findings)
    try:
        findings += _examine_connected(connection, settings, machines=machines)
    except SendenseError as error:
        findings.append(Finding("libvirt", Level.PROBLEM, str(error), error.hint))
    finally:
        close(connection)
    return tuple(findings)


def prepare_folders(settings: HostSettings) -> tuple[str, ...]:
    """Make our folders where they are missing; gives what was made."""
    account = _account_by_name()
    try:
        connection = connect(settings.uri)
    except SendenseError:
        pass
    else:
        with errors("asking libvirt for QEMU's user"):
            account = qemu_account(connection.getCapabilities()) or account
        close(connection)
    try:
        return tuple(prepare(settings, account))
    except PermissionError as error:
        raise NotAllowed(
            f"the folder {error.filename} cannot be made: {error.strerror}",
            hint="run as root",
        ) from error


def qemu_account(capabilities: str) -> Optional[Account]:
    """Read from libvirt's capabilities whom QEMU runs as: ``+64055:+64055``."""
    for model in parse_document(capabilities).findall("host/secmodel"):
        if model.findtext("model") == "dac":
            numbers = re.findall(r"\d+", model.findtext("baselabel") or "")
            if len(numbers) == 2:
                return Account(int(numbers[0]), int(numbers[1]))
    return None


def security_models(capabilities: str) -> tuple[str, ...]:
    """Read which security models libvirt confines QEMU with."""
    found = parse_document(capabilities).findall("host/secmodel/model")
    return tuple((model.text or "").strip() for model in found)


def _examine_connected(
    connection: libvirt.virConnect, settings: HostSettings, *, machines: bool
) -> Iterator[Finding]:
    with errors("examining libvirt"):
        capabilities = connection.getCapabilities()
        daemon, qemu = connection.getLibVersion(), connection.getVersion()
        offered = _backup_offered(connection)
        active = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
        domains = connection.listAllDomains(active) if machines else []
    account = qemu_account(capabilities)
    yield from _examine_versions(_version(daemon), _version(qemu), offered=offered)
    yield from _examine_rights(account)
    yield from examine_folders(settings, account)
    yield from examine_confinement(settings, security_models(capabilities))
    for domain in domains:
        yield from examine_machine(domain, settings)


def _not_reached(error: SendenseError, uri: str) -> Finding:
    if isinstance(error, NotAllowed):
        name = pwd.getpwuid(os.geteuid()).pw_name
        fix = f"usermod -aG libvirt {name}"
    elif uri.startswith("qemu"):
        fix = "systemctl enable --now libvirtd.socket || systemctl enable --now virtqemud.socket"
    else:
        fix = "set uri to qemu:///system in /etc/sendense/sendense.yaml"
    return Finding("libvirt", Level.PROBLEM, str(error), fix)


def _examine_versions(
    daemon: tuple[int, int, int], qemu: tuple[int, int, int], *, offered: bool
) -> Iterator[Finding]:
    both = f"libvirt {_dotted(daemon)} with QEMU {_dotted(qemu)}"
    yield Finding("libvirt", Level.OK, f"{both} answers")
    if offered and daemon >= _LIBVIRT_SINCE and qemu >= _QEMU_SINCE:
        yield Finding("incremental", Level.OK, f"{both} offers incremental backup")
        return
    lacks = (
        "has no incremental backup: every backup is a full"
        if offered
        else "cannot back up machines that run: only those that are off, and always in full"
    )
    yield Finding(
        "incremental",
        Level.WARNING,
        f"{both} {lacks}",
        f"upgrade to libvirt {_dotted(_LIBVIRT_SINCE)} and QEMU {_dotted(_QEMU_SINCE)} or newer",
    )


def _backup_offered(connection: libvirt.virConnect) -> bool:
    answer = connection.getDomainCapabilities(None, None, None, None, 0)
    backup = parse_document(answer).find("features/backup")
    return backup is not None and backup.get("supported") == "yes"


def _examine_rights(account: Optional[Account]) -> Iterator[Finding]:
    user = os.geteuid()
    if user == 0:
        yield Finding("rights", Level.OK, "running as root")
    elif account is not None and user == account.uid:
        yield Finding("rights", Level.OK, "running as QEMU's user")
    else:
        # QEMU's sockets are `srwxrwxr-x` of its own user (libvirt.md F1.4).
        groups = {grp.getgrgid(number).gr_name for number in os.getgroups()}
        member = "a member" if "libvirt" in groups else "no member"
        yield Finding(
            "rights",
            Level.PROBLEM,
            f"user {user} ({member} of the group libvirt) cannot open the NBD sockets that QEMU "
            "makes, nor the images of machines that are off",
            "sudo sendense doctor",
        )


def _examine_tools() -> Iterator[Finding]:
    for program, packages in _TOOLS.items():
        if shutil.which(program) is None:
            yield Finding("tools", Level.PROBLEM, f"{program} is not installed", _install(packages))
            continue
        try:
            said = run_tool([program, "--version"])[1].partition("\n")[0].strip()
        except SendenseError as error:
            yield Finding("tools", Level.PROBLEM, f"{program} does not work: {error}")
            continue
        yield Finding("tools", Level.OK, said or program)
    if shutil.which("qemu-img") is not None and not bitmaps_supported():
        yield Finding(
            "tools",
            Level.WARNING,
            "qemu-img cannot add bitmaps: machines that are off are always read in full",
            "upgrade to QEMU 5.1 or newer",
        )


def _install(packages: tuple[str, str]) -> str:
    debian, red_hat = packages
    if shutil.which("apt-get") is not None:
        return f"apt-get install {debian}"
    return f"dnf install {red_hat}" if shutil.which("dnf") is not None else f"install {debian}"


def _account_by_name() -> Optional[Account]:
    for name in _QEMU_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return None


def _version(number: int) -> tuple[int, int, int]:
    return number // 1_000_000, number // 1000 % 1000, number % 1000


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)
