"""A host over SSH, for its deployment: one connection, on which the hand is asked to do things.

This is the one place with asyncio, as the library is made of it; nobody outside notices.  The key
that a host shows must be known before: from a known_hosts file, or by its fingerprint.  There is no
way to accept whatever comes, as that is exactly when somebody else may be answering.  What the
hand is, and why it needs no file on the host, :mod:`sendense.fleet.host_files` tells.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from sendense.errors import NotAllowed, SendenseError, Stalled, Unavailable, Unsupported
from sendense.model.secret import Secret

PYTHON = "/usr/bin/python3"
PYTHON_SINCE = (3, 9)

_log = logging.getLogger(__name__)

_MARK = "sendense-hand\n"
_CONNECT_S = 20.0
_ANSWER_S = 240.0
_LONGEST_WORDS = 1000
_TOO_MANY = "Too many authentication failures"
"""How OpenSSH says it, as it hangs up."""
_PASSWORD_FIRST = ("password", "keyboard-interactive", "publickey")
"""For whoever gives one: a host hangs up after some keys (six, by default) that it does not know,
and an agent may have more."""


@dataclass(frozen=True)
class Access:
    """How a host is reached, and as whom."""

    address: str
    port: int = 22
    user: str = "root"
    password: Secret | None = None
    key_file: Path | None = None
    passphrase: Secret | None = None
    """Of the key file."""
    agent: str | None = None
    """Socket of an SSH agent; its keys are tried where no key file is given."""
    sudo_password: Secret | None = None
    """Where the user is not root, and sudo wants to know one."""
    known_hosts: Path | None = None
    fingerprint: str | None = None
    """``SHA256:...`` of the host's key."""
    timeout_s: float = field(default=_CONNECT_S)


class Seen(asyncssh.SSHClient):
    """Accepts a host's key by its fingerprint, and remembers what the host showed."""

    def __init__(self, wanted: str | None) -> None:
        """Accept only the key of the fingerprint ``wanted``."""
        self._wanted = wanted
        self.shown = ""
        """Fingerprint and algorithm of the key that no known_hosts file vouches for."""
        self.algorithm = ""

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Say whether a key that is in no known_hosts file is the host's."""
        self.shown, self.algorithm = key.get_fingerprint(), key.get_algorithm()
        return self._wanted is not None and self.shown == self._wanted


class RemoteHand:
    """A connection to one host; a context manager."""

    def __init__(self, access: Access) -> None:
        """Connect to nothing yet."""
        self.access = access
        self._runner = asyncio.Runner()
        self._connection: asyncssh.SSHClientConnection | None = None

    def __enter__(self) -> Self:
        """Connect, and see that there is a Python that can do what will be asked."""
        try:
            self._connection = self._runner.run(_connect(self.access))
            self._require_python()
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
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        self._runner.close()

    def ask(
        self, operation: str, *, timeout_s: float = _ANSWER_S, **content: Any
    ) -> dict[str, Any]:
        """Have the hand do something, as root; gives its answer."""
        question = json.dumps({"do": operation, **content})
        status, out, words = self._run(self._command(), self._stdin(question), timeout_s)
        try:
            said = json.loads(out)
        except ValueError:
            raise self._unheard(status, words) from None
        if "trouble" in said:
            raise SendenseError(f"{self.access.address}: {said['trouble']}", operation=operation)
        answer: dict[str, Any] = said["answer"]
        return answer

    # -- inside ----------------------------------------------------------------------

    def _command(self) -> str:
        python = [PYTHON, "-I", "-c", hand()]
        if self.access.user == "root":
            return shlex.join(python)
        # -k: always ask anew, so that the line with the password is always read where one is
        # wanted, and skipped by the hand where none is.
        return shlex.join(["sudo", "-k", "-S", "-p", "", "--", *python])

    def _stdin(self, question: str) -> str:
        before = ""
        if self.access.user != "root" and self.access.sudo_password is not None:
            before = self.access.sudo_password.reveal().decode() + "\n"
        return before + _MARK + question

    def _require_python(self) -> None:
        code = "import sys; print(*sys.version_info[:3])"
        status, out, _words = self._run(shlex.join([PYTHON, "-I", "-c", code]), "", _CONNECT_S)
        found = tuple(int(word) for word in out.split() if word.isdigit())
        if status != 0 or found[:2] < PYTHON_SINCE:
            shown = ".".join(str(part) for part in found) or "none"
            raise Unsupported(
                f"{self.access.address} has no Python that the agent runs on: {PYTHON} is {shown}",
                hint="Python 3.9 is the oldest: Debian 11, RHEL 9, Ubuntu 22.04 and later have it",
            )

    def _run(self, command: str, stdin: str, timeout_s: float) -> tuple[int, str, str]:
        if self._connection is None:
            raise SendenseError("the connection is not open")
        try:
            done = self._runner.run(
                asyncio.wait_for(self._connection.run(command, input=stdin, check=False), timeout_s)
            )
        except TimeoutError:
            raise Stalled(
                f"{self.access.address} did not finish in {timeout_s:.0f} s",
                hint="look at the host: its disk, its package manager or its systemd hangs",
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise Unavailable(f"the connection to {self.access.address} broke: {error}") from error
        return done.exit_status or 0, str(done.stdout or ""), str(done.stderr or "")

    def _unheard(self, status: int, words: str) -> SendenseError:
        said = words.strip()[-_LONGEST_WORDS:]
        if self.access.user != "root" and ("sudo" in said or "password" in said):
            return NotAllowed(
                f"{self.access.user} may not become root on {self.access.address}: {said}",
                hint="give the password for sudo, or allow the user sudo without one",
            )
        return SendenseError(f"{self.access.address} ended with {status}: {said}")


async def _connect(access: Access) -> asyncssh.SSHClientConnection:
    seen = Seen(access.fingerprint)
    try:
        async with asyncio.timeout(access.timeout_s), _keys(access) as keys:
            return await asyncssh.connect(
                access.address,
                access.port,
                username=access.user,
                password=access.password.reveal().decode() if access.password else None,
                client_keys=keys,
                preferred_auth=_PASSWORD_FIRST if access.password else (),
                passphrase=access.passphrase.reveal().decode() if access.passphrase else None,
                # Asked by _keys: an agent named here would have its keys tried before the file's.
                agent_path=None,
                known_hosts=str(access.known_hosts) if access.known_hosts else ([], [], []),
                server_host_key_algs="default" if access.known_hosts is None else (),
                client_factory=lambda: seen,
                # Nobody's own ~/.ssh/config decides what a deployment does.
                config=None,
                keepalive_interval=15,
            )
    except asyncssh.HostKeyNotVerifiable as error:
        raise _not_known(access, seen, error) from None
    except asyncssh.PermissionDenied as error:
        raise NotAllowed(
            f"{access.address} does not let {access.user} in: {error.reason}",
            hint="give another user, a password, a key or an agent that has it",
        ) from error
    except TimeoutError:
        raise Unavailable(
            f"{access.address} port {access.port} did not answer in {access.timeout_s:.0f} s",
            hint="look at its address, its sshd and the firewalls between",
        ) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise NotAllowed(
            f"the key {access.key_file} cannot be used: {error}", hint="give its passphrase"
        ) from error
    except asyncssh.DisconnectError as error:
        if _TOO_MANY in error.reason:
            raise _tried_too_often(access) from error
        raise _unreachable(access, error) from error
    except (OSError, asyncssh.Error) as error:
        raise _unreachable(access, error) from error


def _unreachable(access: Access, error: Exception) -> Unavailable:
    return Unavailable(
        f"{access.address} port {access.port} cannot be reached: {error}",
        hint="look at its address, its sshd and the firewalls between",
    )


def _tried_too_often(access: Access) -> NotAllowed:
    """Say that a host hung up before the right key came: each key is a try, and few are allowed."""
    return NotAllowed(
        f"{access.address} does not let {access.user} in: it hung up after too many keys",
        hint="the SSH agent has more keys than its sshd takes tries (MaxAuthTries): "
        "name the key of this host with --ssh-key",
    )


@asynccontextmanager
async def _keys(access: Access) -> AsyncIterator[list[str | asyncssh.SSHKeyPair] | None]:
    """Give the keys to try: the file's, else the agent's, for as long as the agent can sign.

    The library's own way to an agent would not do: ``client_keys=None`` says "no keys at all", and
    with an empty list it takes what lies in ``~/.ssh`` as well, which nobody has asked for.
    """
    if access.key_file:
        yield [str(access.key_file)]
    elif not access.agent:
        yield None
    else:
        async with asyncssh.SSHAgentClient(access.agent) as agent:
            try:
                keys = await agent.get_keys()
            except ValueError as error:
                # A password may still do; and where not, the host's refusal comes next.
                _log.warning("the SSH agent at %s gives no keys: %s", access.agent, error)
                keys = ()
            yield list(keys) or None


def _not_known(access: Access, seen: Seen, error: asyncssh.HostKeyNotVerifiable) -> SendenseError:
    look = f"ssh-keygen -lf /etc/ssh/ssh_host_{_short(seen.algorithm)}_key.pub"
    where = (
        f"is not the one with the fingerprint {access.fingerprint}"
        if access.fingerprint
        else f"is not in {access.known_hosts}"
        if access.known_hosts
        else "is not known"
    )
    shown = f" {seen.shown} ({seen.algorithm})" if seen.shown else f" ({error.reason})"
    return NotAllowed(
        f"the SSH key that {access.address} shows{shown} {where}: nothing was sent to it",
        hint=f"compare it with what '{look}' says at the host's own console; if they are the same, "
        "give it as the fingerprint, or add the key to the known_hosts file",
        fingerprint=seen.shown,
        algorithm=seen.algorithm,
    )


def _short(algorithm: str) -> str:
    for name in ("ed25519", "ecdsa", "rsa"):
        if name in algorithm:
            return name
    return "ed25519"


@cache
def hand() -> str:
    """Give the program that is sent."""
    return (resources.files("sendense") / "fleet/host_files/hand.py").read_text(encoding="utf-8")


def as_file(path: str, content: str | bytes, mode: int = 0o600) -> list[Any]:
    """Give a file as the hand takes it."""
    data = content.encode() if isinstance(content, str) else content
    return [path, as_text(data), mode]


def as_text(data: bytes) -> str:
    """Give bytes as the hand takes them."""
    return base64.b64encode(data).decode()
