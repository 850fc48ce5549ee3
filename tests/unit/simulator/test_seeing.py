"""Who sees what: accounts, domains, projects, and what is for administrators only."""

from __future__ import annotations

import pytest

from sendense_lab.simulator import Keys, seed
from sendense_lab.simulator.records import Instance, Project
from tests.unit.simulator.asking import Asker, Refused, account


@pytest.fixture
def land(simulator):
    """Four owners with an instance each."""
    for name, domain in (("acme", "ROOT/customers/acme"), ("bolt", "ROOT/customers")):
        account(simulator, name, domain=domain)
    owners = {
        "admin": simulator.account("admin"),
        "acme": simulator.account("acme", "ROOT/customers/acme"),
        "bolt": simulator.account("bolt", "ROOT/customers"),
    }
    project = seed.add_project(simulator.world, "shop", owners["acme"])
    owners["shop"] = simulator.world.owner_of(project)
    for name, one in owners.items():
        simulator.add_instance(f"of-{name}", account=one, disks=(1 << 30,))
    return simulator


def owner(simulator, name, domain):
    return Asker(simulator, simulator.keys_of(simulator.account(name, domain)))


def names(ask, **params):
    return {vm["name"] for vm in ask("listVirtualMachines", **params).get("virtualmachine", [])}


def test_an_administrator_sees_its_own_until_it_asks_for_all(land, ask):
    assert names(ask) == {"of-admin"}
    assert names(ask, listall="true") == {"of-admin", "of-acme", "of-bolt"}
    assert names(ask, listall="true", projectid="-1") == {
        "of-admin", "of-acme", "of-bolt", "of-shop",
    }  # fmt: skip


def test_projects_own_what_no_account_shows(land, ask):
    project = ask("listProjects", listall="true")["project"][0]["id"]
    (vm,) = ask("listVirtualMachines", projectid=project)["virtualmachine"]
    assert (vm["project"], vm["projectid"], "account" in vm) == ("shop", project, False)
    (disk, *_) = ask("listVolumes", projectid=project)["volume"]
    assert disk["project"] == "shop"


def test_an_administrator_finds_what_it_names(land, ask):
    for name in ("of-acme", "of-shop"):
        assert names(ask, id=land.world.named(Instance, name).id) == {name}
    user = owner(land, "bolt", "ROOT/customers")
    assert names(user, id=land.world.named(Instance, "of-acme").id) == set()


def test_a_domain_with_and_without_those_below(land, ask):
    customers = land.domain("ROOT/customers").id
    assert names(ask, domainid=customers) == {"of-bolt"}
    assert names(ask, domainid=customers, isrecursive="true") == {"of-bolt", "of-acme"}
    assert names(ask, domainid=customers, account="bolt") == {"of-bolt"}
    with pytest.raises(Refused, match="Unable to find account"):
        names(ask, domainid=customers, account="acme")


def test_a_user_sees_its_own_and_its_projects(land):
    user = owner(land, "acme", "ROOT/customers/acme")
    assert names(user, listall="true") == {"of-acme"}
    assert names(user, listall="true", projectid="-1") == {"of-acme", "of-shop"}
    with pytest.raises(Refused) as caught:
        names(user, domainid=land.world.root.id)
    assert caught.value.code == 531


def test_a_domain_administrator_sees_its_tree(land):
    chief = account(land, "chief", domain="ROOT/customers", role="Domain Admin")
    assert names(chief, listall="true") == {"of-acme", "of-bolt"}
    assert {one["name"] for one in chief("listAccounts", listall="true")["account"]} == {
        "acme", "bolt", "chief",
    }  # fmt: skip
    with pytest.raises(Refused) as caught:
        chief("listVirtualMachines", domainid=land.world.root.id)
    assert caught.value.code == 531


def test_a_domain_administrator_that_asks_for_projects_is_not_shown_its_tenants(land):
    chief = account(land, "chief", domain="ROOT/customers", role="Domain Admin")
    assert names(chief, listall="true", projectid="-1") == set()
    project = land.world.all(Project)[0].id
    assert names(chief, projectid=project) == {"of-shop"}


def test_an_account_and_projects_do_not_go_together(land, ask):
    with pytest.raises(Refused, match="together"):
        names(ask, account="admin", domainid=land.world.root.id, projectid="-1")
    assert names(ask, projectid="-1") == {"of-shop"}


def test_others_instances_cannot_be_touched(land):
    user = owner(land, "bolt", "ROOT/customers")
    vm = land.world.named(Instance, "of-acme")
    with pytest.raises(Refused) as caught:
        user("stopVirtualMachine", id=vm.id)
    assert caught.value.code == 531


def test_places_are_for_accounts_of_type_admin(land, ask):
    user = owner(land, "acme", "ROOT/customers/acme")
    chief = account(land, "chief", domain="ROOT/customers", role="Domain Admin")
    full = {"hostid", "hostname", "instancename"}
    stored = {"path", "storage", "storageid", "hypervisor"}
    for who, sees in ((ask, True), (user, False), (chief, False)):
        vm = next(
            vm for vm in who("listVirtualMachines", listall="true")["virtualmachine"]
            if vm["name"] == "of-acme"
        )  # fmt: skip
        disk = who("listVolumes", virtualmachineid=vm["id"], listall="true")["volume"][0]
        assert (full <= vm.keys()) is sees
        assert (stored <= disk.keys()) is sees
        assert bool(full & vm.keys()) is sees
        assert bool(stored & disk.keys()) is sees


def make_role(ask, rules, kind="Admin"):
    role = ask("createRole", name="backup", type=kind)["role"]["id"]
    for rule, permission in rules:
        ask("createRolePermission", roleid=role, rule=rule, permission=permission)
    return role


def test_a_role_of_type_admin_with_few_rights_still_sees_hosts(land, ask):
    make_role(ask, [("listVirtualMachines", "allow"), ("*", "deny")])
    backup = account(land, "backup", role="backup")
    (vm, *_) = backup("listVirtualMachines", listall="true")["virtualmachine"]
    assert "hostid" in vm
    with pytest.raises(Refused) as caught:
        backup("stopVirtualMachine", id=vm["id"])
    assert caught.value.code == 432


def test_what_no_rule_says_is_allowed_by_the_type_of_the_role(land, ask):
    make_role(ask, [("list*", "allow"), ("deployVirtualMachine", "deny")])
    backup = account(land, "backup", role="backup")
    assert backup("createDomain", name="fell-through")["domain"]
    with pytest.raises(Refused) as caught:
        backup("deployVirtualMachine")
    assert caught.value.code == 432


def test_the_first_rule_that_matches_decides_in_any_case(land, ask):
    role = make_role(ask, [("LISTzones", "deny"), ("list*", "allow"), ("*", "deny")], "User")
    backup = account(land, "backup", role="backup")
    with pytest.raises(Refused):
        backup("listZones")
    assert backup("listDomains") is not None
    rules = ask("listRolePermissions", roleid=role)["rolepermission"]
    order = ",".join(rule["id"] for rule in (rules[1], rules[0], rules[2]))
    ask("updateRolePermission", roleid=role, ruleorder=order)
    assert backup("listZones")["count"] == 1


def test_apis_are_listed_by_role(land, ask):
    make_role(ask, [("listApis", "allow"), ("listZones", "allow"), ("*", "deny")])
    backup = account(land, "backup", role="backup")
    assert {api["name"] for api in backup("listApis")["api"]} == {"listApis", "listZones"}
    user = owner(land, "acme", "ROOT/customers/acme")
    known = {api["name"] for api in user("listApis")["api"]}
    assert "startVirtualMachine" in known
    assert not known & {"listHosts", "importVolume", "listStoragePools"}


def test_only_an_administrator_finds_a_user_by_its_key(land, ask):
    user = owner(land, "acme", "ROOT/customers/acme")
    found = ask("getUser", userapikey=user.keys.api_key)["user"]
    assert found["account"] == "acme"
    assert "secretkey" not in found
    (me,) = user("listUsers")["user"]
    assert (me["account"], me["accounttype"]) == ("acme", 0)


def test_tenants_are_made_through_the_api(simulator, ask):
    domain = ask("createDomain", name="new")["domain"]
    made = ask(
        "createAccount", username="n", password="p", email="e@x", firstname="f", lastname="l",
        accounttype=0, domainid=domain["id"],
    )["account"]  # fmt: skip
    (user,) = made["user"]
    keys = ask("registerUserKeys", id=user["id"])["userkeys"]
    new = Asker(simulator, Keys(keys["apikey"], keys["secretkey"]))
    assert new("listAccounts")["account"][0]["domainpath"] == "ROOT/new"
    project = new.run("createProject", name="p1", displaytext="x")["project"]
    assert project["domain"] == "new"
