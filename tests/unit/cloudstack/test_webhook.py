"""A message counts only with its signature, and then as a hint."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.cloudstack import webhook
from sendense.errors import Rejected
from sendense.model.secret import Secret

SECRET = Secret("shared")
VM = "915653c4-298b-4d74-bdee-4ced282114f1"


def signed(body, secret=b"shared"):
    return base64.b64encode(hmac.new(secret, body, hashlib.sha256).digest()).decode()


def test_the_right_signature():
    body = b'{"event": "VM.START"}'
    assert webhook.check_signature(body, signed(body), SECRET)


@pytest.mark.parametrize(
    "header",
    ["", "x", signed(b"other"), signed(b"{}", b"else"), signed(b"{}")[:-1], "\u00e9" * 44],
)
def test_a_wrong_signature(header):
    assert not webhook.check_signature(b"{}", header, SECRET)


def test_no_secret_is_no_signature():
    assert not webhook.check_signature(b"{}", signed(b"{}", b""), Secret(""))


def test_an_event_of_an_instance():
    body = json.dumps(
        {
            "eventDateTime": "2026-01-02 03:04:05 +0000",
            "entityuuid": VM.upper(),
            "entity": "com.cloud.vm.VirtualMachine",
            "status": "Completed",
            "event": "VM.STOP",
        }
    ).encode()
    hint = webhook.parse(body, {"x-cs-event": "VM.STOP", "X-CS-Event-ID": "e1"})
    assert hint == webhook.WebhookHint("VM.STOP", "e1", (VM,), VM, "Completed")
    assert hint.of_instances
    assert not hint.of_hosts


def test_an_event_of_a_volume_names_its_instance_where_it_is_told():
    body = json.dumps({"VirtualMachine": VM, "entityuuid": "x", "event": "VOLUME.ATTACH"}).encode()
    hint = webhook.parse(body, {})
    assert (hint.event, hint.instance_ids, hint.object_id) == ("VOLUME.ATTACH", (VM,), "")
    assert hint.of_instances


def test_plain_text_with_its_headers_is_enough():
    hint = webhook.parse(b"Successfully stopped", {"X-CS-Event": "HOST.RECONNECT"})
    assert hint.of_hosts


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b"[" * 50_000])
def test_no_event(body):
    with pytest.raises(Rejected):
        webhook.parse(body, {})


def test_too_much():
    with pytest.raises(Rejected, match="larger"):
        webhook.parse(b" " * (webhook.MAX_BODY + 1), {"X-CS-Event": "VM.STOP"})


@given(st.binary(max_size=200), st.text(max_size=20))
def test_no_bytes_are_too_odd(body, event):
    try:
        webhook.parse(body, {webhook.EVENT: event})
    except Rejected:
        assert not event


@given(st.dictionaries(st.text(max_size=10), st.integers() | st.text(max_size=40) | st.none()))
def test_no_fields_are_too_odd(fields):
    webhook.parse(json.dumps(fields).encode(), {webhook.EVENT: "VM.START"})
