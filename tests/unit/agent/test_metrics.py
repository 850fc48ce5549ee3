"""The agent's metrics, read by Prometheus' own parser."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from sendense.agent.metrics import AgentMetrics, Sample


def parsed(metrics: AgentMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render())
        for sample in family.samples
    }


def test_counters_and_gauges():
    metrics = AgentMetrics()
    metrics.count("sendense_agent_works_total", kind="capture", outcome="committed")
    metrics.count("sendense_agent_works_total", kind="capture", outcome="committed")
    metrics.count("sendense_agent_works_total", 1, kind="restore", outcome="failed")
    metrics.gauge("sendense_agent_queued", 4)
    metrics.gauge("sendense_agent_queued", 3)
    found = parsed(metrics)
    works = "sendense_agent_works_total"
    assert found[works, (("kind", "capture"), ("outcome", "committed"))] == 2
    assert found[works, (("kind", "restore"), ("outcome", "failed"))] == 1
    assert found["sendense_agent_queued", ()] == 3


def test_bytes_are_exact():
    metrics = AgentMetrics()
    metrics.count("sendense_agent_bytes_total", 2**50 + 1, direction="read")
    assert f'{{direction="read"}} {2**50 + 1}\n' in metrics.render()


def test_odd_labels():
    metrics = AgentMetrics()
    metrics.gauge("sendense_agent_health", 0.5, check='a "b"\\\nc')
    assert parsed(metrics)["sendense_agent_health", (("check", 'a "b"\\\nc'),)] == 0.5


def test_what_is_read_when_asked():
    up = [True]

    def tunnels() -> Iterable[Sample]:
        yield Sample("sendense_agent_tunnel_up", up[0], (("tunnel", "control"),))

    metrics = AgentMetrics()
    metrics.read_from(tunnels)
    assert parsed(metrics)["sendense_agent_tunnel_up", (("tunnel", "control"),)] == 1
    up[0] = False
    found = parsed(metrics)
    assert found["sendense_agent_tunnel_up", (("tunnel", "control"),)] == 0
    assert found["process_resident_memory_bytes", ()] > 1 << 20
    assert found["process_open_fds", ()] >= 3
    assert found["process_threads", ()] >= 1


def test_each_family_is_described_once():
    metrics = AgentMetrics()
    for number in range(3):
        metrics.gauge("sendense_agent_health", 1, check=str(number))
    assert metrics.render().count("# TYPE sendense_agent_health gauge") == 1
    assert metrics.render().count("# HELP sendense_agent_health ") == 1
