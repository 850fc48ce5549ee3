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


@pytest.fixture(scope="module")
def site(lab: Lab) -> Site:
    return Site(lab, lab.add_hypervisor())
