"""How a server begins and ends: what it holds, what it leaves, and who is told what."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nbd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from sendense.errors import Busy, NotAllowed, NotFound, Rejected, Unavailable
from sendense.model.secret import Secret
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.opening import Access
from sendense.serving import mounting
from sendense.serving.mounts import find_mount, list_mounts
from sendense.serving.program import TcpPort, parse_tcp
from sendense_lab.ports import free_port
from tests.integration.serving.site import connected, uri
from tests.support.dedup import PASSPHRASE
from tests.support.points import BLOCK, MACHINE_UUID

ROOT = Path(__file__).parents[3]


def _leases(dedup):
    return list((dedup.place / "leases").iterdir())


def _until(condition):
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- what it holds ---


def test_a_point_is_held_while_it_is_served(either):
    either.fill()
    other = either.reopen()
    with either.served("p1"), pytest.raises(Busy):
        other.delete(["p1"])
    assert other.delete(["p1"]) == ("p1",)
    other.close()


def test_nothing_is_left(dedup):
    dedup.fill()
    with dedup.served("p1") as server:
        assert len(_leases(dedup)) == 1
        assert len(list(dedup.root.iterdir())) == 1
        process = server.mount.process
    assert not process.alive
    assert _leases(dedup) == []
    assert list(dedup.root.iterdir()) == []


def test_secrets_are_nowhere_to_be_seen(dedup):
    dedup.fill()
    with dedup.served("p1") as server:
        process = Path(f"/proc/{server.mount.process.pid}")
        for name in ("cmdline", "environ"):
            assert PASSPHRASE.reveal() not in (process / name).read_bytes()
        for path in Path(server.mount.folder).iterdir():
            if path.is_file():
                assert PASSPHRASE.reveal() not in path.read_bytes()
        opened = [str(item.readlink()) for item in (process / "fd").iterdir()]
        assert not [item for item in opened if "handover" in item]
        assert "Max core file size        0 " in (process / "limits").read_text()
        assert Path(server.mount.folder).stat().st_mode & 0o077 == 0


# --- what keeps it from beginning ---


def test_a_wrong_passphrase_is_told_as_what_it_is(dedup):
    dedup.fill()
    order = dedup.order("p1")
    wrong = Access(secret=lambda _new: Secret("wrong and long enough"), cache=None)
    with pytest.raises(NotAllowed, match="passphrase") as caught:
        mounting.start(replace(order, access=wrong))
    assert caught.value.hint
    assert list(dedup.root.iterdir()) == []


def test_a_point_that_is_being_deleted(dedup):
    dedup.fill()
    parts = dedup.repository.parts
    tag = parts.ring.machine_tag(MACHINE_UUID)
    wish = Wish(LeaseKind.DELETE, "a deletion", tag, frozenset(["p1"]))
    with parts.leases.acquire(wish), pytest.raises(Busy, match="deletion"):
        mounting.start(dedup.order("p1"))


def test_a_point_that_went(dedup):
    dedup.fill()
    order = dedup.order("p1")
    dedup.repository.delete(["p1"])
    with pytest.raises(NotFound, match="p1"):
        mounting.start(order)


def test_no_disk(dedup):
    dedup.fill()
    order = dedup.order("p1")
    with pytest.raises(Rejected):
        mounting.start(replace(order, disks=()))


def test_what_nbdkit_says_is_passed_on(dedup, monkeypatch):
    dedup.fill()
    monkeypatch.setattr("sendense.serving.program._SCRIPT", Path("/nowhere/plugin.py"))
    with pytest.raises(Unavailable, match="nowhere") as caught:
        mounting.start(dedup.order("p1"))
    assert caught.value.data["said"]
    assert list(dedup.root.iterdir()) == []


# --- how it ends ---


def test_an_idle_client_does_not_hold_it(dedup):
    dedup.fill()
    with dedup.served("p1") as server, connected(uri(server)) as client:
        client.pread(512, 0)
        began = time.monotonic()
        server.end()
        assert time.monotonic() - began < 12
        with pytest.raises(nbd.Error):
            client.pread(512, 0)


def test_a_client_that_does_not_fetch_its_answers_does_not_hold_it(dedup):
    dedup.fill()
    with dedup.served("p1") as server, connected(uri(server)) as client:
        # Many answers are asked for, and none is fetched.
        buffers = [nbd.Buffer(1 << 20) for _ in range(32)]
        for buffer in buffers:
            client.aio_pread(buffer, 0)
        for _ in range(100):
            client.poll(0)
        began = time.monotonic()
        server.end()
        assert time.monotonic() - began < 12
        assert _leases(dedup) == []


def test_clients_that_are_killed_do_it_no_harm(dedup):
    """In the middle of their answers: there is an nbdkit that aborts then."""
    expected = dedup.fill()["p1", "vda"]
    rng = random.Random(1)
    with dedup.served("p1") as server:
        for _ in range(15):
            client = subprocess.Popen(["nbdcopy", uri(server), "null:"], stderr=subprocess.DEVNULL)
            time.sleep(rng.random() * 0.1)
            client.kill()
            client.wait()
        with connected(uri(server)) as client:
            assert client.pread(BLOCK, 0) == expected[:BLOCK]


def test_somebody_else_unmounts_it(dedup):
    dedup.fill()
    server = mounting.start(dedup.order("p1"))
    threading.Timer(0.3, lambda: mounting.unmount(find_mount(dedup.root, "p1"))).start()
    server.wait()
    assert not server.end()
    assert list_mounts(dedup.root) == ()
    assert _leases(dedup) == []


def test_a_server_that_is_killed(dedup):
    """Its lease is found dead at once, as its process is gone."""
    dedup.fill()
    server = mounting.start(dedup.order("p1"))
    os.kill(server.mount.process.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match="ended by itself"):
        server.wait()
    server.end()
    assert list(dedup.root.iterdir()) == []
    assert len(_leases(dedup)) == 1
    assert dedup.repository.delete(["p1"]) == ("p1",)
    assert _leases(dedup) == []


SERVE = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from sendense.repository.opening import Access, open_repository
    from sendense.serving import mounting
    from tests.support.dedup import PASSPHRASE
    url, root, detached = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "detached"
    access = Access(secret=lambda _new: PASSPHRASE)
    repository = open_repository(url, access)
    point = repository.point("p1")
    repository.close()
    order = mounting.MountOrder(
        url, access, url, point, point.disks, root, detached=detached, log_level=20
    )
    server = mounting.start(order)
    print("serving", flush=True)
    if detached:
        server.leave()
    else:
        server.wait()
    """
)


def _command(dedup, how):
    return subprocess.Popen(
        [sys.executable, "-c", SERVE, dedup.url, str(dedup.root), how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_command_that_is_killed_takes_its_server_along(dedup):
    dedup.fill()
    with _command(dedup, "attached") as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "serving\n"
        (mount,) = list_mounts(dedup.root)
        with connected(mount.disks[0].uri):
            command.kill()
            command.wait()
            _until(lambda: not mount.process.alive)
    assert list_mounts(dedup.root) == ()
    assert list(dedup.root.iterdir()) == []
    assert _leases(dedup) == []


def test_one_that_is_left_running(dedup):
    expected = dedup.fill()["p1", "vda"]
    with _command(dedup, "detached") as command:
        assert command.stdout is not None
        assert command.stdout.read() == "serving\n"
        assert command.wait(90) == 0
    (mount,) = list_mounts(dedup.root)
    assert mount.detached
    with connected(mount.disks[0].uri) as client:
        assert client.pread(BLOCK, 0) == expected[:BLOCK]
    assert not mounting.unmount(mount)
    assert not mount.process.alive
    assert list(dedup.root.iterdir()) == []
    assert _leases(dedup) == []


def test_one_that_was_left_running_and_is_killed(dedup):
    dedup.fill()
    with _command(dedup, "detached") as command:
        command.communicate(timeout=90)
    (mount,) = list_mounts(dedup.root)
    os.kill(mount.process.pid, signal.SIGKILL)
    _until(lambda: not mount.process.alive)
    with dedup.served("p1") as server:
        assert [item.folder for item in list_mounts(dedup.root)] == [server.mount.folder]


# --- ports ---


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificates(folder):
    """Make an authority, and a server and a client that it vouches for."""
    now = datetime.now(UTC)
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("ca", "server", "client")}
    for who, key in keys.items():
        made = (
            x509.CertificateBuilder()
            .subject_name(_name("localhost" if who == "server" else who))
            .issuer_name(_name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=who == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(keys["ca"], hashes.SHA256())
        )
        (folder / f"{who}-cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
        (folder / f"{who}-key.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )


def test_only_who_has_a_certificate_comes_in(dedup, tmp_path):
    expected = dedup.fill()["p1", "vda"]
    full, half = tmp_path / "full", tmp_path / "half"
    full.mkdir()
    half.mkdir()
    _certificates(full)
    (half / "ca-cert.pem").write_bytes((full / "ca-cert.pem").read_bytes())
    tcp = parse_tcp(f"localhost:{free_port()}", certificates=full, insecure=False)
    with dedup.served("p1", tcp=tcp) as server:
        assert uri(server).startswith("nbds://localhost:")
        with connected(f"{uri(server)}?tls-certificates={full}") as client:
            assert client.pread(BLOCK, 0) == expected[:BLOCK]
        for address in (
            f"{uri(server)}?tls-certificates={half}",
            uri(server).replace("nbds:", "nbd:"),
        ):
            with pytest.raises(nbd.Error), connected(address) as client:
                client.pread(BLOCK, 0)
        with connected(f"{uri(server)}?tls-certificates={full}"):
            began = time.monotonic()
            server.end()
            assert time.monotonic() - began < 12


def test_a_port(dedup):
    expected = dedup.fill()["p1", "vda"]
    port = free_port()
    tcp = TcpPort("127.0.0.1", port)
    with dedup.served("p1", tcp=tcp) as server:
        assert uri(server) == f"nbd://127.0.0.1:{port}/vda"
        with connected(uri(server)) as client:
            assert client.pread(BLOCK, 0) == expected[:BLOCK]
            assert find_mount(dedup.root, f"127.0.0.1:{port}") == server.mount
            with pytest.raises(Busy, match="in use"):
                mounting.start(dedup.order("p1", tcp=tcp))
            began = time.monotonic()
            server.end()
            assert time.monotonic() - began < 12
