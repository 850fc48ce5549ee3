"""Answers come out of their envelopes; what is none says what it is, and shows nothing of it."""

import json
from datetime import UTC, datetime

import pytest

from sendense.cloudstack import answers
from sendense.cloudstack.answers import Nonsense, Refused


def body(value):
    return json.dumps(value).encode()


def test_the_key_need_not_be_that_of_the_command():
    assert answers.read(200, body({"listVirtualMachines": {"count": 1}})) == {"count": 1}


def test_one_of_several_keys_is_the_envelope():
    assert answers.read(200, body({"cookie": "x", "listzonesresponse": {"a": 1}})) == {"a": 1}


def test_bare_control_characters():
    raw = b'{"listvolumesresponse":{"volume":[{"name":"a\x01\tb\nc"}]}}'
    assert answers.read(200, raw) == {"volume": [{"name": "a\x01\tb\nc"}]}


def test_bytes_that_are_no_utf_8_stop_nothing():
    assert answers.read(200, b'{"xresponse":{"name":"a\xff"}}') == {"name": "a\ufffd"}


def test_letters_that_no_database_takes():
    raw = rb'{"xresponse":{"vm":[{"name":"a\ud800b\u0000c","\udfff":"\ud83d\ude00"}]}}'
    assert answers.read(200, raw) == {"vm": [{"name": "a\ufffdb\ufffdc", "\ufffd": "\U0001f600"}]}
    assert answers.read(200, b'{"xresponse":{"name":"a\0"}}') == {"name": "a\ufffd"}


@pytest.mark.parametrize("status", [200, 401, 431, 500, 530])
def test_the_body_says_what_the_status_may_not(status):
    refused = {"listhostsresponse": {"errorcode": 432, "errortext": " no ", "cserrorcode": 9999}}
    assert answers.read(status, body(refused)) == Refused(432, "no")


def test_a_bare_status_of_cloudstack_with_its_header():
    assert answers.read(432, b"", "not for you") == Refused(432, "not for you")


@pytest.mark.parametrize(
    ("status", "raw", "seen"),
    [
        (502, b"<html><head><title>502 Bad\n Gateway</title>", "a web page, '502 Bad Gateway'"),
        (200, b'<?xml version="1.0"?><x/>', "a web page or XML"),
        (200, b"", "no content"),
        (200, b'{"xresponse":{"password":"hunter2', "cut off or damaged"),
        (200, b'{"a":{},"b":{}}', "without CloudStack's envelope"),
        (200, b"[1]", "without CloudStack's envelope"),
        (200, b'{"xresponse":7}', "without CloudStack's envelope"),
        (200, b"[" * 100_000, "JSON"),
        (200, b"hello", "5 bytes that are no JSON"),
        (503, b'{"xresponse":{}}', "HTTP status 503"),
        (401, b"<html>proxy</html>", "a web page or XML"),
    ],
)
def test_nonsense(status, raw, seen):
    with pytest.raises(Nonsense, match=seen) as error:
        answers.read(status, raw)
    assert "hunter2" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("answer", "key", "expected"),
    [
        ({}, "virtualmachine", []),
        ({"count": 7}, "virtualmachine", []),
        ({"count": 1, "vmSnapshot": [{"id": "a"}]}, "vmsnapshot", [{"id": "a"}]),
        ({"count": 1, "host": {}}, "host", []),
        ({"capability": {"x": 1}}, "capability", [{"x": 1}]),
        ({"list": [1, None, {"id": "a"}]}, None, [{"id": "a"}]),
    ],
)
def test_rows(answer, key, expected):
    assert answers.rows(answer, key) == expected


def test_words_of_all_kinds():
    assert answers.flag("TRUE")
    assert answers.flag(True)
    assert not answers.flag("false")
    assert not answers.flag(None)
    assert answers.number("12") == 12
    assert answers.number("12.7") == 12
    assert answers.number("Unlimited") == 0
    assert answers.number(None) == 0
    assert answers.number(float("inf")) == 0
    found = answers.moment("2021-10-04T15:24:38+0600")
    assert found == datetime(2021, 10, 4, 9, 24, 38, tzinfo=UTC)
    assert answers.moment("yesterday") is None
    assert answers.moment(None) is None
