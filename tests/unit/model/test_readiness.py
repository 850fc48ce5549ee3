"""Whether a backup may begin: what passes is tried again, the rest is refused."""

from __future__ import annotations

import pytest

from sendense.errors import Busy, Conflict
from sendense.model.ascend_steps import MARKER
from sendense.model.readiness import (
    LONG_RETRY,
    RETRY,
    BusyNow,
    CloudJob,
    Ready,
    Refused,
    Restoring,
    ensure_ready,
    readiness_of,
)
from tests.support.cloud_plans import a_volume, an_instance


@pytest.mark.parametrize("state", ["Running", "Stopped"])
def test_steady_instances(state):
    found = readiness_of(an_instance(state=state))
    assert found == Ready()
    ensure_ready(found)


@pytest.mark.parametrize(
    ("state", "retry"),
    [("Starting", RETRY), ("Stopping", RETRY), ("Migrating", LONG_RETRY), ("Unknown", RETRY),
     ("Restoring", LONG_RETRY), ("SomethingNew", RETRY), ("", RETRY)],
)  # fmt: skip
def test_states_that_pass(state, retry):
    found = readiness_of(an_instance(state=state))
    assert isinstance(found, BusyNow)
    assert found.retry == retry
    with pytest.raises(Busy):
        ensure_ready(found)


@pytest.mark.parametrize("state", ["Destroyed", "Expunging", "Error", "Allocated"])
def test_states_that_do_not_pass(state):
    found = readiness_of(an_instance(state=state))
    assert isinstance(found, Refused)
    assert found.hint
    with pytest.raises(Conflict, match=state):
        ensure_ready(found)


@pytest.mark.parametrize(
    ("state", "kind"),
    [("Snapshotting", BusyNow), ("Migrating", BusyNow), ("Attaching", BusyNow), ("New", BusyNow),
     ("Allocated", Refused), ("Expunged", Refused), ("UploadError", Refused)],
)  # fmt: skip
def test_volumes(state, kind):
    assert isinstance(readiness_of(an_instance(a_volume(), a_volume(1, state=state))), kind)


def test_an_iso_may_be_anything():
    instance = an_instance(a_volume(), a_volume(3, kind="ISO", state="Weird"))
    assert readiness_of(instance) == Ready()


def test_a_volume_that_never_passes_outweighs_one_that_does():
    instance = an_instance(a_volume(state="Snapshotting"), a_volume(1, state="Expunged"))
    assert isinstance(readiness_of(instance), Refused)


def test_the_longest_wait():
    instance = an_instance(a_volume(state="Attaching"), a_volume(1, state="Snapshotting"))
    assert readiness_of(instance) == BusyNow("volume vol-1 is Snapshotting", LONG_RETRY)


def test_jobs():
    job = CloudJob("j", "org.apache.cloudstack.api.command.admin.vm.MigrateVMCmd", "admin")
    found = readiness_of(an_instance(), [job])
    assert isinstance(found, BusyNow)
    assert found.reason.endswith("MigrateVMCmd of admin")


def test_cloudstacks_own_backup():
    instance = an_instance(backup_offering="gold")
    assert isinstance(readiness_of(instance), Refused)
    found = readiness_of(instance, beside_cloudstack=True)
    assert isinstance(found, Ready)
    assert "gold" in found.warning


def test_what_is_gone_and_what_is_empty():
    assert isinstance(readiness_of(None), Refused)
    assert isinstance(readiness_of(an_instance(a_volume(3, kind="ISO"))), BusyNow)


def test_an_instance_that_is_half_restored():
    """Its disks are of two moments: no point is made of it, but the one that undoes the restore."""
    instance = an_instance(state="Stopped", tags={MARKER: "job-7"})
    busy = readiness_of(instance, restoring=Restoring.UNDER_WAY)
    assert isinstance(busy, BusyNow)
    assert "job-7" in busy.reason
    refused = readiness_of(instance, restoring=Restoring.ENDED)
    assert isinstance(refused, Refused)
    assert "job-7" in refused.reason + refused.hint
    assert readiness_of(instance) == Ready()
    plain = an_instance(state="Stopped")
    assert readiness_of(plain, restoring=Restoring.ENDED) == Ready()
