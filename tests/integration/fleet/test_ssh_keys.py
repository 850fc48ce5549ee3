"""With which keys a host lets us in: a real sshd, a real agent."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from sendense.errors import NotAllowed
from sendense.fleet.ssh import Access, RemoteHand, _connect
from sendense.model.secret import Secret
from sendense_lab.ports import free_port
from tests.integration.gateway.site import is_open, new_key, until

CONFIG = """
ListenAddress 127.0.0.1
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
AuthenticationMethods publickey
"""


@pytest.fixture
def place():
    """Give a folder of its own with a path short enough for an agent's socket."""
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def key(place):
    """Give the private file of the key that the host knows."""
    return new_key(place, "mine")[0]


@pytest.fixture
def host(place, key):
    """Run a host's sshd that lets in ``key``; gives the way to it, with no key yet."""
    private, public = new_key(place, "host")
    port = free_port()
    (place / "sshd_config").write_text(
        f"{CONFIG}Port {port}\nHostKey {private}\nAuthorizedKeysFile {key}.pub\n"
    )
    known = place / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {public}")
    if os.geteuid() == 0:
        # As the distribution's unit does: an sshd of root does not start without it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    words = ["/usr/sbin/sshd", "-D", "-f", place / "sshd_config", "-E", place / "log"]
    with running(*words):
        until(lambda: is_open(port))
        yield Access("127.0.0.1", port, getpass.getuser(), known_hosts=known)


@contextmanager
def running(*words: object) -> Iterator[None]:
    """Run a program for the length of the block."""
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def agent_with(place: Path, *keys: Path) -> Iterator[str]:
    """Run an SSH agent that holds these keys; gives its socket."""
    path = place / "agent"
    with running("ssh-agent", "-D", "-a", path):
        until(path.exists)
        for one in keys:
            environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
            subprocess.run(["ssh-add", "-q", one], check=True, env=environment)
        yield str(path)


def gets_in(access: Access) -> bool:
    """Tell whether the host lets us in."""
    try:
        with RemoteHand(access):
            return True
    except NotAllowed:
        return False


def test_the_keys_of_the_agent_open_the_host(place, host, key):
    with agent_with(place, new_key(place, "other")[0], key) as agent:
        assert gets_in(replace(host, agent=agent))


def test_a_key_file_that_is_given_is_the_only_key(place, host, key):
    # An sshd hangs up after six keys that it does not know.
    with agent_with(place, *(new_key(place, f"other{n}")[0] for n in range(7))) as agent:
        assert gets_in(replace(host, agent=agent, key_file=key))


def test_an_agent_with_too_many_keys_is_told_apart_from_a_firewall(place, host, key):
    keys = [new_key(place, f"other{n}")[0] for n in range(7)]
    with (
        agent_with(place, *keys, key) as agent,
        pytest.raises(NotAllowed, match="hung up after too many keys") as caught,
        RemoteHand(replace(host, agent=agent)),
    ):
        pass
    assert caught.value.hint is not None
    assert "--ssh-key" in caught.value.hint


def test_without_a_key_nobody_gets_in(place, host, key, monkeypatch):
    # A key that lies in the usual place is not given, so it is not used.
    (place / ".ssh").mkdir()
    shutil.copy(key, place / ".ssh/id_ed25519")
    monkeypatch.setenv("HOME", str(place))
    assert not gets_in(host)
    with agent_with(place) as agent:
        assert not gets_in(replace(host, agent=agent))
    assert not gets_in(replace(host, agent=str(place / "no-agent-there")))


class Asking(asyncssh.SSHServer):
    """Takes any password and no key, and notes what it is offered."""

    def __init__(self, offered: list[str]) -> None:
        self._offered = offered

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._offered.append("key")
        return False

    def validate_password(self, username: str, password: str) -> bool:
        self._offered.append("password")
        return True


async def offered_by(access: Access, host_key: Path) -> list[str]:
    """Give what is offered to a host that takes passwords."""
    offered: list[str] = []
    server = await asyncssh.listen(
        access.address, access.port, server_host_keys=[str(host_key)],
        server_factory=lambda: Asking(offered),
    )  # fmt: skip
    async with server:
        connection = await _connect(access)
        connection.abort()
        await connection.wait_closed()
    return offered


def test_a_password_that_is_given_comes_before_the_keys_of_the_agent(place, key):
    # The agent is just there, and an agent with many keys would use up the tries.
    private, public = new_key(place, "host")
    port = free_port()
    known = place / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {public}")
    with agent_with(place, key) as agent:
        access = Access(
            "127.0.0.1", port, password=Secret("a-password"), agent=agent, known_hosts=known
        )
        assert asyncio.run(offered_by(access, private)) == ["password"]
