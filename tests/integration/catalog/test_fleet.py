"""Hosts and instances in the catalogue."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sendense.errors import AlreadyExists, Conflict, NotFound, OutOfSpace
from sendense.model.access import Grant
from sendense.model.fleet import Transport
from sendense.model.machine import PowerState
from sendense.model.page import Paging, every
from sendense.model.secret import Secret
from tests.support.builders import a_machine
from tests.support.fleet import NOW, a_heartbeat, a_host

MINUTE = timedelta(minutes=1)


def machine(uuid, **changes):
    return a_machine(uuid=uuid, name=f"vm-{uuid}", **changes)


def enrol(catalog, name, key, secret):
    catalog.hosts.enrol(f"id-{name}", public_key=key, ticket_secret=Secret(secret), at=NOW)
    return Secret(secret)


class TestHosts:
    def test_a_host_comes_back_as_it_was(self, catalog):
        host = a_host(control_port=21001, data_ports=(21002, 21003), heartbeat=a_heartbeat())
        catalog.hosts.add(host)
        assert catalog.hosts.get(host.id) == host
        assert catalog.hosts.named("kvm1") == host
        assert catalog.hosts.every() == (host,)

    def test_a_name_is_taken_once(self, catalog):
        catalog.hosts.add(a_host())
        with pytest.raises(AlreadyExists):
            catalog.hosts.add(a_host(id="other"))

    def test_one_that_is_not_there(self, catalog):
        for call in (
            lambda: catalog.hosts.get("none"),
            lambda: catalog.hosts.named("none"),
            lambda: catalog.hosts.remove("none"),
            lambda: catalog.hosts.edit("none", name="x"),
            lambda: catalog.hosts.ticket_secret("none"),
            lambda: catalog.hosts.heard("none", a_heartbeat(), NOW),
        ):
            with pytest.raises(NotFound):
                call()

    def test_enrolled_revoked_and_enrolled_again(self, catalog):
        catalog.hosts.add(a_host(enrolled_at=None))
        assert catalog.hosts.enrolled() == ()
        enrolled = catalog.hosts.enrol(
            "id-kvm1", public_key="ssh-ed25519 A", ticket_secret=Secret("s1"), at=NOW
        )
        assert catalog.hosts.enrolled() == (enrolled,)
        assert catalog.hosts.ticket_secret("id-kvm1") == Secret("s1")
        catalog.hosts.revoke("id-kvm1", NOW + MINUTE)
        assert catalog.hosts.enrolled() == ()
        with pytest.raises(NotFound):
            catalog.hosts.ticket_secret("id-kvm1")
        catalog.hosts.enrol(
            "id-kvm1", public_key="ssh-ed25519 B", ticket_secret=Secret("s2"), at=NOW
        )
        assert catalog.hosts.ticket_secret("id-kvm1") == Secret("s2")

    def test_a_key_is_the_one_of_one_host(self, catalog):
        for name in ("kvm1", "kvm2"):
            catalog.hosts.add(a_host(name, enrolled_at=None))
        enrol(catalog, "kvm1", "ssh-ed25519 A", "s1")
        with pytest.raises(Conflict, match="host kvm1 already"):
            enrol(catalog, "kvm2", "ssh-ed25519 A", "s2")
        assert [host.name for host in catalog.hosts.enrolled()] == ["kvm1"]
        enrol(catalog, "kvm1", "ssh-ed25519 A", "s3")
        catalog.hosts.revoke("id-kvm1", NOW)
        enrol(catalog, "kvm2", "ssh-ed25519 A", "s2")

    def test_an_enrolment_is_taken_back(self, catalog):
        catalog.hosts.add(a_host(enrolled_at=None))
        old = enrol(catalog, "kvm1", "ssh-ed25519 A", "s1")
        new = enrol(catalog, "kvm1", "ssh-ed25519 B", "s2")
        before = ("ssh-ed25519 A", old)
        assert catalog.hosts.take_enrolment_back("id-kvm1", new, before, NOW)
        assert catalog.hosts.get("id-kvm1").public_key == "ssh-ed25519 A"
        assert catalog.hosts.ticket_secret("id-kvm1") == old
        # Once more: somebody else's enrolment by now, as far as this one can tell.
        assert not catalog.hosts.take_enrolment_back("id-kvm1", new, before, NOW)
        assert catalog.hosts.take_enrolment_back("id-kvm1", old, None, NOW)
        assert catalog.hosts.enrolled() == ()

    def test_taking_an_enrolment_back_undoes_no_revocation(self, catalog):
        catalog.hosts.add(a_host(enrolled_at=None))
        old = enrol(catalog, "kvm1", "ssh-ed25519 A", "s1")
        new = enrol(catalog, "kvm1", "ssh-ed25519 B", "s2")
        catalog.hosts.revoke("id-kvm1", NOW)
        before = ("ssh-ed25519 A", old)
        assert not catalog.hosts.take_enrolment_back("id-kvm1", new, before, NOW)
        assert catalog.hosts.get("id-kvm1").revoked_at == NOW
        assert catalog.hosts.enrolled() == ()

    def test_what_an_agent_says_is_kept(self, catalog):
        catalog.hosts.add(a_host())
        catalog.hosts.heard("id-kvm1", a_heartbeat(), NOW + MINUTE)
        host = catalog.hosts.get("id-kvm1")
        assert host.heartbeat == a_heartbeat()
        assert (host.last_seen, host.version) == (NOW + MINUTE, "1.2.3")

    def test_edit_changes_what_is_given(self, catalog):
        catalog.hosts.add(a_host())
        changed = catalog.hosts.edit("id-kvm1", address="10.0.0.9", transport=Transport.TLS)
        assert changed == a_host(address="10.0.0.9", transport=Transport.TLS)

    def test_ports_belong_to_one_host(self, catalog):
        for name in ("a", "b", "c"):
            catalog.hosts.add(a_host(name))
        first = catalog.hosts.assign_ports("id-a", range(100, 106), 2)
        second = catalog.hosts.assign_ports("id-b", range(100, 106), 2)
        assert (first.control_port, *first.data_ports) == (100, 101, 102)
        assert (second.control_port, *second.data_ports) == (103, 104, 105)
        assert catalog.hosts.assign_ports("id-a", range(100, 106), 2) == first
        with pytest.raises(OutOfSpace):
            catalog.hosts.assign_ports("id-c", range(100, 106), 2)

    def test_pages_and_filters(self, catalog):
        for number in range(7):
            catalog.hosts.add(a_host(f"kvm{number}"))
        catalog.hosts.add(a_host("Other%", revoked_at=NOW))
        page = catalog.hosts.page(Paging(limit=3))
        assert len(page.items) == 3
        names = [host.name for host in every(lambda at: catalog.hosts.page(replace(at, limit=3)))]
        assert names == sorted(names)
        assert len(set(names)) == 8
        assert [host.name for host in catalog.hosts.page(search="R%").items] == ["Other%"]
        assert [host.name for host in catalog.hosts.page(revoked=True).items] == ["Other%"]


class TestInstances:
    @pytest.fixture(autouse=True)
    def hosts(self, catalog):
        catalog.hosts.add(a_host("a"))
        catalog.hosts.add(a_host("b"))

    def test_what_a_host_shows_is_taken_over(self, catalog):
        seen = catalog.instances.see("id-a", [machine("1"), machine("2")], NOW)
        assert sorted(seen.new) == ["1", "2"]
        instance = catalog.instances.get("1")
        assert instance.machine == machine("1")
        assert (instance.host_id, instance.first_seen, instance.gone_at) == ("id-a", NOW, None)

    def test_one_that_is_shown_no_more_is_gone_and_comes_back(self, catalog):
        catalog.instances.see("id-a", [machine("1"), machine("2")], NOW)
        seen = catalog.instances.see("id-a", [machine("2")], NOW + MINUTE)
        assert seen.gone == ("1",)
        assert catalog.instances.get("1").gone_at == NOW + MINUTE
        assert [each.uuid for each in catalog.instances.names()] == ["2"]
        assert catalog.instances.see("id-a", [machine("2")], NOW + 2 * MINUTE).gone == ()
        assert catalog.instances.get("1").gone_at == NOW + MINUTE
        seen = catalog.instances.see("id-b", [machine("1")], NOW + 3 * MINUTE)
        assert (seen.new, seen.moved) == ((), ("1",))
        assert catalog.instances.get("1").gone_at is None
        assert catalog.instances.get("1").first_seen == NOW

    def test_where_it_runs_wins_over_where_it_only_is_defined(self, catalog):
        catalog.instances.see("id-a", [machine("1")], NOW)
        off = machine("1", power=PowerState.STOPPED)
        assert catalog.instances.see("id-b", [off], NOW + MINUTE).moved == ()
        assert catalog.instances.get("1").host_id == "id-a"
        assert catalog.instances.see("id-b", [machine("1")], NOW + MINUTE).moved == ("1",)
        # The host that it left has its definition still.
        assert catalog.instances.see("id-a", [off], NOW + 2 * MINUTE).moved == ()
        assert catalog.instances.get("1").power is PowerState.RUNNING

    def test_it_outlives_its_host(self, catalog):
        catalog.instances.see("id-a", [machine("1")], NOW)
        catalog.hosts.remove("id-a")
        assert catalog.instances.get("1").host_id is None

    def test_filters(self, catalog):
        machines = [machine("1"), machine("2", power=PowerState.STOPPED)]
        catalog.instances.see("id-a", machines, NOW)
        catalog.instances.see("id-b", [machine("3")], NOW)

        def uuids(**filters):
            return [each.uuid for each in catalog.instances.page(**filters).items]

        assert uuids() == ["1", "2", "3"]
        assert uuids(host_id="id-a") == ["1", "2"]
        assert uuids(power=PowerState.STOPPED) == ["2"]
        assert uuids(search="VM-3") == ["3"]
        assert uuids(gone=True) == []

    @pytest.mark.parametrize(
        ("grant", "granted"),
        [
            (Grant(), []),
            (Grant(instances=("2",)), ["2"]),
            (Grant(names=("vm-?",)), ["1", "2"]),
            (Grant(names=("VM-*",)), ["4"]),
            (Grant(names=("vm-%",)), []),
            (Grant(names=("vm-_",)), []),
            (Grant(names=("vm-[12]",)), ["5"]),
            (Grant(names=("*b*",), instances=("1",)), ["1", "3"]),
        ],
    )
    def test_a_grant_covers_what_it_says(self, catalog, grant, granted):
        machines = [
            machine("1"),
            machine("2"),
            a_machine(uuid="3", name="x\\b"),
            a_machine(uuid="4", name="VM-x"),
            a_machine(uuid="5", name="vm-[12]"),
        ]
        catalog.instances.see("id-a", machines, NOW)
        page = catalog.instances.page(grant=grant)
        assert sorted(each.uuid for each in page.items) == granted
        assert sorted(each.uuid for each in catalog.instances.names(grant)) == granted
        for uuid in "12345":
            if uuid in granted:
                assert catalog.instances.get(uuid, grant).uuid == uuid
            else:
                with pytest.raises(NotFound):
                    catalog.instances.get(uuid, grant)


def test_a_pause_ends_by_itself_or_is_ended(catalog):
    catalog.hosts.add(a_host("kvm1"))
    later = NOW + timedelta(hours=1)
    assert catalog.hosts.pause("id-kvm1", later).paused_until == later
    assert catalog.hosts.paused(NOW) == {"id-kvm1"}
    assert catalog.hosts.paused(later) == frozenset()
    catalog.hosts.pause("id-kvm1", None)
    assert catalog.hosts.paused(NOW) == frozenset()
