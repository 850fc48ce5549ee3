"""Signatures: known vectors, and how long they hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense_lab.simulator import signing

VECTORS = [
    (
        "fnord",
        "abracadabra",
        {"command": "listVirtualMachines", "response": "json"},
        "z/a9Y7J52u48VpqIgiwaGUMCso0=",
    ),
    (
        "fnord",
        "abracadabra",
        {
            "command": "deployVirtualMachine", "name": "fred", "displayname": "George+Ringo",
            "serviceofferingid": "5", "templateid": "17", "zoneid": "23", "networkids": "42",
            "response": "json",
        },
        "tAgfrreI1ZvWlWLClD3gu4+aKv4=",
    ),
    (
        "AK",
        "SK",
        {
            "command": "updateVirtualMachine", "response": "json", "id": "x",
            "displayname": "Café ~ a*b [c] +1/2", "details[0].k": "v", "signatureVersion": "3",
            "expires": "2030-01-02T03:04:05+0000",
        },
        "kRjGFfAH3PxP/NsMN3VFb5KYABk=",
    ),
]  # fmt: skip
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(("key", "secret", "params", "wanted"), VECTORS)
def test_vectors(key, secret, params, wanted):
    signed = signing.signed(params, key, secret)
    assert signed["signature"] == wanted
    assert signing.is_signed_by(signed, wanted, secret)
    assert not signing.is_signed_by(signed, wanted, secret + "x")


def test_names_are_sorted_as_they_were_sent():
    text = signing.text_to_sign({"b": "1", "B": "2", "a": "3"})
    assert text == "b=2&a=3&b=1"


@given(st.dictionaries(st.sampled_from(["a", "Command", "details[0].k"]), st.text(max_size=9)))
def test_a_changed_value_is_another_signature(params):
    params = {**params, "x": "1"}
    sign = signing.signature(params, "s")
    assert not signing.is_signed_by({**params, "x": "2"}, sign, "s")


def at(moment, **more):
    return {"signatureVersion": "3", "expires": moment, **more}


@pytest.mark.parametrize(
    ("params", "held"),
    [
        ({}, True),
        ({"signatureVersion": "3"}, False),
        (at("2026-03-04T05:06:08+0000"), True),
        (at("2026-03-04T05:06:06+0000"), False),
        (at("2026-03-04T07:06:08+0200"), True),
        (at("2026-03-04T07:06:06+0200"), False),
        (at("2026-03-04T05:06:08"), False),
        (at("2026-03-04T05:06:08Z"), False),
        (at("2026-03-04T05:06:08+00:00"), False),
        (at("tomorrow"), False),
        ({"signatureversion": "3", "Expires": "2026-03-04T05:06:08+0000"}, True),
    ],
)
def test_how_long_a_signature_holds(params, held):
    assert signing.in_time(params, NOW) is held


@pytest.mark.parametrize("text", ["2026-03-04T05:06:08Z", "2026-03-04T05:06:08.250+0000"])
def test_newer_versions_read_instants(text):
    assert signing.in_time(at(text), NOW, instants=True)
    assert not signing.in_time(at(text), NOW)


@pytest.mark.parametrize(("ahead", "held"), [(14, True), (16, False)])
def test_enforced_time_stamps_are_near(ahead, held):
    moment = signing.instant(NOW + timedelta(minutes=ahead))
    assert signing.in_time(at(moment), NOW, enforced=True) is held
    assert signing.in_time(at(moment), NOW)
    assert not signing.in_time({}, NOW, enforced=True)
