"""Plain counters and gauges, in Prometheus' text format."""

from __future__ import annotations

import threading

_Key = tuple[str, tuple[tuple[str, str], ...]]


class PlainMetrics:
    """Counts in memory; safe for several threads."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._lock = threading.Lock()
        self._values: dict[_Key, float] = {}
        self._kinds: dict[str, str] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            self._kinds[name] = "counter"
            self._values[key] = self._values.get(key, 0.0) + amount

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._kinds[name] = "gauge"
            self._values[(name, tuple(sorted(labels.items())))] = value

    def render(self) -> str:
        """Write all."""
        with self._lock:
            values, kinds = sorted(self._values.items()), dict(self._kinds)
        lines: list[str] = []
        told = ""
        for (name, labels), value in values:
            if name != told:
                lines.append(f"# TYPE {name} {kinds[name]}")
                told = name
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
            lines.append(f"{name}{{{shown}}} {value:g}" if shown else f"{name} {value:g}")
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
