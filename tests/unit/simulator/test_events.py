"""Events, and webhooks that tell of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sendense_lab.simulator.records import Webhook
from tests.unit.simulator.asking import WAIT_S, Refused, account, admin


class Receiver:
    """Takes what is posted to it."""

    def __init__(self, status=200):
        self.status = status
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.came:
                    receiver.got.append((dict(self.headers), body))
                    receiver.came.notify_all()
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def wait(self, count):
        with self.came:
            assert self.came.wait_for(lambda: len(self.got) >= count, WAIT_S), self.got
            return list(self.got)

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver():
    it = Receiver()
    yield it
    it.close()


def test_a_job_is_told_of_as_it_goes(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    ask.run("startVirtualMachine", id=vm.id)
    rows = ask("listEvents", type="VM.START")["event"]
    assert [row["state"] for row in rows] == ["Completed", "Started", "Scheduled"]
    assert {row["resourceid"] for row in rows} == {vm.id}
    assert rows[0]["parentid"] == rows[1]["id"]
    wanted = {
        "id", "type", "level", "description", "username", "account", "domainid", "domain",
        "resourceid", "resourcetype", "created", "state", "archived",
    }  # fmt: skip
    assert wanted <= rows[0].keys()
    simulator.machines.failing["stop"] = "no"
    with pytest.raises(Refused):
        ask.run("stopVirtualMachine", id=vm.id)
    assert ask("listEvents", type="VM.STOP", level="ERROR")["count"] == 1


def test_filters_of_events(simulator, ask):
    one, other = simulator.add_instance("one"), simulator.add_instance("other")
    assert ask("listEvents", resourceid=one.id)["count"] == 1
    assert ask("listEvents", keyword=other.id)["count"] == 1
    assert ask("listEvents", startdate="2000-01-01")["count"] == 2
    assert ask("listEvents", enddate="2000-01-01 00:00:00") == {}
    assert ask("listEvents", page=1, pagesize=1)["event"][0]["resourceid"] == other.id
    with pytest.raises(Refused):
        ask("listEvents", startdate="yesterday")
    simulator.events.purge()
    assert ask("listEvents") == {}


def test_owners_see_their_events(simulator, ask):
    acme = account(simulator, "acme")
    simulator.add_instance("mine", account=simulator.account("acme"))
    simulator.add_instance("other")
    assert acme("listEvents", listall="true")["count"] == 1
    assert ask("listEvents")["count"] == 1
    assert ask("listEvents", listall="true")["count"] == 2


def test_a_delivery(simulator, ask, receiver):
    hook = ask(
        "createWebhook", name="sendense", payloadurl=receiver.url, scope="Global",
        secretkey="s3cret",
    )["webhook"]  # fmt: skip
    assert (hook["state"], hook["scope"], hook["sslverification"]) == ("Enabled", "Global", False)
    vm = simulator.add_instance("vm1")
    ((headers, body),) = receiver.wait(1)
    told = json.loads(body)
    assert (told["event"], told["entityuuid"]) == ("VM.CREATE", vm.id)
    assert headers["X-CS-Event"] == "VM.CREATE"
    assert headers["X-CS-Event-ID"]
    assert headers["User-Agent"] == f"CS-Hookshot/{simulator.account('admin').id}"
    mac = hmac.new(b"s3cret", body, hashlib.sha256).digest()
    assert headers["X-CS-Signature"] == base64.b64encode(mac).decode()


def test_without_a_secret_nothing_is_signed(simulator, ask, receiver):
    ask("createWebhook", name="plain", payloadurl=receiver.url)
    simulator.add_instance("vm1")
    ((headers, _),) = receiver.wait(1)
    assert "X-CS-Signature" not in headers


def test_only_200_is_a_success(simulator, ask, receiver):
    receiver.status = 204
    ask("createWebhook", name="h", payloadurl=receiver.url)
    simulator.add_instance("vm1")
    assert len(receiver.wait(3)) == 3
    with simulator.world.changed:
        assert simulator.world.changed.wait_for(lambda: len(simulator.webhooks.sent) == 3, WAIT_S)
    assert [one.status for one in simulator.webhooks.sent] == [204] * 3


def test_lost_doubled_and_forged(simulator, ask, receiver):
    simulator.faults.lose_webhooks = 1
    hook = ask("createWebhook", name="h", payloadurl=receiver.url, secretkey="right")["webhook"]
    simulator.add_instance("lost")
    vm = simulator.add_instance("seen")
    assert json.loads(receiver.wait(1)[0][1])["entityuuid"] == vm.id
    simulator.faults.duplicate_webhooks = 1
    simulator.add_instance("double")
    bodies = [body for _, body in receiver.wait(3)[1:]]
    assert bodies[0] == bodies[1]
    row = simulator.world.get(Webhook, hook["id"])
    assert simulator.webhooks.forge(row, b'{"event":"VM.STOP"}') == 200
    headers, body = receiver.wait(4)[3]
    mac = hmac.new(b"right", body, hashlib.sha256).digest()
    assert headers["X-CS-Signature"] != base64.b64encode(mac).decode()


def test_whose_events_a_webhook_hears(simulator, ask, receiver):
    acme = account(simulator, "acme")
    acme("createWebhook", name="h", payloadurl=receiver.url)
    simulator.add_instance("other")
    vm = simulator.add_instance("mine", account=simulator.account("acme"))
    assert json.loads(receiver.wait(1)[0][1])["entityuuid"] == vm.id
    with pytest.raises(Refused) as caught:
        acme("createWebhook", name="g", payloadurl=receiver.url, scope="Global")
    assert caught.value.code == 531
    assert acme("listWebhooks")["count"] == 1
    assert ask("listWebhooks") == {}


def test_switched_off_and_deleted(simulator, ask, receiver):
    hook = ask("createWebhook", name="h", payloadurl=receiver.url)["webhook"]["id"]
    ask("updateWebhook", id=hook, state="Disabled")
    simulator.add_instance("unheard")
    ask("updateWebhook", id=hook, state="Enabled")
    vm = simulator.add_instance("heard")
    assert json.loads(receiver.wait(1)[0][1])["entityuuid"] == vm.id
    assert ask("deleteWebhook", id=hook) == {"success": True}
    assert ask("listWebhooks") == {}


def test_a_webhook_that_nobody_hears_holds_nothing_up(make):
    simulator = make()
    ask = admin(simulator)
    ask("createWebhook", name="h", payloadurl="http://127.0.0.1:9/closed")
    vm = simulator.add_instance("vm1", running=False)
    assert ask.run("startVirtualMachine", id=vm.id)["virtualmachine"]["state"] == "Running"
    for url in ("ftp://x/", "nonsense"):
        with pytest.raises(Refused):
            ask("createWebhook", name="bad", payloadurl=url)
