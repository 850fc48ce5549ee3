"""Instances of clouds over the API, and what policies make of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense import clock
from sendense.model.access import Grant, Role, TenantScope, User
from sendense.model.cloud import CloudHost, CloudKind, CloudPool, InstanceSecrets, Owner
from sendense.model.policy import MatchRules
from sendense.model.secret import Secret
from tests.support.api_site import MINE
from tests.support.builders import a_machine
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance
from tests.support.fleet import NOW, a_host, a_point_entry, a_policy

FIRST, SECOND, THIRD = (f"00000000-0000-4000-8000-{number:012}" for number in (1, 2, 3))
LAB = Owner("d-acme", "ROOT/acme", project_id="p-lab", project="lab")
OTHERS = Owner("d-other", "ROOT/other", "eve")
INSTANCES = (
    a_cloud_instance(1, name="web-1"),
    a_cloud_instance(
        2, name="web-2", owner=LAB, tags={"tier": "gold"}, state="Stopped", host_id="", host=""
    ),
    a_cloud_instance(3, name="web-3", owner=OTHERS, tags={}, memory_snapshots=1),
)
SECRETS = InstanceSecrets({"password": Secret("hunter2")}, Secret("aGlkZGVu"))
KVM = CloudHost("h1", "kvm1", "10.0.0.1", "Up", "Enabled", "Routing", "KVM", "z1", "c1")
NFS = CloudPool("p1", "nfs", "NetworkFilesystem", "/export", scope="CLUSTER", cluster_id="c1")


@pytest.fixture(autouse=True)
def cloud(site):
    """Give a cloud with three instances, the first of which is also seen by an agent."""
    catalog = site.catalog
    west = catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
    now = clock.now()
    catalog.inventory.take(west.id, CloudKind.HOST, [KVM], now)
    catalog.inventory.take(west.id, CloudKind.POOL, [NFS], now)
    catalog.inventory.take_instances(west.id, [(each, SECRETS) for each in INSTANCES], now)
    gold = replace(
        a_policy(), id="id-gold", name="gold", updated_at=now,
        rules=replace(a_policy().rules, match=MatchRules(tags=("tier=gold",))),
    )  # fmt: skip
    catalog.policies.add(gold)
    narrow = replace(a_policy().rules, match=MatchRules(names=("vm-*",)))
    catalog.policies.edit("id-nightly", now, rules=narrow)
    point = a_point_entry(9, machine_uuid=SECOND, machine_name="i-2-2-VM")
    catalog.points.put([point], NOW)
    return west


def ok(response, status=200):
    assert response.status_code == status, response.text
    return response.json()


def listed(client, **params):
    return [each["id"] for each in ok(client.get("/cloudstack/vms", params=params))["items"]]


def test_an_instance_is_as_its_cloud_has_it(admin):
    (found,) = ok(admin.get("/cloudstack/vms", params={"search": "Shop 1"}))["items"]
    assert (found["id"], found["name"], found["display_name"]) == (FIRST, "web-1", "Shop 1")
    assert (found["instance_name"], found["cloud"], found["host"]) == ("i-2-1-VM", "west", "kvm1")
    assert found["owner"]["domain"] == "ROOT/acme"
    assert found["volumes"][0]["size"] == 5 << 30
    assert found["nics"][0]["mac"] == "52:54:00:00:00:01"
    assert found["tags"] == {"backup": "daily"}
    assert (found["policies"], found["protection"]["protection"]) == ([], "unprotected")
    assert {each["code"]: each["severity"] for each in found["flags"]}["no-agent"] == "blocks"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [FIRST, SECOND, THIRD]),
        ({"cloud_id": "id-west"}, [FIRST, SECOND, THIRD]),
        ({"cloud_id": "id-east"}, []),
        ({"domain": "ROOT/acme"}, [FIRST, SECOND]),
        ({"account": "eve"}, [THIRD]),
        ({"project": "lab"}, [SECOND]),
        ({"tag": "tier=gold"}, [SECOND]),
        ({"state": "Stopped"}, [SECOND]),
        ({"zone": "west-1", "host": "h1"}, [FIRST, THIRD]),
        ({"offering": "Small"}, [FIRST, SECOND, THIRD]),
        ({"offering": "Large"}, []),
        ({"gone": True}, []),
        ({"protection": "unprotected"}, [FIRST, THIRD]),
        ({"protection": "unprotected", "limit": 1, "domain": "ROOT/other"}, [THIRD]),
    ],
)
def test_filters(admin, wanted, found):
    assert listed(admin, **wanted) == found


def test_parts_of_a_filtered_list_lead_to_its_end(admin):
    found, cursor = [], None
    while True:
        params = {"limit": 1, "protection": "unprotected", **({"cursor": cursor} if cursor else {})}
        page = ok(admin.get("/cloudstack/vms", params=params))
        found += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [FIRST, THIRD]


def test_one_in_full(admin):
    found = ok(admin.get(f"/cloudstack/vms/{SECOND}"))
    taken, other = found["matched"]
    assert (taken["name"], taken["taken"]) == ("gold", True)
    assert "tier=gold" in taken["why"]
    assert (other["name"], other["taken"]) == ("nightly", False)
    assert found["policies"] == ["gold"]
    assert (found["points"]["count"], found["points"]["newest_good"]) != (0, None)
    assert [each["what"] for each in found["history"]] == ["appeared"]
    snapshots = ok(admin.get(f"/cloudstack/vms/{THIRD}"))["flags"]
    assert "memory-snapshots" in [each["code"] for each in snapshots]
    assert admin.get(f"/cloudstack/vms/{MINE}").status_code == 404


def test_its_newest_good_point_is_no_safety_point(admin, site):
    before = ok(admin.get(f"/cloudstack/vms/{SECOND}"))["points"]
    site.catalog.points.put([a_point_entry(20, machine_uuid=SECOND, safety=True)], NOW)
    after = ok(admin.get(f"/cloudstack/vms/{SECOND}"))["points"]
    assert (after["count"], after["newest_good"]) == (before["count"] + 1, before["newest_good"])
    assert after["newest"] > before["newest"]


def test_no_answer_has_its_secrets(admin):
    for path in ("/cloudstack/vms", f"/cloudstack/vms/{FIRST}", "/clouds/id-west/changes"):
        text = admin.get(path).text
        assert "hunter2" not in text
        assert "aGlkZGVu" not in text


def test_a_tenant_sees_its_own_and_nothing_of_hosts(site):
    scope = TenantScope("id-west", project_id="p-lab")
    site.catalog.users.add(User("lab", Role.TENANT, NOW, grant=Grant(tenants=(scope,))))
    tenant = site.client(token=site.token("lab"))
    (found,) = ok(tenant.get("/cloudstack/vms"))["items"]
    assert (found["id"], found["instance_name"], found["host_id"]) == (SECOND, "", "")
    assert found["agent_host_id"] is None
    assert {(each["path"], each["pool"]) for each in found["volumes"]} == {("", "")}
    in_full = ok(tenant.get(f"/cloudstack/vms/{SECOND}"))
    assert (in_full["matched"], in_full["history"]) == ([], [])
    assert in_full["points"]["count"] == 1
    assert tenant.get(f"/cloudstack/vms/{FIRST}").status_code == 404
    # Neither does a filter tell what is not shown.
    assert listed(tenant, host="h1") == [SECOND]


def test_instances_know_their_cloud(admin):
    found = ok(admin.get(f"/instances/{FIRST}"))
    assert (found["cloud"]["name"], found["cloud"]["other_name"]) == ("Shop 1", "web-1")
    page = ok(admin.get("/instances", params={"protection": "unprotected"}))
    assert [each["uuid"] for each in page["items"]] == [FIRST, THIRD]
    assert page["items"][0]["cloud"]["tags"] == {"backup": "daily"}


def test_a_preview_says_who_is_taken_and_why(admin):
    asked = {
        "name": "acme", "repository_id": "id-main", "schedule": "@daily", "keep": {"last": 3},
        "match": {"clouds": ["we*"], "domains": ["ROOT/acme"], "except_tags": ["tier"]},
    }  # fmt: skip
    preview = ok(admin.post("/policies/preview", json=asked))
    assert preview["count"] == 1
    (taken,) = preview["instances"]
    assert (taken["uuid"], taken["cloud_name"]) == (FIRST, "Shop 1")
    assert taken["why"].startswith("taken: its cloud (west")


def test_a_preview_leaves_out_what_cloudstack_makes_for_itself(site, admin):
    catalog, now = site.catalog, clock.now()
    system = [a_machine(uuid=f"own-{name}", name=name) for name in ("r-4-VM", "s-1-VM", "v-2-VM")]
    catalog.instances.see("id-kvm1", [*system, a_machine(uuid="u9", name="vm-9")], now)
    # On a host of no cloud it is a machine as any other.
    catalog.hosts.add(a_host("lone"))
    catalog.instances.see("id-lone", [a_machine(uuid="own-lone", name="r-4-VM")], now)
    asked = {
        "name": "all", "repository_id": "id-main", "schedule": "@daily", "keep": {"last": 3},
        "match": {"names": ["*"], "instances": ["own-v-2-VM"]},
    }  # fmt: skip
    preview = ok(admin.post("/policies/preview", json=asked))
    taken = {each["uuid"] for each in preview["instances"]}
    assert {"u9", "own-lone", FIRST} <= taken
    assert [each["name"] for each in preview["left_out"]] == ["r-4-VM", "s-1-VM", "v-2-VM"]
    assert not taken & {each["uuid"] for each in preview["left_out"]}
    assert all("CloudStack (west) makes it" in each["why"] for each in preview["left_out"])
    narrow = asked | {"match": {"names": ["vm-*"]}}
    assert ok(admin.post("/policies/preview", json=narrow))["left_out"] == []
    catalog.clouds.edit(catalog.clouds.every()[0].id, enabled=False)
    assert not any(each.own_of for each in catalog.instances.names())
