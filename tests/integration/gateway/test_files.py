"""The gateway's files under a control plane of root: its account owns nothing that root trusts.

Whoever takes over the gateway may do what its account may.  If root then did something by a name
that the account can change, he would be root.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from sendense.errors import SendenseError, Unsupported
from sendense.fleet.gateway import Gateway
from sendense.fleet.gateway_config import GatewaySettings
from sendense_lab.ports import free_port
from tests.integration.gateway.site import gateway_of, new_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands files to an account")

WORDS = "secret" * 1000


@pytest.fixture
def target(place):
    """Give a file that is root's alone."""
    path = place / "shadow"
    path.write_text(WORDS)
    path.chmod(0o600)
    return path


@pytest.fixture
def idle(place):
    """Give a gateway that does not run."""
    place.chmod(0o755)
    settings = GatewaySettings(place / "gateway", port=free_port(), addresses=("127.0.0.1",))
    return Gateway(settings)


def untouched(target: Path) -> bool:
    """Tell whether the file is root's alone and whole."""
    found = target.stat()
    return (found.st_uid, found.st_gid, target.read_text()) == (0, 0, WORDS)


def swap(name: Path, target: Path) -> None:
    """Put a symbolic link in place of a file."""
    name.unlink()
    name.symlink_to(target)


def as_account(*words: object) -> bool:
    """Tell whether a command does its work as the gateway's account, as the gateway is started."""
    entry = pwd.getpwnam("sshd")
    drop = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    done = subprocess.run([*drop, "--", *map(str, words)], check=False, capture_output=True)
    return done.returncode == 0


def test_a_folder_the_account_cannot_reach_is_named(place):
    place.chmod(0o755)
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    settings = GatewaySettings(closed / "state/gateway", port=free_port(), addresses=("127.0.0.1",))
    with pytest.raises(Unsupported) as refused:
        Gateway(settings).start()
    assert f"{closed} (chmod o+x)" in (refused.value.hint or "")


def test_the_account_owns_its_log_and_its_host_keys_only(place):
    with gateway_of(place) as gateway:
        gateway.set_keys([new_host(place, gateway).key])
        folder = gateway.settings.folder
        assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (0, 0o750)
        owned = {path.name for path in folder.iterdir() if path.stat().st_uid != 0}
        assert owned == {"sshd.log", "host_ed25519", "host_ecdsa"}
        assert not any((folder / name).stat().st_mode & 0o077 for name in owned)
        assert as_account("test", "-r", folder / "authorized_keys")
        assert not as_account("test", "-w", folder / "authorized_keys")
        assert not as_account("touch", folder / "new")
        assert not as_account("mv", folder / "sshd.log", folder / "moved")


def test_a_folder_that_was_the_accounts_is_taken_back(idle):
    folder = idle.settings.folder
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    idle.host_keys()
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (0, 0o750)


def test_a_link_in_place_of_a_new_file_gives_nothing_away(idle, target, monkeypatch):
    # Between writing and handing over.
    fresh = idle.settings.folder / ".authorized_keys.new"
    monkeypatch.setattr("os.fsync", lambda _descriptor: swap(fresh, target))
    idle.set_keys([])
    assert untouched(target)


@pytest.mark.parametrize("end", ["", ".pub"])
def test_a_link_in_place_of_a_new_host_key_gives_nothing_away(idle, target, monkeypatch, end):
    def make(words):
        subprocess.run(words, check=True)
        swap(Path(f"{words[-1]}{end}"), target)

    monkeypatch.setattr("sendense.fleet.gateway._run", make)
    with contextlib.suppress(OSError, SendenseError):
        idle.host_keys()
    assert untouched(target)


def test_a_link_in_place_of_the_log_is_not_followed(idle, target, monkeypatch):
    monkeypatch.setattr("sendense.fleet.gateway._LOG_MOST", 100)
    idle.host_keys()
    target.write_text(WORDS + "\n")
    (idle.settings.folder / "sshd.log").symlink_to(target)
    idle._follow_log()
    assert not idle._last_words()
    assert target.read_text() == WORDS + "\n"


def test_a_link_in_place_of_a_public_host_key_is_not_read(idle, target):
    idle.host_keys()
    swap(idle.settings.folder / "host_ed25519.pub", target)
    with pytest.raises(OSError, match="symbolic"):
        idle.host_keys()
