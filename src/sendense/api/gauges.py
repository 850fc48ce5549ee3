"""Figures for Prometheus: what the status says, and how the API itself does."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sendense.api.summaries import Summaries

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)


class Gauges:
    """All figures of one server."""

    def __init__(self, summaries: Summaries) -> None:
        """Take the status from summaries."""
        self._registry = CollectorRegistry()
        self._registry.register(_Status(summaries))
        self._requests = Histogram(
            "sendense_api_request_seconds",
            "Requests to the API: how many, and how long they took.",
            ("operation", "status"),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )

    def request(self, operation: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(operation, str(status)).observe(seconds)

    def text(self) -> bytes:
        """Give all of them as Prometheus reads them."""
        return generate_latest(self._registry)


class _Status(Collector):
    def __init__(self, summaries: Summaries) -> None:
        self._summaries = summaries

    def collect(self) -> Iterator[Metric]:
        summary = self._summaries.get()
        yield _family(
            "sendense_instances",
            "Instances, by how well they are protected.",
            "protection",
            {each.value: count for each, count in summary.counts.items()},
        )
        yield _family("sendense_hosts", "Hosts, by health.", "health", summary.hosts)
        yield _family(
            "sendense_jobs",
            "Jobs that have not ended, by state.",
            "state",
            {state.value: count for state, count in summary.jobs.items()},
        )
        growth = summary.growth
        yield _family(
            "sendense_stored_lately_bytes",
            "Bytes that points of the last days store.",
            "days",
            {"1": growth.day, "7": growth.week, "30": growth.month},
        )
        yield GaugeMetricFamily(
            "sendense_points", "Recovery points in all repositories.", summary.points
        )
        yield GaugeMetricFamily(
            "sendense_stored_bytes", "Bytes that all points store.", summary.stored_bytes
        )


def _family(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family
