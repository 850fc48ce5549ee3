"""Scratch space that fills while a worker is slow: the capture ends, the guest goes on."""

from __future__ import annotations

from contextlib import suppress

import libvirt
import pytest

from sendense.model.agent_status import WorkState
from sendense_lab.commands import wait_until
from sendense_lab.lab import DiskSpec, temporary_lab
from tests.vm.agent_site import MIB, AgentSite
from tests.vm.test_faults import small_file_system

pytestmark = pytest.mark.vm


def test_full_scratch_ends_the_capture_not_the_guest() -> None:
    with temporary_lab() as lab, small_file_system(24 * MIB, at=lab.root / "small") as folder:
        # The host is started after the mount: it has a mount namespace of its own.
        site = AgentSite(lab, lab.add_hypervisor())
        site.configure(scratch=folder, reserve="8M")
        vm = lab.create_vm(disks=[DiskSpec(size=64 * MIB)])
        vm.random_fill("vdb", 0, 48 * MIB, 1)
        vm.start(site.hypervisor, paused=False)
        with site.running():
            ticket = site.capture_ticket(vm)
            site.ready(ticket)
            # Nobody reads; the guest overwrites more than the scratch space has room for.
            with suppress(libvirt.libvirtError):
                for number in range(32):
                    vm.write("vdb", number * MIB, MIB, 2)
            wait_until(
                lambda: site.status(ticket).state is WorkState.FAILED, "the end", timeout_s=120
            )
            error = site.status(ticket).error
            assert error is not None
            assert error.code == "out-of-space"
            assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
            assert site.own_marks(vm) == set()
            assert [*folder.iterdir()] == []
            site.check_free(vm)
            # The next one finds its room again.
            again = site.capture_ticket(vm)
            site.ready(again)
            assert site.commit(again).state is WorkState.COMMITTED
        vm.destroy()
