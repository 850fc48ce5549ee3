"""The agent's metrics, in Prometheus' text format; written by hand, as a host has no library.

Counters are counted where things happen.  What is a state, and not an event, is read when
somebody asks: the memory of the process, the tunnels, the gate.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

_ABOUT = {
    "sendense_agent_works_total": "Captures, restores and releases that ended, by outcome.",
    "sendense_agent_work_seconds_total": "Time that they took, from their begin to their end.",
    "sendense_agent_running": "Captures, restores and releases under way.",
    "sendense_agent_queued": "Those that wait for the host's limits or its window.",
    "sendense_agent_health": "How well a thing is: 1 well, 0.5 a warning, 0 failed.",
    "sendense_agent_freezes_total": "Times that a guest's file systems were frozen.",
    "sendense_agent_frozen_seconds_total": "Time that guests were frozen.",
    "sendense_agent_bytes_total": "Bytes that passed the gate, by direction.",
    "sendense_agent_gate_refused_total": "Connections that the gate turned away.",
    "sendense_agent_gate_exports": "Disks that can be read or written at the gate now.",
    "sendense_agent_gate_connections": "Connections that are open at the gate.",
    "sendense_agent_tunnel_up": "Whether a tunnel to the gateway is connected.",
    "sendense_agent_tunnel_failures": "Times in a row that a tunnel could not connect.",
    "process_resident_memory_bytes": "Memory that the agent holds.",
    "process_cpu_seconds_total": "Processor time that the agent used.",
    "process_open_fds": "Files and connections that it has open.",
    "process_threads": "Its threads.",
}


@dataclass(frozen=True)
class Sample:
    """One value of a metric."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    kind: str = "gauge"


class AgentMetrics:
    """A :class:`~sendense.agent.faces.Metrics`; safe for several threads."""

    def __init__(self, *, proc: Path = Path("/proc")) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self._samples: dict[tuple[str, tuple[tuple[str, str], ...]], Sample] = {}
        self._readers: list[Callable[[], Iterable[Sample]]] = [lambda: process_samples(proc)]

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            known = self._samples.get(key)
            value = amount if known is None else known.value + amount
            self._samples[key] = Sample(name, value, key[1], "counter")

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            self._samples[key] = Sample(name, value, key[1])

    def read_from(self, reader: Callable[[], Iterable[Sample]]) -> None:
        """Ask ``reader`` whenever the metrics are asked for."""
        self._readers.append(reader)

    def render(self) -> str:
        """Write all."""
        with self._lock:
            samples = list(self._samples.values())
        for reader in self._readers:
            samples.extend(reader())
        return render(samples)


def render(samples: Iterable[Sample]) -> str:
    """Write samples in Prometheus' text format, those of one metric together."""
    lines: list[str] = []
    told = ""
    for sample in sorted(samples, key=lambda item: (item.name, item.labels)):
        if sample.name != told:
            told = sample.name
            if told in _ABOUT:
                lines.append(f"# HELP {told} {_ABOUT[told]}")
            lines.append(f"# TYPE {told} {sample.kind}")
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in sample.labels)
        name = f"{told}{{{shown}}}" if shown else told
        lines.append(f"{name} {_number(sample.value)}")
    return "\n".join(lines) + "\n"


def process_samples(proc: Path) -> Iterable[Sample]:
    """Read what the kernel knows of this process."""
    status = dict(
        line.split(":", 1)
        for line in (proc / "self/status").read_text().splitlines()
        if ":" in line
    )
    times = os.times()
    yield Sample("process_resident_memory_bytes", int(status["VmRSS"].split()[0]) * 1024)
    yield Sample("process_cpu_seconds_total", times.user + times.system, kind="counter")
    yield Sample("process_threads", int(status["Threads"]))
    yield Sample("process_open_fds", len(os.listdir(proc / "self/fd")))  # noqa: PTH208 - by number


def _number(value: float) -> str:
    # Exact for counters of bytes, which outgrow what %g shows.
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
