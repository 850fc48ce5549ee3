"""What can go wrong on the way: a client has to be tried against each of these."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.unit.simulator.asking import Refused


def test_down_and_up_again_on_the_same_port(simulator, ask):
    url = simulator.url
    simulator.down()
    with pytest.raises(ConnectionRefusedError):
        ask("listZones")
    simulator.up()
    assert simulator.url == url
    assert ask("listZones")["count"] == 1


def test_a_restart_answers_at_once(simulator, ask):
    for _ in range(20):
        simulator.restart()
        assert ask("listZones")["count"] == 1


def test_open_connections_end_when_it_goes_down(simulator, ask):
    parts = urlsplit(simulator.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=120)
    connection.request("GET", parts.path)
    connection.getresponse().read()
    simulator.down()
    with pytest.raises((http.client.HTTPException, OSError)):
        ask_again(connection, parts.path)
    connection.close()


def ask_again(connection, path):
    connection.request("GET", path)
    connection.getresponse()


def test_half_an_answer(simulator, ask):
    fault = simulator.faults.half_written(command="listZones")
    assert ask("listHosts")["count"] == 2
    with pytest.raises(http.client.IncompleteRead):
        ask("listZones")
    assert ask("listZones")["count"] == 1
    assert fault.hits == 1


def test_no_answer_although_it_was_done(simulator, ask):
    simulator.faults.reset(command="createDomain")
    with pytest.raises((http.client.HTTPException, OSError)):
        ask("createDomain", name="made")
    assert {row["name"] for row in ask("listDomains", listall="true")["domain"]} == {"ROOT", "made"}


def test_a_page_of_a_proxy(simulator, ask):
    simulator.faults.html(after=1, status=503)
    assert ask("listZones")["count"] == 1
    answer = ask.send(ask.signed("listZones"))
    assert (answer.status, answer.headers["Content-Type"]) == (503, "text/html")
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.data)


def test_throttled(simulator, ask):
    simulator.faults.throttle(2)
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            ask("listZones")
        assert (caught.value.code, caught.value.status) == (429, 429)
    assert ask("listZones")["count"] == 1


def test_an_error_of_choice(simulator, ask):
    simulator.faults.error(530, "database is gone", command="listZones")
    with pytest.raises(Refused, match="database is gone"):
        ask("listZones")


def test_slow_until_it_is_mended(simulator, ask):
    simulator.faults.slow(30, command="listZones")
    with pytest.raises(TimeoutError):
        ask.send(ask.signed("listZones"), timeout=0.05)
    simulator.faults.clear()
    assert ask("listZones")["count"] == 1


def test_rows_come_and_go_while_somebody_pages(simulator, ask):
    made = simulator.fill(4)
    simulator.faults.before("listVirtualMachines", lambda: simulator.expunge(made[0]), after=1)
    first = ask("listVirtualMachines", page=1, pagesize=2)
    second = ask("listVirtualMachines", page=2, pagesize=2)
    assert (first["count"], second["count"]) == (4, 3)
    seen = [vm["id"] for page in (first, second) for vm in page["virtualmachine"]]
    assert made[2].id not in seen
    simulator.faults.before("listVirtualMachines", lambda: simulator.add_instance("new"))
    assert ask("listVirtualMachines")["count"] == 4


def test_ten_thousand_instances(simulator, ask):
    simulator.fill(10_000)
    seen, page = set(), 1
    while rows := ask(
        "listVirtualMachines", listall="true", page=page, pagesize=500, details="nics,tmpl,servoff"
    ).get("virtualmachine"):
        seen |= {row["id"] for row in rows}
        page += 1
    assert len(seen) == 10_000


def test_the_program_for_people():
    command = [sys.executable, "-m", "sendense_lab.simulator", "--instances", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        lines = [process.stdout.readline().strip() for _ in range(4)]
    finally:
        process.terminate()
        process.communicate(timeout=120)
    assert lines[0] == "[cloudstack]"
    assert [line.split(" = ")[0] for line in lines[1:]] == ["endpoint", "key", "secret"]
    assert process.returncode == 0
