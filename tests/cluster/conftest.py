"""Hosts for the tests of this folder: started once, in seconds, when the roots are there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendense_lab.cluster.cluster import Cluster, cluster

HOSTS = {"kvm1": "bookworm", "kvm2": "trixie"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/cluster/" in str(item.path):
            for mark in (pytest.mark.cluster, pytest.mark.slow, pytest.mark.vm):
                item.add_marker(mark)
            if item.get_closest_marker("timeout") is None:
                # The first run on a machine builds the roots.
                item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="package")
def site() -> Iterator[Cluster]:
    with cluster(HOSTS, name="tests-cluster") as entered:
        yield entered
