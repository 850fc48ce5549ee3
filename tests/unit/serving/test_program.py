"""nbdkit: what is needed of it, where it listens, and what it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sendense.errors import NotAllowed, NotFound, Rejected, Unsupported
from sendense.serving import program
from sendense.serving.program import TcpPort, UnixSocket, check_program, command, parse_tcp

OURS = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_a_socket_and_its_uri():
    socket = UnixSocket(Path("/run/a b/nbd"))
    assert socket.uri("vda") == "nbd+unix:///vda?socket=/run/a%20b/nbd"
    assert socket.arguments() == ["--unix=/run/a b/nbd", "--tls=off"]


def test_a_port_and_its_uri(tmp_path):
    assert TcpPort("127.0.0.1", 1).uri("vda") == "nbd://127.0.0.1:1/vda"
    assert TcpPort("::1", 1).uri("vda") == "nbd://[::1]:1/vda"
    secure = TcpPort("::", 10809, tmp_path)
    assert secure.uri("vda") == "nbds://[::]:10809/vda"
    assert secure.arguments() == [
        "--ipaddr=::",
        "--port=10809",
        "--tls=require",
        f"--tls-certificates={tmp_path}",
        "--tls-verify-peer",
    ]


@pytest.mark.parametrize("text", ["127.0.0.1:10809", "[::1]:10809", "localhost:10809"])
def test_this_machine_may_be_listened_on(text):
    assert parse_tcp(text, certificates=None, insecure=False).port == 10809


@pytest.mark.parametrize("text", ["", "x", "host:", ":1", "127.0.0.1:0", "127.0.0.1:65536", "a:b"])
def test_what_is_no_address(text):
    with pytest.raises(Rejected, match="is not HOST:PORT"):
        parse_tcp(text, certificates=None, insecure=False)


@pytest.mark.parametrize("text", ["0.0.0.0:10809", "[::]:10809", "192.0.2.1:10809"])
def test_other_machines_only_with_tls_or_insistence(text, tmp_path):
    with pytest.raises(NotAllowed, match="listen in"):
        parse_tcp(text, certificates=None, insecure=False)
    assert parse_tcp(text, certificates=None, insecure=True).certificates is None
    with pytest.raises(Rejected, match=r"server-key\.pem"):
        parse_tcp(text, certificates=tmp_path, insecure=False)
    for name in ("ca-cert.pem", "server-cert.pem", "server-key.pem"):
        (tmp_path / name).touch()
    assert parse_tcp(text, certificates=tmp_path, insecure=False).certificates == tmp_path


def test_the_command_line():
    socket = UnixSocket(Path("/run/nbd"))
    line = command((1, 42), socket, handover_fd=7, writable=False, with_parent=True)
    assert line[:4] == ["nbdkit", "--foreground", "--readonly", "--exit-with-parent"]
    assert line[-1] == "handover=7"
    assert Path(line[-2]).is_file()
    line = command((1, 42), socket, handover_fd=7, writable=True, with_parent=False)
    assert "--readonly" not in line
    assert "--exit-with-parent" not in line


def test_one_that_would_abort_gets_one_thread():
    socket = UnixSocket(Path("/run/nbd"))
    for version, one in (((1, 32), True), ((1, 42), False), ((1, 44), False)):
        line = command(version, socket, handover_fd=7, writable=False, with_parent=True)
        assert ("--threads=1" in line) == one


def test_the_environment_has_our_packages_and_not_our_secrets(monkeypatch):
    monkeypatch.setenv("SENDENSE_PASSPHRASE", "secret")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.setenv("AWS_REGION", "eu-1")
    made = program.environment()
    assert not any("SENDENSE" in name for name in made)
    assert "PYTHONHOME" not in made
    assert made["AWS_REGION"] == "eu-1"
    paths = made["PYTHONPATH"].split(os.pathsep)
    assert str(Path(program.__file__).parents[2]) in paths
    assert not any(path.endswith("lib-dynload") for path in paths)


def test_the_nbdkit_of_this_machine_fits():
    assert check_program() >= (1, 30)


def _answer(text, status=0):
    def run(*_arguments, **_options):
        return subprocess.CompletedProcess([], status, text, "no such plugin")

    return run


@pytest.mark.parametrize(
    ("text", "status", "kind", "words"),
    [
        ("", 1, NotFound, "no Python plugin"),
        ("version=1.32.5\n", 0, NotFound, "no Python plugin"),
        (f"version=1.24.1\npython_version={OURS}.1\n", 0, Unsupported, "1.30 is needed"),
        ("version=1.32.5\npython_version=3.6.8\n", 0, Unsupported, "Python 3.6"),
    ],
)
def test_one_that_does_not_fit(monkeypatch, text, status, kind, words):
    monkeypatch.setattr(subprocess, "run", _answer(text, status))
    with pytest.raises(kind, match=words):
        check_program()


def test_one_that_is_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NotFound, match="not installed"):
        check_program()
