"""A KVM host of the bench: gate and tunnels in a process of their own, until its input ends."""

from __future__ import annotations

import json
import sys
from typing import Any

from sendense.agent.gate import Gate
from sendense.agent.gate_tls import GateTls
from sendense.agent.tunnel import Tunnels
from sendense.agent.tunnel_ssh import TunnelSettings
from sendense.model.secret import Secret


def main(task: dict[str, Any]) -> None:
    """Open the disk, connect, say the port of the disk (of TLS), and stay."""
    tls = GateTls(**task["tls"]) if task["tls"] else None
    gate = Gate(task["gate"], tuple(task["ports"]), tls=tls)
    gate.start()
    secret = Secret(task["secret"])
    port = gate.open(task["name"], secret, task["socket"], bytes_per_s=0, connections=16)
    tunnels = None
    if task["tunnel"]:
        options = {**task["tunnel"], "data_ports": tuple(task["tunnel"]["data_ports"])}
        tunnels = Tunnels(TunnelSettings(**options))
        tunnels.start()
    print(port or gate.port, flush=True)
    sys.stdin.read()
    if tunnels is not None:
        tunnels.stop()
    gate.stop()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
