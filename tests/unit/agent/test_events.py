"""Events: numbered, bounded, and honest about what is no longer there."""

from __future__ import annotations

import threading
import time

import pytest

from sendense.agent.counting import PlainMetrics
from sendense.agent.events import EventLog
from sendense.capture.lifecycle import kind_of
from sendense.model.agent_status import EventKind


def test_what_happened_after_a_number():
    log = EventLog(kept=3)
    assert log.after(0).events == ()
    for number in range(5):
        log.add(EventKind.STARTED, f"m{number}", "n")
    found = log.after(3)
    assert [item.number for item in found.events] == [4, 5]
    assert (found.last, found.lost) == (5, False)
    assert log.after(2).lost is False
    assert log.after(1).lost is True
    assert log.after(5).lost is False
    # The number of another start of the agent.
    assert log.after(9).lost is True


def test_it_waits_for_news():
    log = EventLog()
    threading.Timer(0.2, log.add, (EventKind.STOPPED, "m", "n")).start()
    began = time.monotonic()
    assert len(log.after(0, wait_s=120).events) == 1
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("event", "detail", "kind"),
    [
        (2, 0, EventKind.STARTED),
        (2, 1, EventKind.MIGRATED_HERE),
        (5, 0, EventKind.STOPPED),
        (5, 3, EventKind.MIGRATED_AWAY),
        (0, 0, EventKind.CHANGED),
        (6, 0, None),
    ],
)
def test_what_libvirt_means(event, detail, kind):
    assert kind_of(event, detail) is kind


def test_metrics_as_text():
    metrics = PlainMetrics()
    metrics.count("a_total", kind='x"\n')
    metrics.count("a_total", 2, kind='x"\n')
    metrics.gauge("b", 0.5)
    assert metrics.render() == (
        '# TYPE a_total counter\na_total{kind="x\\"\\n"} 3\n# TYPE b gauge\nb 0.5\n'
    )
