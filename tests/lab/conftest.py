"""One lab with two hosts for all of these tests; hosts cost little, guests cost seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sendense_lab import CloudVm, Hypervisor, Lab, temporary_lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with temporary_lab(name="tests-lab") as lab:
        yield lab


@pytest.fixture(scope="session")
def host(lab: Lab) -> Hypervisor:
    return lab.add_hypervisor()


@pytest.fixture(scope="session")
def other_host(lab: Lab) -> Hypervisor:
    return lab.add_hypervisor()


@pytest.fixture
def exact(lab: Lab, host: Hypervisor) -> Iterator[CloudVm]:
    """A paused VM without operating system."""
    vm = lab.create_vm()
    vm.start(host)
    yield vm
    if vm.running:
        vm.destroy()


@pytest.fixture(scope="module")
def booted(lab: Lab, host: Hypervisor) -> Iterator[CloudVm]:
    """A VM with a guest that is ready, one per module."""
    vm = lab.create_vm(boot="guest")
    vm.start(host)
    vm.guest.wait_ready()
    yield vm
    if vm.running:
        vm.destroy()
