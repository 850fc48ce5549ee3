"""Who is let in, and how the others are told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sendense_lab.simulator import Keys, signing
from sendense_lab.simulator.records import User
from tests.unit.simulator.asking import Asker, Refused, account, admin

FIXED = "unable to verify user credentials and/or request signature"


def refusal(ask, command, **params):
    with pytest.raises(Refused) as caught:
        ask(command, **params)
    return caught.value


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_get_and_post_are_equal(ask, method):
    assert ask("listZones", method=method)["count"] == 1


def test_all_that_is_wrong_with_a_sender_has_one_text(simulator, ask):
    wrong = [
        Asker(simulator, Keys(ask.keys.api_key, "another")),
        Asker(simulator, Keys("nobody", ask.keys.secret)),
    ]
    texts = {refusal(one, "listZones").text for one in wrong}
    texts.add(refusal(ask, "noSuchCommand").text)
    texts.add(refusal(ask, "listZones", signatureVersion="3").text)
    past = signing.instant(simulator.world.now() - timedelta(seconds=5))
    texts.add(refusal(ask, "listZones", signatureVersion="3", expires=past).text)
    assert texts == {FIXED}


def test_an_unknown_command_has_no_envelope_of_its_own(ask):
    answer = ask.send(ask.signed("noSuchCommand"))
    assert (answer.status, list(answer.document)) == (401, ["errorresponse"])


def test_no_key_at_all_is_refused(ask):
    answer = ask.send({"command": "listZones", "response": "json"})
    assert answer.status == 401


def test_a_signature_with_time_holds_by_the_clock_of_the_server(simulator, ask):
    soon = signing.instant(simulator.world.now() + timedelta(minutes=5))
    assert ask("listZones", signatureVersion="3", expires=soon)["count"] == 1
    simulator.clock_skew_s = 3600
    assert refusal(ask, "listZones", signatureVersion="3", expires=soon).status == 401


@pytest.mark.parametrize("what", ["user", "account", "access", "key"])
def test_somebody_who_is_switched_off_is_refused(simulator, what):
    acme = account(simulator, "acme")
    world, row = simulator.world, simulator.account("acme")
    user = world.named(User, "acme")
    if what == "user":
        user.state = "disabled"
    elif what == "account":
        row.state = "locked"
    elif what == "access":
        user.api_access = "disabled"
    else:
        world.key(acme.keys.api_key).ends = world.now() - timedelta(days=1)
    assert refusal(acme, "listZones").text == FIXED


def test_a_known_command_that_a_role_lacks_is_told_apart(simulator):
    acme = account(simulator, "acme")
    refused = refusal(acme, "listHosts")
    assert (refused.status, refused.code) == (432, 432)
    assert "does not exist or is not available for the account" in refused.text
    assert refused.headers["X-Description"] == refused.text


def test_a_parameter_sent_twice_is_signed_by_its_first_and_read_by_its_last(ask, simulator):
    hosts = ask("listHosts")["host"]
    params = ask.signed("listHosts", id=hosts[0]["id"])
    answer = ask.send([*params.items(), ("id", hosts[1]["id"])])
    assert [host["id"] for host in answer.document["listhostsresponse"]["host"]] == [hosts[1]["id"]]


def test_enforced_posts_and_times(make):
    simulator = make("4.22", settings={"enforce.post.requests.and.timestamps": "true"})
    ask = admin(simulator)
    soon = signing.instant(simulator.world.now() + timedelta(minutes=5))
    far = signing.instant(simulator.world.now() + timedelta(minutes=30))
    assert refusal(ask, "listZones").status == 401
    assert refusal(ask, "listZones", signatureVersion="3", expires=far).status == 401
    stamped = {"signatureVersion": "3", "expires": soon}
    assert ask("listZones", method="GET", **stamped)["count"] == 1
    assert refusal(ask, "createDomain", method="GET", name="d", **stamped).status == 401
    assert ask("createDomain", name="d", **stamped)["domain"]["path"] == "ROOT/d"


def test_what_is_enforced_is_read_at_the_start(make):
    simulator = make("4.22")
    ask = admin(simulator)
    ask("updateConfiguration", name="enforce.post.requests.and.timestamps", value="true")
    assert ask("listZones")["count"] == 1
    simulator.restart()
    assert refusal(ask, "listZones").status == 401


def test_older_versions_enforce_nothing(make):
    simulator = make("4.20", settings={"enforce.post.requests.and.timestamps": "true"})
    assert admin(simulator)("listZones")["count"] == 1


def test_throttling_by_setting(make):
    simulator = make(settings={"api.throttling.enabled": "true", "api.throttling.interval": "3600"})
    ask = admin(simulator)
    for _ in range(25):
        ask("listZones")
    assert (refusal(ask, "listZones").code, refusal(ask, "listZones").status) == (429, 429)


def test_several_keys_with_rules_of_their_own(make):
    simulator = make("4.23")
    ask = admin(simulator)
    user = ask("listUsers")["user"][0]["id"]
    given = ask(
        "registerUserKeys", id=user, name="backup",
        **{"rules[0].rule": "listZones", "rules[0].permission": "allow",
           "rules[1].rule": "*", "rules[1].permission": "deny"},
    )["userkeys"]  # fmt: skip
    narrow = Asker(simulator, Keys(given["apikey"], given["secretkey"]))
    assert narrow("listZones")["count"] == 1
    assert refusal(narrow, "listHosts").code == 432
    assert ask("listHosts")["count"] == 2


def test_a_new_key_takes_the_place_of_the_old_one(simulator, ask):
    user = ask("listUsers")["user"][0]["id"]
    given = ask("registerUserKeys", id=user)["userkeys"]
    assert Asker(simulator, Keys(given["apikey"], given["secretkey"]))("listZones")["count"] == 1
    assert refusal(ask, "listZones").status == 401
