"""Signatures are those that CloudStack computes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sendense.cloudstack import signing
from sendense.model.secret import Secret


@pytest.mark.parametrize(
    ("key", "secret", "fields", "expected"),
    [
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
                "command": "deployVirtualMachine",
                "name": "fred",
                "displayname": "George+Ringo",
                "serviceofferingid": "5",
                "templateid": "17",
                "zoneid": "23",
                "networkids": "42",
                "response": "json",
            },
            "tAgfrreI1ZvWlWLClD3gu4+aKv4=",
        ),
        (
            "AK",
            "SK",
            {
                "command": "updateVirtualMachine",
                "response": "json",
                "id": "x",
                "displayname": "Café ~ a*b [c] +1/2",
                "details[0].k": "v",
                "signatureVersion": "3",
                "expires": "2030-01-02T03:04:05+0000",
            },
            "kRjGFfAH3PxP/NsMN3VFb5KYABk=",
        ),
    ],
)
def test_vector(key, secret, fields, expected):
    assert signing.signature({**fields, "apiKey": key}, Secret(secret)) == expected


def test_the_whole_form_is_the_third_vector():
    """The same through what every request goes through, with a map and a clock."""
    found = signing.signed(
        "updateVirtualMachine",
        {"id": "x", "displayname": "Café ~ a*b [c] +1/2", "details": {"k": "v"}},
        "AK",
        Secret("SK"),
        now=datetime(2030, 1, 2, 2, 54, 5, tzinfo=UTC),
    )
    assert found == {
        "apiKey": "AK",
        "command": "updateVirtualMachine",
        "response": "json",
        "id": "x",
        "displayname": "Café ~ a*b [c] +1/2",
        "details[0].k": "v",
        "signatureVersion": "3",
        "expires": "2030-01-02T03:04:05+0000",
        "signature": "kRjGFfAH3PxP/NsMN3VFb5KYABk=",
    }


def test_a_moment_of_another_zone_is_written_in_utc():
    there = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2030, 1, 2, 8, 24, 5, tzinfo=there)
    assert signing.expires(moment) == "2030-01-02T03:04:05+0000"


def test_parameters_of_all_kinds():
    assert signing.form(
        {
            "absent": None,
            "yes": True,
            "number": 7,
            "words": ["a", "b"],
            "chosen": {"b", "a"},
            "details": {"one": True, "none": None, "hidden": Secret("s")},
            "nics": [{"ip": "10.0.0.1", "networkid": "n"}, {"networkid": "m"}],
            "userdata": Secret("aGk="),
            "empty": [],
        }
    ) == {
        "yes": "true",
        "number": "7",
        "words": "a,b",
        "chosen": "a,b",
        "details[0].one": "true",
        "details[0].hidden": "s",
        "nics[0].ip": "10.0.0.1",
        "nics[0].networkid": "n",
        "nics[1].networkid": "m",
        "userdata": "aGk=",
    }
