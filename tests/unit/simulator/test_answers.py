"""Envelopes, pages, dates, odd texts, errors."""

from __future__ import annotations

import http.client
import json
import re
import xml.etree.ElementTree as ET
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest

from sendense_lab.simulator import signing
from sendense_lab.simulator.errors import ApiError, masked
from tests.unit.simulator.asking import Refused, account, admin


def refused(ask, command, **params):
    with pytest.raises(Refused) as caught:
        ask(command, **params)
    return caught.value


def test_an_empty_list_is_an_empty_object(ask):
    assert ask("listVirtualMachines", listall="true") == {}


def test_a_page_past_the_end_has_a_count_and_no_list(simulator, ask):
    simulator.add_instance("vm1", running=False)
    assert ask("listVirtualMachines", page=2, pagesize=10) == {"count": 1}


def test_pages_hold_all_rows_once(simulator, ask):
    made = simulator.fill(7)
    pages = [
        ask("listVirtualMachines", page=number, pagesize=3)["virtualmachine"]
        for number in (1, 2, 3)
    ]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [vm["id"] for page in pages for vm in page] == [vm.id for vm in made]


@pytest.mark.parametrize(
    "paging",
    [
        {"page": 1},
        {"pagesize": 10},
        {"page": 1, "pagesize": 501},
        {"page": 0, "pagesize": 10},
        {"page": 1, "pagesize": 0},
        {"page": "x", "pagesize": 10},
        {"page": 1, "pagesize": -1},
    ],
)
def test_bad_pages(ask, paging):
    error = refused(ask, "listVirtualMachines", **paging)
    assert (error.code, error.status) == (431, 431)


def test_without_a_page_as_many_come_as_the_server_gives(make):
    simulator = make(settings={"default.page.size": "3"})
    simulator.fill(5)
    answer = admin(simulator)("listVirtualMachines")
    assert (answer["count"], len(answer["virtualmachine"])) == (5, 3)


@pytest.mark.parametrize("key", ["no-uuid", "7d0b8a5e-0000-4000-8000-000000000000"])
def test_an_unknown_id_is_refused_as_a_malformed_one_is(ask, key):
    error = refused(ask, "listVirtualMachines", id=key)
    assert (error.code, error.body["cserrorcode"]) == (431, 4350)
    assert "entity does not exist" in error.text


def test_a_required_parameter(ask):
    assert "missing parameter id" in refused(ask, "startVirtualMachine").text


def test_control_characters_in_values_are_refused(ask):
    assert refused(ask, "createDomain", name="a\x07b").code == 431


def test_control_characters_of_the_database_come_out_as_they_are(simulator, ask):
    text = 'bell \x07 tab \t line \n quote " back \\ end'
    simulator.add_instance("vm1", running=False, display_name=text)
    answer = ask.send(ask.signed("listVirtualMachines"))
    assert b"\x07" in answer.data
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.data)
    (vm,) = answer.document["listvirtualmachinesresponse"]["virtualmachine"]
    assert vm["displayname"] == text


def test_xml_is_the_default(ask, simulator):
    simulator.add_instance("a&b", running=False)
    params = ask.signed("listVirtualMachines")
    plain = signing.signed({"command": params["command"]}, *ask.keys)
    answer = ask.send(plain)
    assert answer.headers["Content-Type"].startswith("text/xml")
    root = ET.fromstring(answer.data)  # noqa: S314 - our own
    assert root.tag == "listvirtualmachinesresponse"
    assert [vm.findtext("name") for vm in root.iter("virtualmachine")] == ["a&b"]


def test_dates_have_no_colon_in_their_offset_and_nothing_is_null(simulator, ask):
    simulator.add_instance("vm1", disks=(1 << 30,))
    text = json.dumps([
        ask(command, **({"templatefilter": "all"} if command == "listTemplates" else {}))
        for command in (
            "listVirtualMachines", "listVolumes", "listHosts", "listStoragePools", "listEvents",
            "listNetworks", "listTemplates", "listServiceOfferings", "listDiskOfferings",
            "listAccounts", "listUsers", "listDomains", "listZones", "listRoles",
        )
    ])  # fmt: skip
    assert "null" not in text
    dates = re.findall(r'"(\d{4}-\d\d-\d\dT[^"]*)"', text)
    assert dates
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+0000", date) for date in dates)


def test_details_are_text(simulator, ask):
    simulator.add_instance("vm1", running=False, details={"cpuNumber": "2", "memory": "512"})
    (vm,) = ask("listVirtualMachines")["virtualmachine"]
    assert vm["details"] == {"cpuNumber": "2", "memory": "512"}


def test_the_date_header_is_the_servers_clock(simulator, ask):
    simulator.clock_skew_s = -900
    answer = ask.send(ask.signed("listZones"))
    ahead = parsedate_to_datetime(answer.headers["Date"]) - simulator.world.now()
    assert abs(ahead.total_seconds()) < 120


def test_single_objects_and_irregular_names(simulator, ask):
    assert list(ask("createDomain", name="d")) == ["domain"]
    vm = simulator.add_instance("vm1")
    result = ask.run("createVMSnapshot", virtualmachineid=vm.id, snapshotmemory="true")
    assert list(result) == ["vmsnapshot"]
    assert ask("listVMSnapshot")["vmSnapshot"][0]["type"] == "DiskAndMemory"
    assert ask("listAsyncJobs")["count"] == len(ask("listAsyncJobs")["asyncjobs"])
    pool = ask("listStoragePools")["storagepool"][0]["id"]
    answer = ask.send(ask.signed("cancelStorageMaintenance", id=pool))
    assert list(answer.document) == ["cancelprimarystoragemaintenanceresponse"]


@pytest.mark.parametrize(("version", "value"), [("4.18", "true"), ("4.20", True)])
def test_success_is_a_word_in_older_versions(make, version, value):
    ask = admin(make(version))
    role = ask("createRole", name="r", type="User")["role"]["id"]
    assert ask("deleteRole", id=role) == {"success": value}


def test_failures_inside_are_masked_for_who_is_no_root_administrator(simulator, ask):
    acme = account(simulator, "acme")
    simulator.machines.failing["start"] = "qemu: secret path"
    vm = simulator.add_instance("vm1", account=simulator.account("acme"), running=False)
    with pytest.raises(Refused, match="secret path"):
        ask.run("startVirtualMachine", id=vm.id)
    with pytest.raises(Refused) as caught:
        acme.run("startVirtualMachine", id=vm.id)
    assert caught.value.code == 534
    assert "secret" not in caught.value.text
    assert vm.state == "Stopped"


@pytest.mark.parametrize(("code", "hidden"), [(530, True), (533, True), (534, True), (431, False)])
def test_what_is_masked(code, hidden):
    assert (masked(ApiError(code, "reason")).text != "reason") is hidden


def test_a_failed_machine_is_530(simulator, ask):
    vm = simulator.add_instance("vm1")
    simulator.machines.failing["reboot"] = "no answer"
    job = ask.wait(ask("rebootVirtualMachine", id=vm.id)["jobid"])
    assert (job["jobstatus"], job["jobresultcode"]) == (2, 530)
    assert job["jobresult"] == {"errorcode": 530, "errortext": "no answer"}


def test_what_breaks_is_answered(simulator, ask):
    simulator.world.settings["default.page.size"] = "no number"
    assert refused(ask, "listVirtualMachines").code == 530


def test_only_the_api_is_there(simulator):
    connection = http.client.HTTPConnection(urlsplit(simulator.url).netloc, timeout=30)
    connection.request("GET", "/")
    assert connection.getresponse().status == 404
    connection.close()
