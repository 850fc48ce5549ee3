"""A control plane of real processes, asked by its REST API alone: server, workers, one agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from sendense.catalog.catalog import Catalog, open_catalog
from sendense.catalog.master_key import find_keys
from sendense.model.secret import Secret
from sendense_lab.lab import Lab
from sendense_lab.ports import free_port
from tests.vm.agent_site import ROOT, AgentSite

T = TypeVar("T")
FINAL = {"succeeded", "failed", "cancelled"}


class CloudProcesses:
    """All processes of one control plane, over one agent."""

    def __init__(self, lab: Lab, agent: AgentSite, **settings: object) -> None:
        self.agent = agent
        self.folder = lab.root / "cloud"
        self.folder.mkdir()
        first = free_port()
        self.port = free_port()
        self._settings: dict[str, object] = {
            "state_dir": self.folder / "server",
            "listen": f"127.0.0.1:{self.port}",
            "gateway_listen": f"127.0.0.1:{free_port()}",
            "gateway_address": "",
            "forward_ports": f"{first}-{first + 20}",
            "data_connections": 2,
            "heartbeat_s": 0.5,
            "worker_lease_s": 5,
            "retry_pause_s": 2,
            "embedded_worker": "false",
            **settings,
        }
        self._settings["gateway_address"] = self._settings["gateway_listen"]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = ""
        self.api = httpx.Client()

    # -- processes -------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """Give what the processes find their settings in."""
        own = {f"SENDENSE_SERVER_{name.upper()}": str(v) for name, v in self._settings.items()}
        return {**os.environ, **own, "SENDENSE_CACHE_DIR": str(self.folder / "cache")}

    def start(self, name: str, *words: str) -> None:
        """Start a command of ours as a process."""
        command = [str(Path(sys.executable).with_name("sendense")), *words, "-v", "--json"]
        files = (self.folder / f"{name}.log", self.folder / f"{name}.out")
        with files[0].open("ab") as log, files[1].open("ab") as out:
            self._processes[name] = subprocess.Popen(
                command, stdout=out, stderr=log, cwd=ROOT, env=self.environment
            )

    def start_server(self) -> None:
        """Start the server, and take its token at the first start."""
        self.start("server", "server")
        url = f"http://127.0.0.1:{self.port}"
        self.wait_for(lambda: _answers(url))
        if not self.token:
            self.token = json.loads((self.folder / "server.out").read_text())["token"]
        self.api.close()
        headers = {"Authorization": f"Bearer {self.token}"}
        self.api = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=120)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a process."""
        process = self._processes.pop(name)
        process.send_signal(number)
        process.wait(150)

    def stop(self) -> None:
        """End all of them."""
        self.api.close()
        for name in list(self._processes):
            self.kill(name, signal.SIGTERM)

    def log(self) -> str:
        """Give what all of them said."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log")
        )

    def catalog(self) -> Catalog:
        """Open the catalogue beside the server, to look at what the API does not show."""
        state = Path(str(self._settings["state_dir"]))
        url = str(self._settings.get("database") or f"sqlite:///{state / 'catalogue.db'}")
        return open_catalog(url, find_keys(state / "master.key", {}))

    # -- the API ---------------------------------------------------------------------

    def get(self, path: str, **params: str) -> Any:
        """Read something that is there."""
        answer = self.api.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Ask for something that is to be had."""
        answer = self.api.post(path, json=body)
        assert answer.status_code in (200, 201, 202), answer.text
        return answer.json()

    def wait_for(self, what: Callable[[], T | None], within_s: float = 150.0) -> T:
        """Wait until something is there."""
        deadline = time.monotonic() + within_s
        while not (found := what()):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)
        return found

    def end_of(self, job: Mapping[str, Any], within_s: float = 240.0) -> Any:
        """Wait for the end of a job."""

        def ended() -> Any:
            now = self.get(f"/jobs/{job['id']}")
            return now if now["state"] in FINAL else None

        return self.wait_for(ended, within_s)

    def succeeded(self, job: Mapping[str, Any]) -> Any:
        """Wait for the success of a job; gives its result."""
        ended = self.end_of(job)
        assert ended["state"] == "succeeded", (ended["failure"], self.log())
        return ended["result"]

    # -- its beginnings --------------------------------------------------------------

    def enrol(self, name: str = "kvm1") -> str:
        """Have the host enrolled, and its agent know what it needs."""
        host = self.post("/hosts", {"name": name, "address": "127.0.0.1"})["id"]
        key = self.agent.folder / "tunnel.key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        public = key.with_suffix(".key.pub").read_text()
        made = self.post(f"/hosts/{host}/enrolment", {"public_key": public})
        gateway = made["gateway"]
        keys = ", ".join(f'"{text}"' for text in gateway["host_keys"])
        self.agent.know(made["agent"], Secret(made["secret"]))
        self.agent.configure(
            lease_s=20,
            gateway=f"{{host: {gateway['host']}, port: {gateway['port']}, "
            f"user: {gateway['user']}, host_keys: [{keys}], key_file: {key}, "
            f"api_port: {made['api_port']}, "
            f"gate_ports: [{', '.join(map(str, made['gate_ports']))}]}}",
        )
        return str(host)

    def make_repository(self, name: str = "main") -> str:
        """Have a new repository made."""
        made = self.post(
            "/repositories",
            {
                "name": name,
                "url": f"dedup:{self.folder / name}",
                "passphrase": "a passphrase of the tests",
                "create": True,
            },
        )
        return str(made["id"])


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.HTTPError:
        return False
