"""How fast the API answers over a full catalogue: through HTTP, from another thread.

Server and client share one process here, so a figure holds the work of both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import httpx

from bench.catalogue import DATABASES, GOAL_MS, Fleet, fill, settle
from bench.figures import Better, Figure
from bench.timing import BenchFailed
from tests.support.api_site import api_site
from tests.support.catalogs import catalog_at, new_urls

_ROUTES = (
    "/hosts",
    "/hosts/{host}",
    "/agents/cloudstack",
    "/instances",
    "/instances?host_id={host}",
    "/instances?search={number}",
    "/instances/{instance}",
    "/points",
    "/points?machine={instance}",
    "/repositories",
    "/repositories/id-main",
    "/policies",
    "/policies/id-p1/preview",
    "/jobs",
    "/jobs?state=failed",
    "/jobs?subject={instance}",
    "/users",
    "/audit",
    "/status",
)


def measure_api(fleet: Fleet) -> Iterator[Figure]:
    """Put every question to a server over each database."""
    for kind in DATABASES:
        with (
            new_urls(kind) as new_url,
            catalog_at(url := new_url()) as catalog,
            TemporaryDirectory(prefix="sendense-bench-") as folder,
        ):
            fill(catalog, fleet)
            settle(url)
            with api_site(catalog, Path(folder)) as site, site.client() as client:
                for route in _ROUTES:
                    yield _measure(f"API, {kind}: {route}", client, route, fleet)
                yield _measure_submit(f"API, {kind}: POST /backup/cloudstack", client, fleet)


def _measure(name: str, client: httpx.Client, route: str, fleet: Fleet) -> Figure:
    random = Random(1)

    def ask() -> httpx.Response:
        place = route.format(
            host=f"id-kvm{random.randrange(fleet.hosts):04d}",
            instance=f"u{random.randrange(fleet.instances):05d}",
            number=random.randrange(1000, 9999),
        )
        return client.get(place)

    ask()  # a status that nobody asked for yet is counted first
    return _figure(name, [_timed(ask) for _ in range(fleet.asks)])


def _measure_submit(name: str, client: httpx.Client, fleet: Fleet) -> Figure:
    random = Random(1)

    def ask() -> httpx.Response:
        instance = f"u{random.randrange(fleet.instances):05d}"
        return client.post("/backup/cloudstack", json={"vm_id": instance})

    return _figure(name, [_timed(ask) for _ in range(fleet.asks)])


def _timed(ask: Callable[[], httpx.Response]) -> float:
    began = time.perf_counter()
    response = ask()
    took = 1000 * (time.perf_counter() - began)
    if response.is_error:
        raise BenchFailed(f"{response.request.url}: {response.text}")
    return took


def _figure(name: str, runs: list[float]) -> Figure:
    p95 = statistics.quantiles(runs, n=20)[-1]
    note = f"median {statistics.median(runs):.1f}"
    return Figure(f"{name}, p95", "ms", Better.LOWER, p95, goal=GOAL_MS, note=note)
