"""PostgreSQL for the tests: the distribution's, on a unix socket, gone without a trace afterwards.

It refuses to run as root, so it runs as ``nobody`` then.  Nothing of it has to survive a power cut,
so it syncs nothing.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg

from tests.support.memory_folder import memory_folder

_BINARIES = Path("/usr/lib/postgresql")
_USER = "sendense"
_READY_S = 150
_FAST = [
    "dynamic_shared_memory_type=mmap",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
]


class PostgresServer:
    """A server, and how to reach it."""

    def __init__(self, folder: Path) -> None:
        """Use a folder that ``initdb`` made ready."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for each in _FAST for part in ("-c", each)]
        command = [str(_binaries() / "postgres"), "-D", str(self._folder / "data"),
                   "-k", str(self._folder), "-c", "listen_addresses=", *options]  # fmt: skip
        log = self._folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*_as_nobody(), "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=self._folder,
            )  # fmt: skip
        _wait(self, self._process, log)

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill it, as a power cut would: with the processes that serve its clients.

        These outlive the first one for as long as they do not look, and go on to answer.
        """
        process = self._process
        if process is None:
            return
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        process.send_signal(signal.SIGSTOP)  # it starts no more of them
        with ExitStack() as stack:
            serving = []
            for pid in map(int, children.read_text().split()):
                with suppress(ProcessLookupError):
                    serving.append(os.pidfd_open(pid))
                    stack.callback(os.close, serving[-1])
            self._end(signal.SIGKILL)
            for descriptor in serving:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                ended = select.poll()
                ended.register(descriptor, select.POLLIN)
                if not ended.poll(30_000):
                    raise RuntimeError("a process of PostgreSQL outlives SIGKILL")

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(120)
            self._process = None

    def url(self, database: str) -> str:
        """Give the URL of a database there."""
        return f"postgresql://{_USER}@/{database}?host={self._folder}"

    def make_database(self, template: str = "template1") -> str:
        """Make a database, as a copy of another one; gives its name."""
        name = f"db_{secrets.token_hex(6)}"
        self._execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a new, empty server."""
    binaries = _binaries()
    with memory_folder() as folder:
        _run([str(binaries / "initdb"), "-D", str(folder / "data"), "-U", _USER,
              "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"], folder)  # fmt: skip
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _binaries() -> Path:
    versions = sorted(_BINARIES.glob("*/bin"), key=lambda path: int(path.parent.name))
    if not versions:
        raise RuntimeError("PostgreSQL is not installed: make setup")
    return versions[-1]


def _as_nobody() -> list[str]:
    if os.geteuid() != 0:
        return ["setpriv"]
    return ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]


def _run(command: list[str], folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
        folder.chmod(0o755)
    result = subprocess.run(
        [*_as_nobody(), "--", *command], capture_output=True, text=True, check=False, cwd=folder
    )
    if result.returncode:
        raise RuntimeError(f"{command[0]}: {result.stderr[-2000:]}")


def _wait(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _READY_S
    while True:
        try:
            psycopg.connect(server.url("postgres")).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
