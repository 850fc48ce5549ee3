"""Clouds are read into the catalogue: whole, quickly, on hints, and while they misbehave."""

from __future__ import annotations

import resource
import threading
from datetime import timedelta

import pytest

from sendense import clock
from sendense.errors import NotAllowed, SendenseError
from sendense.model.cloud import Cloud, CloudKeys, CloudKind
from sendense.model.secret import Secret
from sendense.server.cloud_watch import CloudWatch
from sendense.workflows.managed.cloud_hosts import hosts_of
from sendense.workflows.managed.cloud_sync import look_at_cloud, look_at_instances
from sendense_lab.simulator.records import Instance, KeyPairOfUser
from sendense_lab.simulator.simulator import Simulator
from tests.support.cloud_place import a_vm, until
from tests.support.raw_cloud import refused


def test_what_a_cloud_has_comes_changes_and_goes(place):
    one = place.cloud.add_instance("one", tags={"backup": "daily"}, user_data="c2VjcmV0")
    two = place.cloud.add_instance("two", running=False, disks=(1 << 30,))
    first = place.look()
    assert {*first.new} == {one.id, two.id}
    entry = place.store.instance(two.id)
    assert (entry.instance.state, len(entry.instance.volumes)) == ("Stopped", 2)
    assert place.store.secrets(one.id).user_data is not None
    assert place.names() == {one.instance_name, two.instance_name}
    assert place.look().new == ()
    place.cloud.expunge(two)
    last = place.look()
    assert last.gone == (two.id,)
    assert place.names() == {one.instance_name}
    changes = place.catalog.cloud_changes.page(cloud_id=place.id, kind="instance").items
    assert [(each.what, each.object_id) for each in changes if each.object_id == two.id] == [
        ("gone", two.id), ("appeared", two.id),
    ]  # fmt: skip


def test_hosts_of_a_cloud_tell_their_pools(place):
    place.look()
    found = hosts_of(place.estate, place.id)
    assert found
    assert all(each.cloud_host.kind == "Routing" for each in found)
    assert all(each.host is None for each in found)
    assert all(folder.startswith("/") for each in found for folder in each.pools)
    assert any(each.pools for each in found)


def test_instances_made_and_expunged_while_they_are_read(place):
    made = place.cloud.fill(450)
    place.look()
    gone, late = made[3], []

    def meanwhile():
        place.cloud.expunge(gone)
        late.append(place.cloud.add_instance("aaa-late"))

    place.cloud.faults.before("listVirtualMachines", meanwhile, after=1)
    place.look()
    place.look()
    names = place.names()
    assert late[0].instance_name in names
    assert gone.instance_name not in names
    assert len(names) == 450


def test_an_instance_that_slips_through_the_pages_is_asked_for(place):
    one = place.cloud.add_instance("one")
    place.cloud.add_instance("two")
    place.look()
    hidden = place.cloud.world.find(Instance, one.id)
    place.cloud.faults.before("listVirtualMachines", lambda: place.cloud.world.remove(hidden))
    place.cloud.faults.before("listVirtualMachines", lambda: place.cloud.world.add(hidden), after=2)
    looked = place.look()
    assert looked.gone == ()
    assert place.store.instance(one.id).gone_at is None


def test_a_key_that_sees_nothing_makes_nothing_gone(place):
    place.cloud.fill(50)
    place.look()
    poor = place.cloud.create_account("poor")
    place.catalog.clouds.set_keys(place.id, CloudKeys(poor.api_key, Secret(poor.secret)))
    with pytest.raises(SendenseError):
        place.look()
    assert len(place.names()) == 50


@pytest.mark.parametrize("fault", ["down", "half", "html", "throttle", "reset"])
def test_a_cloud_that_misbehaves_loses_nothing(place, fault):
    one = place.cloud.add_instance("one")
    place.look()
    if fault == "down":
        place.cloud.down()
    else:
        arm = {"half": "half_written", "html": "html", "throttle": "throttle", "reset": "reset"}
        getattr(place.cloud.faults, arm[fault])(1000, command="listVirtualMachines")
    with pytest.raises(SendenseError) as raised:
        place.look()
    assert raised.value.retryable
    assert place.state.failed_at is not None
    assert place.state.failure
    assert place.store.instance(one.id).gone_at is None
    place.cloud.faults.clear()
    place.cloud.up()
    place.look()
    assert (place.state.failed_at, place.state.failure) == (None, "")


def test_a_key_that_is_no_longer_accepted_is_told(place):
    place.cloud.add_instance("one")
    place.look()
    keys = CloudKeys("unknown", Secret("wrong"))
    place.catalog.clouds.set_keys(place.id, keys)
    with pytest.raises(SendenseError, match="401"):
        place.look()
    assert "401" in place.state.failure


def test_a_key_that_has_expired_is_told_and_loses_nothing(place):
    one = place.cloud.add_instance("one")
    place.look()
    world, ours = place.cloud.world, place.cloud.admin_keys.api_key
    pair = next(each for each in world.all(KeyPairOfUser) if each.api_key == ours)
    pair.ends = clock.now() - timedelta(minutes=1)
    with pytest.raises(NotAllowed) as raised:
        place.look()
    assert raised.value.data["cs_code"] == 401
    assert "renewed" in (raised.value.hint or "")
    assert "401" in place.state.failure
    assert place.store.instance(one.id).gone_at is None
    pair.ends = None
    place.look()
    assert place.state.failure == ""


def test_a_clock_that_is_off_is_told_and_got_along_with(place):
    place.cloud.clock_skew_s = 1200.0
    place.cloud.add_instance("one")
    place.look()
    assert abs(place.state.clock_skew_s - 1200) < 60
    assert any("clock" in warning for warning in place.state.warnings)


def test_two_clouds_side_by_side(place):
    with Simulator(job_s=0.02) as other:
        keys = other.admin_keys
        place.catalog.clouds.add(
            Cloud("other", "hamburg", other.url, clock.now()),
            CloudKeys(keys.api_key, Secret(keys.secret)),
        )
        place.cloud.add_instance("here")
        there = other.add_instance("there")
        place.look()
        look_at_cloud(place.estate, "other")
        assert place.store.instance(there.id).cloud_id == "other"
        assert len(place.catalog.instances.names()) == 2


class TestWatch:
    @pytest.fixture
    def watch(self, place):
        watch = CloudWatch(place.estate, whole_s=3600, quick_s=3600)
        yield watch
        watch.stop()

    def test_a_whole_look_first_then_hints(self, place, watch):
        place.cloud.add_instance("one")
        watch.start()
        until(lambda: place.state.looked_at is not None)
        two = place.cloud.add_instance("two")
        watch.hint(place.id, two.id)
        until(lambda: len(place.names()) == 2)

    def test_a_hint_that_names_nothing_has_events_read(self, place, watch):
        watch.start()
        until(lambda: place.state.looked_at is not None)
        two = place.cloud.add_instance("two")
        watch.hint(place.id)
        until(lambda: two.instance_name in place.names())

    def test_what_was_missed_is_found_by_the_next_look(self, place):
        watch = CloudWatch(place.estate, whole_s=0.5, quick_s=3600)
        watch.start()
        try:
            until(lambda: place.state.looked_at is not None)
            place.cloud.down()
            two = place.cloud.add_instance("two")
            until(lambda: place.state.failed_at is not None)
            place.cloud.up()
            until(lambda: two.instance_name in place.names())
        finally:
            watch.stop()

    def test_a_cloud_that_hangs_keeps_nobody_from_stopping(self, raw):
        asked, released = threading.Event(), threading.Event()

        def hangs(form):
            asked.set()
            released.wait(200)
            return {}

        raw.answers["listHosts"] = hangs
        watch = CloudWatch(raw.estate, whole_s=3600, quick_s=3600)
        watch.start()
        try:
            assert asked.wait(120)
            watch.stop(within_s=0.2)
            assert not released.is_set()
        finally:
            released.set()
        until(lambda: not any(each.name == "cloud-berlin" for each in threading.enumerate()))
        assert raw.state.failed_at is None

    def test_hints_count_where_events_are_not_shown(self, raw):
        raw.vms = [a_vm(1)]
        watch = CloudWatch(raw.estate, whole_s=3600, quick_s=3600)
        watch.start()
        try:
            until(lambda: raw.state.looked_at is not None)
            raw.vms.append(a_vm(2))
            watch.hint(raw.id, a_vm(2)["id"])
            until(lambda: raw.catalog.inventory.count(raw.id) == 2)
            assert "listEvents" not in raw.cloud.commands
        finally:
            watch.stop()

    def test_hints_that_come_while_a_cloud_fails_are_kept(self, raw):
        raw.vms = [a_vm(1)]
        watch = CloudWatch(raw.estate, whole_s=3600, quick_s=0.2)
        watch.start()
        try:
            until(lambda: raw.state.looked_at is not None)
            raw.vms.append(a_vm(2))
            raw.answers["listDomains"] = lambda form: refused("listDomains", 531)
            watch.hint(raw.id, a_vm(2)["id"])
            until(lambda: raw.state.failed_at is not None)
            del raw.answers["listDomains"]
            until(lambda: raw.catalog.inventory.count(raw.id) == 2)
        finally:
            watch.stop()

    def test_one_server_looks_by_the_clock_and_each_at_its_hints(self, place):
        first, second = (
            CloudWatch(place.estate, whole_s=0.1, quick_s=3600, dead_after_s=600) for _ in range(2)
        )
        first.start()
        try:
            until(lambda: place.state.looked_at is not None)
            holder = place.catalog.turns.get("clouds").holder
            second.start()
            two = place.cloud.add_instance("two")
            second.hint(place.id, two.id)
            until(lambda: two.instance_name in place.names())
            assert place.catalog.turns.get("clouds").holder == holder
            first.stop()
            until(lambda: place.catalog.turns.get("clouds") is not None)
            assert place.catalog.turns.get("clouds").holder != holder
            seen = place.state.looked_at
            until(lambda: place.state.looked_at > seen)
        finally:
            first.stop()
            second.stop()
        assert place.catalog.turns.get("clouds") is None

    def test_a_server_that_died_is_replaced(self, place):
        place.catalog.turns.take("clouds", "killed", None)
        watch = CloudWatch(place.estate, whole_s=3600, quick_s=3600, dead_after_s=0.5)
        watch.start()
        try:
            until(lambda: place.state.looked_at is not None)
            assert place.catalog.turns.get("clouds").holder != "killed"
        finally:
            watch.stop()


def test_a_quick_look_leaves_what_is_gone_to_the_whole_one(place):
    one = place.cloud.add_instance("one")
    place.look()
    place.cloud.expunge(one)
    assert look_at_instances(place.estate, place.id, [one.id]).instances == 0
    assert place.store.instance(one.id).gone_at is None
    assert place.look().gone == (one.id,)


@pytest.mark.slow
def test_ten_thousand_instances(place):
    place.cloud.fill(10_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    looked = place.look()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (looked.instances, len(looked.new)) == (10_000, 10_000)
    assert place.store.count(place.id) == 10_000
    assert place.look().new == ()
    assert len(place.store.present(place.id, CloudKind.POOL)) > 0
    # Both ends of it in one process; what is kept is a page, and a map of the volumes.
    assert grown < 256
