"""One lab host for a whole module: starting libvirtd is what costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendense_lab.lab import Lab, temporary_lab
from tests.vm.site import Site


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_lab() as lab:
        yield lab


BOTH_KINDS = {"test_chains", "test_faults", "test_bitmap_damage"}
"""Modules whose tests run with each kind of repository; the others with QCOW2 chains."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if "site" in metafunc.fixturenames and module in BOTH_KINDS:
        metafunc.parametrize("site", ["dedup", "qcow2"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def site(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Site]:
    with Site.of(lab, lab.add_hypervisor(), kind=getattr(request, "param", "qcow2")) as site:
        yield site
