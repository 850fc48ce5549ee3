"""The command line, the server and its worker as real processes, from the first start on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sendense import clock
from sendense_lab.ports import free_port
from tests.unit.cli.stage import a_secret_file

PROGRAM = Path(sys.executable).with_name("sendense")
START_S = 240
"""For a machine that does much else; beside little it takes a tenth of that."""


class Shell:
    """Somebody who types commands into a shell."""

    def __init__(self, folder: Path) -> None:
        clean = {name: v for name, v in os.environ.items() if not name.startswith("SENDENSE_")}
        own = {"XDG_CONFIG_HOME": str(folder / "config"), "SENDENSE_CACHE_DIR": str(folder / "c")}
        self.environment = clean | own

    def __call__(self, *arguments: object, typed: str = "", code: int = 0) -> str:
        done = subprocess.run(
            [PROGRAM, *map(str, arguments)],
            input=typed, env=self.environment, capture_output=True, text=True, check=False,
            timeout=200,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path)


@pytest.fixture
def server(shell, tmp_path):
    """Start a server; gives its URL and the token that it prints once."""
    listen = f"127.0.0.1:{free_port()}"
    settings = {
        "STATE_DIR": str(tmp_path / "server"), "LISTEN": listen, "GATEWAY_ENABLED": "false",
    }  # fmt: skip
    environment = {f"SENDENSE_SERVER_{name}": value for name, value in settings.items()}
    log = tmp_path / "log"
    with log.open("wb") as err:
        process = subprocess.Popen(
            [PROGRAM, "server", "--json", "-v"], env=shell.environment | environment,
            stdout=subprocess.PIPE, stderr=err,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        document = json.loads(b"".join(iter_document(process.stdout)))
        yield f"http://{listen}", document["token"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) == 0
        if process.stdout is not None:
            process.stdout.close()
        told = log.read_text()
        assert document["token"] not in told
        assert "SIGTERM: ending; jobs" in told


def iter_document(stream):
    """Give the lines of the first document."""
    for line in stream:
        yield line
        if line.rstrip() == b"}":
            return


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_from_first_start_to_jobs_that_are_done(shell, server, tmp_path):
    url, token = server
    end = clock.monotonic() + START_S
    shell("login", url, typed=token)
    passphrase = a_secret_file(tmp_path / "passphrase", "correct horse battery")
    for name in ("vault", "offsite"):
        shell(
            "repository", "add", name, f"dedup:{tmp_path}/{name}", "--create",
            "--passphrase-file", passphrase,
        )  # fmt: skip
    for line in (
        ("verify", "vault"),
        ("gc", "vault"),
        ("prune", "vault", "--keep-last", "1"),
        ("copy", "vault", "offsite"),
    ):
        document = json.loads(shell("job", *line, "--wait", "--json"))
        assert document["job"]["state"] == "succeeded", document
    assert "attempt  worker" in shell("job", "show", document["job"]["id"])
    assert "verify" in shell("job", "list", "--state", "succeeded")
    assert "all is well" in shell("status")
    shell("policy", "add", "p", "--to", "vault", "--schedule", "0 1 * * *", "--match", "*",
          "--keep-last", "1")  # fmt: skip
    shell("logout", "--revoke")
    shell("whoami", code=2)
    assert clock.monotonic() < end
