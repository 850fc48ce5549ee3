"""What a cloud shows no longer is taken for gone late, and never in bulk without a question."""

from __future__ import annotations

import pytest

from sendense import clock
from sendense.errors import Cancelled, Conflict, SendenseError, Unavailable
from sendense.model.cloud import CloudKind, Owner
from sendense.model.cloud_check import CloudIdentity
from sendense.model.cloud_user import grant_of
from sendense.workflows.managed.cloud_sync import look_at_cloud
from sendense_lab.simulator.records import Instance
from tests.support.cloud_place import a_vm
from tests.support.raw_cloud import refused


def names_of(looked):
    return {uuid[-2:] for uuid in looked}


# --- Instances


def test_one_look_that_misses_it_is_not_enough(raw):
    raw.vms = [a_vm(1), a_vm(2)]
    raw.look()
    raw.vms = [a_vm(1)]
    looked = raw.look()
    assert (looked.gone, names_of(looked.missed)) == ((), {"02"})
    assert any("gone if the next look misses them too" in each for each in raw.state.warnings)
    raw.vms = [a_vm(1), a_vm(2)]
    assert raw.look().missed == ()
    raw.vms = [a_vm(1)]
    assert raw.look().gone == ()
    assert names_of(raw.look().gone) == {"02"}
    assert raw.state.warnings == raw.look_warnings


@pytest.mark.parametrize("odd", [{}, {"count": 2}, {"count": 0}])
def test_a_cloud_that_shows_nothing_has_lost_nothing(raw, odd):
    raw.vms = [a_vm(1), a_vm(2)]
    raw.look()
    raw.answers["listVirtualMachines"] = lambda form: odd
    for _ in range(3):
        looked = raw.look()
        assert (looked.gone, len(looked.unseen)) == ((), 2)
    assert any("--accept-gone" in each for each in raw.state.warnings)
    assert len(raw.look(accept_gone=True).gone) == 2


def test_a_key_that_sees_less_makes_nothing_gone(raw):
    raw.vms = [a_vm(number) for number in range(100)]
    raw.look()
    raw.vms = raw.vms[:55]
    for _ in range(3):
        looked = raw.look()
        assert (looked.gone, len(looked.unseen)) == ((), 45)
    assert looked.said["doubts"]
    assert len(raw.look(accept_gone=True).gone) == 45


def test_what_cloudstack_says_was_expunged_is_gone_at_once(place):
    made = place.cloud.fill(50)
    place.look()
    for each in made[:40]:
        place.cloud.expunge(each)
    assert len(place.look().gone) == 40
    for each in place.cloud.world.all(Instance)[:6]:
        place.cloud.expunge(each)
    place.cloud.events.purge()
    looked = place.look()
    assert (looked.gone, len(looked.unseen)) == ((), 6)


def test_a_list_of_commands_that_is_none_is_not_believed(raw):
    raw.vms = [a_vm(1), a_vm(2)]
    raw.projects = [a_vm(9, projectid="p", project="x")]
    raw.look()
    for apis in ({}, {"count": 0, "api": []}, raw.apis(without="listVirtualMachines")):
        raw.answers["listApis"] = lambda form, apis=apis: apis
        with pytest.raises(Unavailable):
            raw.look()
    raw.answers["listApis"] = lambda form: raw.apis(params=())
    for _ in range(3):
        looked = raw.look()
        assert (looked.gone, names_of(looked.unseen)) == ((), {"09"})
    del raw.answers["listApis"]
    assert raw.look().unseen == ()


# --- What is around them


def test_objects_go_after_two_looks_and_not_most_at_once(raw):
    pools = [{"id": f"p{number}", "name": f"pool{number}"} for number in range(20)]
    shown = pools

    def present():
        return len(raw.catalog.inventory.present(raw.id, CloudKind.POOL))

    raw.vms = [a_vm(1)]
    raw.answers["listStoragePools"] = lambda form: {"count": len(shown), "storagepool": shown}
    raw.look()
    shown = pools[:18]
    raw.look()
    assert present() == 20
    raw.look()
    assert present() == 18
    shown = []
    for _ in range(3):
        looked = raw.look()
        assert present() == 18
    assert any("18 of 18 pools" in each for each in looked.doubts)
    raw.look(accept_gone=True)
    assert present() == 0


def test_a_user_is_not_ended_by_a_list_that_slips(raw):
    ann = {"id": "a1", "name": "ann", "domainid": "d", "accounttype": 0, "state": "enabled"}
    identity = CloudIdentity("raw", "ann", Owner("d", "ROOT", "ann"), "User")
    raw.answers["listAccounts"] = lambda form: {"account": [ann]}
    raw.look()
    name = raw.catalog.cloud_users.sign_in("cloud:x", grant_of(identity), clock.now()).name
    raw.answers["listAccounts"] = lambda form: {"account": [ann]} if "id" in form else {}
    for _ in range(3):
        raw.look()
    assert raw.catalog.inventory.present(raw.id, CloudKind.ACCOUNT) == ()
    assert not raw.catalog.users.get(name).disabled
    raw.answers["listAccounts"] = lambda form: {}
    raw.look()
    assert raw.catalog.users.get(name).disabled
    raw.answers["listAccounts"] = lambda form: {"account": [ann]}
    raw.look()
    assert not raw.catalog.users.get(name).disabled


# --- Odd rows, and failures that are none of the cloud


def test_rows_that_cannot_be_kept_do_not_stop_the_others(raw):
    raw.vms = [
        a_vm(1, displayname="x\ud800y\0", name="\udfff"),
        a_vm(2, id=""),
        a_vm(3, id="vm'; --"),
        a_vm(4, zoneid="z" * 300, hostid="h" * 300, name="n" * 400),
    ]
    raw.answers["listStoragePools"] = lambda form: {"storagepool": [{"id": "a" * 65}, {"id": "p"}]}
    assert names_of(raw.look().new) == {"01", "04"}
    assert any(each.startswith("2 instances have no id") for each in raw.state.warnings)
    assert any(each.startswith("1 pools have no id") for each in raw.state.warnings)


def test_that_somebody_ends_a_look_is_no_failure_of_the_cloud(raw):
    def check():
        raise Cancelled("somebody cancelled the job")

    raw.vms = [a_vm(1)]
    raw.answers["listZones"] = lambda form: {"zone": [{"id": "z", "name": "z"}]}
    with pytest.raises(Cancelled):
        look_at_cloud(raw.estate, raw.id, check=check)
    raw.catalog.clouds.edit(raw.id, enabled=False)
    with pytest.raises(Conflict):
        raw.look()
    assert (raw.state.failed_at, raw.state.failure) == (None, "")


def test_a_failure_is_noted_whatever_it_is(raw, monkeypatch):
    raw.answers["listHosts"] = lambda form: refused("listHosts", 431, "x" * 100_000)
    with pytest.raises(SendenseError):
        raw.look()
    assert 0 < len(raw.state.failure) <= 1000
    del raw.answers["listHosts"]
    raw.look()
    assert raw.state.failure == ""

    def stumbles(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(type(raw.catalog.inventory), "take_instances", stumbles)
    raw.vms = [a_vm(1)]
    with pytest.raises(ZeroDivisionError):
        raw.look()
    assert "stumbled" in raw.state.failure
