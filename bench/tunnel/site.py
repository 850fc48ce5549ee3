"""The parts of the way from a disk to its reader, started for the length of a block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.timing import BenchFailed
from sendense.agent.tunnel_ssh import TunnelSettings, command, forwards, known_hosts
from sendense.fleet.authority import Authority, write_worker_files
from sendense.fleet.gateway import Gateway
from sendense.fleet.gateway_config import AgentKey, GatewaySettings
from sendense.fleet.gateway_sessions import sockets_of
from sendense_lab.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
EXPORT = "disk"
SECRET = "bench"  # noqa: S105 - of a disk of random bytes
_START_S = 30.0


@dataclass(frozen=True)
class Running:
    """A host at work."""

    pid: int
    port: int
    """Of its gate."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + _START_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchFailed(f"{what} did not come to be within {_START_S:.0f} s")
        time.sleep(0.02)


@contextmanager
def child(words: Sequence[object]) -> Iterator[subprocess.Popen[str]]:
    """Run a program that ends with us."""
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/src"},
    )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def qemu_nbd(raw: Path, place: Path, *options: object) -> Iterator[Path]:
    """Serve a file read-only on a unix socket."""
    words = ["qemu-nbd", "-r", "-t", "-e32", "-x", EXPORT, "-k", place, *options]
    with child(words) as process:
        until(place.exists, "qemu-nbd")
        yield place
        process.terminate()


def share_of(raw: Path, number: int, count: int) -> list[str]:
    """Give qemu-nbd's words for one share of a file."""
    share = raw.stat().st_size // count
    where = f"driver=raw,offset={number * share},size={share}"
    return ["--image-opts", f"{where},file.driver=file,file.filename={raw}"]


class Site:
    """A gateway, its keys, an authority; in one folder."""

    def __init__(self, folder: Path, raw: Path, stack: ExitStack) -> None:
        """Start the gateway."""
        self.folder = folder
        self.raw = raw
        folder.chmod(0o755)
        self.gateway = Gateway(
            GatewaySettings(folder / "gateway", port=free_port(), addresses=("127.0.0.1",))
        )
        self.gateway.start()
        stack.callback(self.gateway.stop)
        self._hosts: list[AgentKey] = []
        self.socket = stack.enter_context(qemu_nbd(raw, folder / "disk.sock", "-f", "raw", raw))
        self._authority()

    def tunnel(self, gate: str, count: int) -> TunnelSettings:
        """Register one more host with so many tunnels for data."""
        name = f"host{len(self._hosts)}"
        key = self.folder / name
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        ports = [free_port() for _ in range(1 + count)]
        public = key.with_suffix(".pub").read_text()
        self._hosts.append(AgentKey(name, public, ports[0], tuple(ports[1:])))
        self.gateway.set_keys(self._hosts)
        pinned = self.folder / f"{name}.pinned"
        port = self.gateway.settings.port
        pinned.write_text(known_hosts("127.0.0.1", port, self.gateway.host_keys()))
        return TunnelSettings(
            "127.0.0.1", port, self.gateway.account, str(key), str(pinned),
            "/nowhere", ports[0], tuple(ports[1:]), gate,
        )  # fmt: skip

    @contextmanager
    def host(
        self, *, gate: str = "127.0.0.1", tunnel: TunnelSettings | None = None, tls: bool = False
    ) -> Iterator[Running]:
        """Run a host's gate, and its tunnels."""
        first = free_port()
        task = {
            "gate": gate, "ports": [first, first + 50], "name": EXPORT, "secret": SECRET,
            "socket": str(self.socket), "tunnel": asdict(tunnel) if tunnel else None,
            "tls": self.tls if tls else None,
        }  # fmt: skip
        with child([sys.executable, "-m", "bench.tunnel.host", json.dumps(task)]) as process:
            if process.stdout is None:
                raise BenchFailed("a host without an output")
            line = process.stdout.readline()
            if not line:
                raise BenchFailed("the host's process ended")
            for port in tunnel.data_ports if tunnel else ():
                until(lambda port=port: bool(sockets_of(ports=[port])), "a tunnel")  # type: ignore[misc]
            yield Running(process.pid, int(line))

    @contextmanager
    def plain_tunnels(self, count: int) -> Iterator[tuple[int, ...]]:
        """Run what the peer reads through: to shares of the disk, without a gate."""
        with ExitStack() as stack:
            settings = self.tunnel("", count)
            for number, forward in enumerate(forwards(settings)[1:]):
                place = self.folder / f"share{count}-{number}.sock"
                stack.enter_context(qemu_nbd(self.raw, place, *share_of(self.raw, number, count)))
                words = [str(word) for word in command(settings, forward)]
                to = words.index("-R") + 1
                words[to] = f"127.0.0.1:{forward.port}:{place}"
                stack.enter_context(child(words))
                until(lambda port=forward.port: bool(sockets_of(ports=[port])), "a tunnel")  # type: ignore[misc]
            yield settings.data_ports

    def _authority(self) -> None:
        """Make certificates: for the gate, for QEMU's own TLS, for whoever reads."""
        made = Authority.create("bench")
        authority = Authority(made.certificate, made.key)
        server = authority.issue_agent("host", ["127.0.0.1", "localhost"])
        folder = self.folder / "server"
        folder.mkdir()
        for name, content in (
            ("ca-cert.pem", made.certificate),
            ("server-cert.pem", server.certificate),
            ("server-key.pem", server.key.reveal()),
        ):
            (folder / name).write_bytes(content)
        names = {"certificate": "server-cert", "key": "server-key", "authority": "ca-cert"}
        self.tls = {role: str(folder / f"{name}.pem") for role, name in names.items()}
        self.server_files = folder
        self.worker_files = self.folder / "worker"
        write_worker_files(self.worker_files, made.certificate, authority.issue_worker("worker"))
