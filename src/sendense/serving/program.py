"""nbdkit, the program: whether it is there and fits, and how it is started.

Its Python plugin holds the interpreter of the distribution.  Our packages are loaded into that one,
so it has to be of the version that runs here: compiled modules fit one version only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from socket import SOCK_STREAM, gaierror, getaddrinfo
from urllib.parse import quote

from sendense.errors import NotAllowed, NotFound, Rejected, Unsupported

Version = tuple[int, ...]

_NBDKIT = "nbdkit"
_SCRIPT = Path(__file__).with_name("plugin.py")
_OLDEST = 1, 30
"""The first whose Python plugin can tell block sizes, and ends in order."""
_SURVIVES = 1, 42
"""1.32 aborts when a client dies while two threads answer it: one thread for each connection then.

(1.42 does not, measured with clients that are killed; of those between nothing is known.)
"""
_INSTALL = (
    "install nbdkit and its Python plugin: nbdkit and nbdkit-plugin-python (Debian, Ubuntu), "
    "nbdkit-server and nbdkit-python-plugin (RHEL, Fedora)"
)
_CHECK_S = 30.0


@dataclass(frozen=True)
class UnixSocket:
    """Served to this user of this machine."""

    path: Path

    @property
    def address(self) -> str:
        """Give the path."""
        return str(self.path)

    def uri(self, export: str) -> str:
        """Give the URI of an export."""
        return f"nbd+unix:///{quote(export)}?socket={quote(str(self.path))}"

    def arguments(self) -> list[str]:
        """Give the options of nbdkit."""
        return [f"--unix={self.path}", "--tls=off"]


@dataclass(frozen=True)
class TcpPort:
    """Served to whoever reaches a port."""

    host: str
    port: int
    certificates: Path | None = None
    """A directory with ours and those of the authority; clients have to show theirs."""

    @property
    def address(self) -> str:
        """Give HOST:PORT."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def uri(self, export: str) -> str:
        """Give the URI of an export."""
        return f"{'nbd' if self.certificates is None else 'nbds'}://{self.address}/{quote(export)}"

    def arguments(self) -> list[str]:
        """Give the options of nbdkit."""
        listen = [f"--ipaddr={self.host}", f"--port={self.port}"]
        if self.certificates is None:
            return [*listen, "--tls=off"]
        folder = f"--tls-certificates={self.certificates}"
        return [*listen, "--tls=require", folder, "--tls-verify-peer"]


Address = UnixSocket | TcpPort


def parse_tcp(text: str, *, certificates: Path | None, insecure: bool) -> TcpPort:
    """Read HOST:PORT; without TLS, only this machine may reach it unless somebody insists."""
    host, found, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (found and host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise Rejected(f"{text!r} is not HOST:PORT", hint="for example --tcp 127.0.0.1:10809")
    if certificates is not None:
        _check_certificates(certificates)
        return TcpPort(host, int(port), certificates.absolute())
    if not insecure and not _is_loopback(host):
        raise NotAllowed(
            f"everybody who reaches {text} could read the disks, and listen in",
            hint="give --tls DIR with certificates; or --insecure, on a network that you trust",
        )
    return TcpPort(host, int(port))


def _check_certificates(folder: Path) -> None:
    needed = ("ca-cert.pem", "server-cert.pem", "server-key.pem")
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise Rejected(
            f"the directory {folder} has no {', '.join(missing)}",
            hint="nbdkit-tls(1) says how to make them",
        )


def _is_loopback(host: str) -> bool:
    try:
        found = {item[4][0] for item in getaddrinfo(host, None, type=SOCK_STREAM)}
    except gaierror as error:
        raise Rejected(f"{host!r} is no address of this machine: {error.strerror}") from error
    return all(ip_address(str(item).partition("%")[0]).is_loopback for item in found)


def check_program() -> Version:
    """Give the version of nbdkit; an error unless it is there and its interpreter fits."""
    if shutil.which(_NBDKIT) is None:
        raise NotFound("the program nbdkit is not installed", hint=_INSTALL)
    asked = subprocess.run(
        [_NBDKIT, "--dump-plugin", "python"],
        check=False,
        capture_output=True,
        text=True,
        timeout=_CHECK_S,
        env=environment(),
    )
    facts = dict(re.findall(r"^(\w+)=(.*)$", asked.stdout, re.MULTILINE))
    if asked.returncode != 0 or "python_version" not in facts:
        raise NotFound("nbdkit has no Python plugin", hint=_INSTALL, said=asked.stderr.strip())
    return _checked_version(facts)


def _checked_version(facts: Mapping[str, str]) -> Version:
    version = tuple(int(part) for part in re.findall(r"\d+", facts.get("version", ""))[:2])
    if version < _OLDEST:
        raise Unsupported(
            f"nbdkit is {facts.get('version')}, and {'.'.join(map(str, _OLDEST))} is needed",
            hint="a newer release of the distribution has it",
        )
    theirs = ".".join(facts["python_version"].split(".")[:2])
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if theirs != ours:
        raise Unsupported(
            f"nbdkit's Python plugin is Python {theirs}, and Sendense runs with {ours}",
            hint=f"install Sendense for the distribution's interpreter, Python {theirs}",
        )
    return version


def command(
    version: Version, address: Address, *, handover_fd: int, writable: bool, with_parent: bool
) -> list[str]:
    """Give the command line of a server; nothing in it is secret."""
    options = [] if writable else ["--readonly"]
    if version < _SURVIVES:
        options.append("--threads=1")
    if with_parent:
        options.append("--exit-with-parent")
    return [
        _NBDKIT, "--foreground", *options, *address.arguments(),
        "python", str(_SCRIPT), f"handover={handover_fd}",
    ]  # fmt: skip


def environment() -> dict[str, str]:
    """Give the environment of a server: ours, with our packages, and without our secrets."""
    kept = {name: value for name, value in os.environ.items() if not _is_left_out(name)}
    return {
        # With a heap for each of nbdkit's many threads, memory is a fifth more (204 and 164 MiB).
        "MALLOC_ARENA_MAX": "2",
        **kept,
        "PYTHONPATH": os.pathsep.join(_packages()),
        "LC_ALL": "C.UTF-8",
    }


def _is_left_out(name: str) -> bool:
    # What our settings are was handed over; the passphrase may be among these variables.
    return name.startswith("SENDENSE_") or (
        name.startswith("PYTHON") and name != "PYTHONUNBUFFERED"
    )


def _packages() -> list[str]:
    """Give where our packages are: the other interpreter finds its own library by itself."""
    library = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    library |= {str(Path(path) / "lib-dynload") for path in library}
    return [path for path in sys.path if path and path not in library and Path(path).is_dir()]
