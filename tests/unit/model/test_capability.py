"""Flags of instances: what is so, what follows, and what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sendense.model.agent_status import AgentFacts
from sendense.model.capability import FlagCode, HostSight, Severity, blocked, flags_of
from sendense.model.cloud import CloudHost
from sendense.model.survey import Survey
from tests.support.builders import a_disk, a_machine, a_machine_survey, a_survey
from tests.support.cloud_plans import POOL, POOLS, a_pool, a_volume, an_instance

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOST = CloudHost(
    id="host-1", name="kvm1", address="10.0.0.1", state="Up", resource_state="Enabled",
    kind="Routing", hypervisor="KVM",
)  # fmt: skip
AGENT = AgentFacts(
    id="a", host="kvm1", version="1", versions="libvirt 10.0", protocol=1, boot_id="b",
    started_at=NOW, now=NOW, incremental=True, transport="tls", max_concurrent_vms=1,
    max_concurrent_exports=1, bandwidth_limit_mbps=0, backup_window=None,
)  # fmt: skip
GOOD = HostSight(HOST, AGENT)


def codes(instance, pools=None, **known):
    return {flag.code: flag.severity for flag in flags_of(instance, pools or POOLS, **known)}


def test_nothing_in_the_way():
    flags = flags_of(an_instance(), POOLS, sight=GOOD)
    assert [flag.code for flag in flags] == [FlagCode.BITMAPS_USABLE]
    assert not blocked(flags)


@pytest.mark.parametrize(
    ("kind", "code"),
    [("RBD", FlagCode.NETWORK_DISK), ("Linstor", FlagCode.LINSTOR),
     ("PowerFlex", FlagCode.POWERFLEX), ("StorPool", FlagCode.OTHER_STORAGE)],
)  # fmt: skip
def test_storages(kind, code):
    (flag,) = flags_of(an_instance(), {POOL: a_pool(kind=kind)})
    assert (flag.code, flag.severity) == (code, Severity.WARNING)
    assert flag.volume_ids == tuple(volume.id for volume in an_instance().volumes)


@pytest.mark.parametrize(
    ("instance", "code", "severity"),
    [
        (an_instance(a_volume(encryption="LUKS2")), FlagCode.ENCRYPTED_DISK, Severity.WARNING),
        (
            an_instance(a_volume(encryption="LUKS2"), state="Stopped"),
            FlagCode.ENCRYPTED_DISK,
            Severity.BLOCKS,
        ),
        (an_instance(a_volume(state="Resizing")), FlagCode.NOT_READY_VOLUMES, Severity.BLOCKS),
        (an_instance(disk_snapshots=1), FlagCode.DISK_SNAPSHOTS, Severity.WARNING),
        (an_instance(backup_offering="gold"), FlagCode.CLOUDSTACK_BACKUP, Severity.BLOCKS),
        (an_instance(delete_protection=True), FlagCode.DELETE_PROTECTION, Severity.INFO),
        (an_instance(a_volume(pool_id="")), FlagCode.PATHS_UNKNOWN, Severity.WARNING),
    ],
)
def test_what_the_cloud_says(instance, code, severity):
    assert codes(instance)[code] is severity


def test_memory_snapshots_forbid_bitmaps():
    found = codes(an_instance(memory_snapshots=1))
    assert found == {FlagCode.MEMORY_SNAPSHOTS: Severity.WARNING}


@pytest.mark.parametrize(
    ("sight", "code", "severity"),
    [
        (HostSight(HOST, None), FlagCode.NO_AGENT, Severity.BLOCKS),
        (HostSight(HOST, replace(AGENT, incremental=False)), FlagCode.OLD_HOST, Severity.WARNING),
        (
            HostSight(replace(HOST, state="Down"), AGENT),
            FlagCode.UNSUPPORTED_HOST,
            Severity.BLOCKS,
        ),
        (
            HostSight(replace(HOST, hypervisor="VMware"), None),
            FlagCode.UNSUPPORTED_HOST,
            Severity.BLOCKS,
        ),
    ],
)
def test_hosts(sight, code, severity):
    assert codes(an_instance(), sight=sight) == {code: severity}


def test_what_an_agent_saw():
    survey: Survey = a_machine_survey(
        a_survey(a_disk("vda", format="raw")),
        a_survey(a_disk("vdb"), memory_snapshot=True),
        checkpoints=("sendense-p1", "ckp-12345678"),
        machine=a_machine(agent_channel=False),
    )
    flags = {flag.code: flag for flag in flags_of(an_instance(), POOLS, survey=survey)}
    assert set(flags) == {
        FlagCode.RAW_DISK,
        FlagCode.MEMORY_SNAPSHOTS,
        FlagCode.FOREIGN_CHECKPOINTS,
        FlagCode.NO_GUEST_AGENT,
    }
    assert "ckp-12345678" in flags[FlagCode.FOREIGN_CHECKPOINTS].message
    assert "sendense-p1" not in flags[FlagCode.FOREIGN_CHECKPOINTS].message


def test_an_agent_in_the_guest_that_is_silent():
    assert FlagCode.NO_GUEST_AGENT in codes(an_instance(), guest_agent=False)
    assert FlagCode.NO_GUEST_AGENT not in codes(an_instance(), guest_agent=True)


def test_what_blocks_is_first():
    flags = flags_of(
        an_instance(backup_offering="gold", disk_snapshots=1, delete_protection=True), POOLS
    )
    assert [flag.severity for flag in flags] == [
        Severity.BLOCKS, Severity.WARNING, Severity.INFO, Severity.INFO,
    ]  # fmt: skip
    assert all(flag.message for flag in flags)
