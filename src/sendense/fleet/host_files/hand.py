"""The hand of a deployment on a host: one operation for each call; it is sent whole, and not kept.

It is asked in JSON on standard input and answers in JSON on standard output.  Every operation may
be repeated.  Secrets come by standard input only, never as arguments.  Lines before the mark are
skipped: sudo reads its password from the same stream, or leaves it there if it needs none.

This is no module of the product on the host: it brings the product there.  So it needs nothing
but Python 3.9.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Optional

Asked = dict[str, Any]
Told = dict[str, Any]

MARK = b"sendense-hand\n"
HOME = Path("/opt/sendense")
ETC = Path("/etc/sendense")
STATE = Path("/var/lib/sendense")
WORK = Path("/var/lib/libvirt/qemu/sendense")
"""Where NBD sockets and scratch are, unless the settings say otherwise."""
UNIT = "sendense-capture.service"
UNIT_FILE = Path("/etc/systemd/system", UNIT)
DROP_INS = Path("/etc/systemd/system", f"{UNIT}.d")
VERSIONS = HOME / "versions"
CURRENT = HOME / "current"
PROGRAM = "bin/sendense-capture-agent"
KEY = ETC / "tunnel.key"
BEFORE = HOME / "before.json"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SYSTEMCTL_S = 200.0
"""An agent that ends frees its guests first."""
_PACKAGES_S = 900.0
_LONGEST = 1500


class Trouble(Exception):
    """An operation failed, for a reason to be told."""


def run(argv: list[str], *, timeout_s: float = 120, **more: str) -> str:
    """Run a program that must end well; ``more`` is its environment beside ours."""
    status, text = attempt(argv, timeout_s=timeout_s, **more)
    if status != 0:
        raise Trouble(f"{' '.join(argv[:3])} ended with {status}: {text[-_LONGEST:]}")
    return text


def attempt(argv: list[str], *, timeout_s: float = 120, **more: str) -> tuple[int, str]:
    """Run a program that may fail; gives its status and all that it said."""
    done = subprocess.run(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
        env={**os.environ, "PATH": PATH, "LC_ALL": "C", **more},
    )
    return done.returncode, done.stdout.decode(errors="replace").strip()


def quiet(argv: list[str]) -> str:
    """Give what a program says, or nothing if it fails."""
    try:
        status, text = attempt(argv, timeout_s=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return text if status == 0 else ""


def read(path: Path) -> Optional[bytes]:
    """Give what a file holds, or nothing."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file as a whole; it is never readable to more than its mode says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.sendense-new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def link(target: str, path: Path) -> None:
    """Have a symbolic link lead somewhere else, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.sendense-new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(path)


# -- looking: changes nothing --------------------------------------------------------


def facts(ask: Asked) -> Told:
    """Tell what a deployment decides from."""
    systemd = quiet(["systemctl", "--version"]).split()
    return {
        "root": os.geteuid() == 0,
        "host": socket.gethostname(),
        "now": time.time(),
        "os": os_release(),
        "python": list(sys.version_info[:3]),
        "systemd": systemd[1] if len(systemd) > 1 else "",
        "modules": [name for name in ask["modules"] if has_module(name)],
        "programs": [name for name in ask["programs"] if shutil.which(name, path=PATH)],
        "libvirt": libvirt_versions(),
        "free": {name: free_bytes(Path(name)) for name in ask["folders"]},
        "selinux": (read(Path("/sys/fs/selinux/enforce")) or b"").decode().strip(),
        "apparmor": (read(Path("/sys/module/apparmor/parameters/enabled")) or b"").decode().strip(),
        "gateway": reach(ask.get("gateway")),
        "pools": pools(),
        "installed": installed(),
    }


def os_release() -> dict[str, str]:
    """Read which system this is."""
    lines = (read(Path("/etc/os-release")) or b"").decode().splitlines()
    pairs = [line.partition("=") for line in lines]
    return {name: value.strip("'\"") for name, sign, value in pairs if sign}


def has_module(name: str) -> bool:
    """Tell whether this Python has a module."""
    return bool(quiet([sys.executable, "-I", "-c", f"import {name}; print(1)"]))


def libvirt_versions() -> Optional[list[int]]:
    """Ask libvirt for its version and QEMU's."""
    code = (
        "import libvirt; c = libvirt.open('qemu:///system');"
        "print(c.getLibVersion(), c.getVersion())"
    )
    said = quiet([sys.executable, "-I", "-c", code]).split()
    return [int(word) for word in said] if len(said) == 2 else None


def free_bytes(folder: Path) -> int:
    """Measure the room where a folder is, or will be."""
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def reach(address: Optional[list[Any]]) -> Optional[str]:
    """Try to connect; gives why not, or nothing to tell."""
    if not address:
        return None
    try:
        socket.create_connection((address[0], address[1]), timeout=5).close()
    except OSError as error:
        return str(error)
    return ""


def pools() -> list[str]:
    """Find the directories with disks: libvirt's pools, and what is mounted as CloudStack does."""
    found = {str(path) for path in Path("/mnt").iterdir() if path.is_mount()}
    virsh = ["virsh", "--quiet", "--connect", "qemu:///system"]
    for name in quiet([*virsh, "pool-list", "--name"]).split():
        _before, sign, rest = quiet([*virsh, "pool-dumpxml", name]).partition("<path>")
        if sign:
            found.add(rest.partition("</path>")[0])
    return sorted(path for path in found if path.startswith("/") and Path(path).is_dir())


def installed() -> Told:
    """Tell what of us is there."""
    current = CURRENT.readlink().name if CURRENT.is_symlink() else ""
    return {
        "current": current,
        "versions": sorted(path.name for path in VERSIONS.iterdir()) if VERSIONS.is_dir() else [],
        "active": quiet(["systemctl", "is-active", UNIT]) == "active",
        "enabled": quiet(["systemctl", "is-enabled", UNIT]) == "enabled",
        "unfinished": BEFORE.exists(),
    }


def service(_ask: Asked) -> Told:
    """Tell how the service is, and what it logged last."""
    journal = ["journalctl", "--no-pager", "--output=cat", "--lines=15", f"--unit={UNIT}"]
    return {
        "state": attempt(["systemctl", "is-active", UNIT])[1],
        "log": attempt(journal)[1][-_LONGEST:],
    }


# -- changing ------------------------------------------------------------------------


def packages(ask: Asked) -> Told:
    """Install packages of the distribution."""
    names = ask["names"]
    if ask["tool"] == "dnf":
        dnf = ["dnf", "install", "--assumeyes", "--setopt=install_weak_deps=False"]
        run([*dnf, *names], timeout_s=_PACKAGES_S)
        return {}
    apt = ["apt-get", "install", "--yes", "--no-install-recommends", *names]
    status, _said = attempt(apt, timeout_s=_PACKAGES_S, DEBIAN_FRONTEND="noninteractive")
    if status != 0:
        # Lists that are absent or old give no candidate, or one that is gone.
        attempt(["apt-get", "update"], timeout_s=_PACKAGES_S)
        run(apt, timeout_s=_PACKAGES_S, DEBIAN_FRONTEND="noninteractive")
    return {}


def remember(_ask: Asked) -> Told:
    """Keep what is there now until :func:`forget`, so that :func:`undo` can bring it back."""
    if BEFORE.exists():
        # Of a deployment that died: what it found is the last that was good.
        return {"kept": True}
    files = {
        str(path): [base64.b64encode(path.read_bytes()).decode(), path.stat().st_mode & 0o777]
        for path in managed()
    }
    HOME.mkdir(parents=True, exist_ok=True)
    HOME.chmod(0o755)
    write(
        BEFORE, json.dumps({**installed(), "files": files, "state": STATE.exists()}).encode(), 0o600
    )
    return {"kept": False}


def managed() -> list[Path]:
    """List our files outside of the versions, but the tunnel's key, which is made once."""
    key_pair = (KEY, KEY.with_suffix(".key.pub"))
    found = [UNIT_FILE, *DROP_INS.glob("sendense-*.conf"), *ETC.rglob("*")]
    return [path for path in found if path.is_file() and path not in key_pair]


def install(ask: Asked) -> Told:
    """Unpack a version beside those that are there."""
    name = str(ask["name"])
    if (VERSIONS / name).is_dir():
        return {"had": True}
    data = base64.b64decode(ask["bundle"])
    if hashlib.sha256(data).hexdigest() != ask["sha256"]:
        raise Trouble("the bundle did not arrive whole")
    work = HOME / "incoming"
    shutil.rmtree(work, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            # It is ours, and yet: nothing may land elsewhere.
            inside = member.name.startswith(f"versions/{name}/") and ".." not in member.name
            if content is None or not inside:
                raise Trouble(f"the bundle holds something odd: {member.name}")
            write(work / member.name, content.read(), member.mode)
    # The service may not write there, so it would compile at each start.
    attempt([sys.executable, "-m", "compileall", "-q", str(work)])
    for folder, _folders, files in os.walk(work):
        Path(folder).chmod(0o755)
        for compiled in (Path(folder, file) for file in files if file.endswith(".pyc")):
            compiled.chmod(0o644)
    VERSIONS.mkdir(exist_ok=True)
    VERSIONS.chmod(0o755)
    (work / "versions" / name).replace(VERSIONS / name)
    shutil.rmtree(work)
    return {"had": False}


def key(ask: Asked) -> Told:
    """Make the tunnel's key pair if there is none; its private half never leaves this host."""
    ETC.mkdir(parents=True, exist_ok=True)
    ETC.chmod(0o700)
    if ask.get("renew"):
        KEY.unlink(missing_ok=True)
    if not KEY.exists():
        comment = f"sendense-agent@{socket.gethostname()}"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(KEY)])
    return {"public": run(["ssh-keygen", "-y", "-f", str(KEY)])}


def settings(ask: Asked) -> Told:
    """Write files, of ours only."""
    for name, content, mode in ask["files"]:
        path = Path(name)
        ours = ETC in path.parents or (
            path.parent == DROP_INS and path.name.startswith("sendense-")
        )
        if not ours or ".." in path.parts:
            raise Trouble(f"not ours to write: {path}")
        write(path, base64.b64decode(content), mode)
    return {}


def switch(ask: Asked) -> Told:
    """Make a version the current one; its own program checks the settings before that."""
    version = VERSIONS / str(ask["name"])
    for option in ("--check", "--prepare"):
        run([str(version / PROGRAM), option], SENDENSE_AGENT_ROOT=str(version))
    link(f"versions/{version.name}", CURRENT)
    link(f"../current/{PROGRAM}", HOME / PROGRAM)
    for folder in (HOME, HOME / "bin"):
        folder.chmod(0o755)
    write(UNIT_FILE, (version / UNIT).read_bytes(), 0o644)
    run(["systemctl", "daemon-reload"])
    return {}


def start(_ask: Asked) -> Told:
    """Have the current version run, now and after each boot."""
    attempt(["systemctl", "reset-failed", UNIT])
    run(["systemctl", "enable", UNIT])
    run(["systemctl", "restart", UNIT], timeout_s=_SYSTEMCTL_S)
    return {}


def undo(_ask: Asked) -> Told:
    """Bring back what was there before :func:`remember`; tells whether an agent runs again."""
    content = read(BEFORE)
    if content is None:
        return {"undone": False, "agent": installed()["active"]}
    before = json.loads(content)
    if not before["current"]:
        clear()
        if not before["state"]:
            shutil.rmtree(STATE, ignore_errors=True)
    for path in managed():
        if str(path) not in before["files"]:
            path.unlink()
    for name, (text, mode) in before["files"].items():
        write(Path(name), base64.b64decode(text), mode)
    attempt(["systemctl", "daemon-reload"])
    if before["current"]:
        link(f"versions/{before['current']}", CURRENT)
        attempt(["systemctl", "enable" if before["enabled"] else "disable", UNIT])
        verb = "restart" if before["active"] else "stop"
        run(["systemctl", verb, UNIT], timeout_s=_SYSTEMCTL_S)
    BEFORE.unlink()
    drop_empty([HOME, WORK])
    return {"undone": True, "agent": bool(before["active"])}


def forget(_ask: Asked) -> Told:
    """Accept what is there: nothing can be undone any more; older versions go, but the last."""
    before = json.loads(read(BEFORE) or b"{}")
    keep = {installed()["current"], before.get("current", "")}
    BEFORE.unlink(missing_ok=True)
    for name in installed()["versions"]:
        if name not in keep:
            shutil.rmtree(VERSIONS / name, ignore_errors=True)
    return {}


def remove(ask: Asked) -> Told:
    """Take all of ours away; what the agent remembers of its work only if that is settled."""
    clear()
    if ask.get("state"):
        shutil.rmtree(STATE, ignore_errors=True)
    BEFORE.unlink(missing_ok=True)
    drop_empty([HOME, WORK])
    return {}


def clear() -> None:
    """Stop the service, and take our files away."""
    attempt(["systemctl", "disable", "--now", UNIT], timeout_s=_SYSTEMCTL_S)
    programs = [CURRENT, HOME / PROGRAM, KEY, KEY.with_suffix(".key.pub")]
    for path in [*managed(), *programs]:
        path.unlink(missing_ok=True)
    for folder in (VERSIONS, HOME / "incoming"):
        shutil.rmtree(folder, ignore_errors=True)
    drop_empty([HOME / "bin", ETC / "pki", ETC, DROP_INS])
    attempt(["systemctl", "daemon-reload"])
    attempt(["systemctl", "reset-failed", UNIT])


def drop_empty(folders: Iterable[Path]) -> None:
    """Remove directories in which nothing is left."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


OPERATIONS: dict[str, Callable[[Asked], Told]] = {
    act.__name__: act
    for act in (
        facts, service, packages, remember, install, key, settings, switch, start, undo, forget,
        remove,
    )
}  # fmt: skip


def main() -> None:
    """Carry out what is asked for."""
    for line in iter(sys.stdin.buffer.readline, b""):
        if line == MARK:
            break
    ask = json.loads(sys.stdin.buffer.read())
    os.umask(0o077)
    try:
        said: Told = {"answer": OPERATIONS[ask["do"]](ask)}
    except Trouble as error:
        said = {"trouble": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked has to be told
        said = {"trouble": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
