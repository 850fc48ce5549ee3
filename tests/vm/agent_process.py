"""The agent as a process of its own, without a tunnel; a program for the tests.

``python -m tests.vm.agent_process SETTINGS PORT_FILE [STEP]``: with ``STEP`` it kills itself when
it reaches that step.  Its gate listens on a port, which it tells, in the place of a unix socket.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from sendense import steps
from sendense.agent.daemon import Daemon, Parts
from sendense.agent.faces import GateFace, NoGate
from sendense.agent.gate import Gate
from sendense.agent.settings import AgentSettings


class TellingGate(Gate):
    """The gate, which writes its port to a file."""

    def __init__(self, settings: AgentSettings, file: Path) -> None:
        ports = settings.nbd_export.port_range
        rate = settings.performance.bytes_per_s
        super().__init__("127.0.0.1", (ports.first, ports.last), bytes_per_s=rate)
        self._file = file

    def start(self) -> None:
        super().start()
        draft = self._file.with_suffix(".new")
        draft.write_text(str(self.port))
        draft.replace(self._file)


def main() -> int:
    """Run the agent."""
    file, port_file, step = Path(sys.argv[1]), Path(sys.argv[2]), (*sys.argv[3:], "")[0]

    def stop(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def gate(settings: AgentSettings) -> GateFace:
        return NoGate() if settings.transport == "local" else TellingGate(settings, port_file)

    steps.listen(stop)
    Daemon(file, Parts(gate=gate)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
