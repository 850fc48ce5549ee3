"""The client against a real HTTP server that answers as no good server would, and as a busy one."""

import json
import logging
import threading
from urllib.parse import urlencode

import pytest

from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.refusals import Lost
from sendense.cloudstack.signing import signature
from sendense.cloudstack.transport import Limits
from sendense.errors import (
    Busy,
    NotAllowed,
    Rejected,
    SendenseError,
    Unavailable,
    Unsupported,
)
from sendense.model.secret import Secret
from tests.support.raw_cloud import Raw, refused

SECRET = Secret("very-secret-key")
QUICK = Limits(per_second=1000, connect_s=10, silent_s=20)


def after(times, first, then):
    """Answer with ``first`` so many times, then with ``then``."""
    left = [times]

    def answer(form):
        left[0] -= 1
        found = first if left[0] >= 0 else then
        return found(form) if callable(found) else found

    return answer


def test_a_request_is_a_signed_form(serve):
    cloud, client = serve(lambda form: {"count": 0})
    assert client.call("listZones", keyword="a~b*c d", available=True) == {"count": 0}
    [form] = cloud.asked
    assert cloud.methods == ["POST"]
    theirs = form.pop("signature")
    assert theirs == signature(form, SECRET)
    assert form["signatureVersion"] == "3"
    assert form["available"] == "true"


@pytest.mark.parametrize(
    "raw",
    [
        Raw(b"<html><title>Bad Gateway</title>", status=502),
        Raw(b'{"listzonesresponse": {"zone": [{"na', length=1000),
        Raw(b'{"listzonesresponse": {"zone": [{"na'),
        Raw(silent=True),
        Raw(b"{}"),
        Raw(b"", status=503),
    ],
)
def test_what_only_reads_is_asked_again(serve, raw):
    cloud, client = serve(after(1, raw, {"count": 1, "zone": [{"id": "z"}]}))
    assert client.call("listZones")["zone"] == [{"id": "z"}]
    assert len(cloud.asked) == 2


@pytest.mark.parametrize(
    "raw", [Raw(b"<html>", status=502), Raw(b'{"a', length=1000), Raw(silent=True)]
)
def test_what_changes_something_is_not(serve, raw):
    cloud, client = serve(lambda form: raw)
    with pytest.raises(Lost):
        client.call("deleteTags", resourceids="x")
    assert len(cloud.asked) == 1


def test_what_came_instead_is_named(serve):
    _, client = serve(lambda form: Raw(b"<title>Sign in</title>", status=200), patience_s=0)
    with pytest.raises(Unavailable, match="did not answer listZones: a web page, 'Sign in'"):
        client.call("listZones")


def test_nobody_there():
    client = CloudClient("http://127.0.0.1:1/client/api", "k", SECRET, limits=Limits(patience_s=0))
    with pytest.raises(Unavailable) as error:
        client.call("deployVirtualMachine")
    # Nothing was sent, so it is no lost reply.
    assert not isinstance(error.value, Lost)
    client.close()


def test_a_redirection_is_not_followed(serve):
    """The signed form would go along."""
    other, theirs = serve(lambda form: {"count": 0})
    cloud, client = serve(
        lambda form: Raw(status=307, headers={"Location": theirs.endpoint}), patience_s=0
    )
    with pytest.raises(Unavailable, match="307"):
        client.call("listZones")
    assert other.asked == []
    assert len(cloud.asked) == 1


def test_an_answer_without_end_is_given_up(serve):
    huge = Raw(json.dumps({"xresponse": {"text": "x" * 300_000}}).encode())
    limits = Limits(per_second=1000, max_bytes=100_000)
    cloud, client = serve(lambda form: huge, limits=limits)
    with pytest.raises(Unavailable, match="larger than 100000 bytes"):
        client.call("listZones")
    assert len(cloud.asked) == 1


@pytest.mark.parametrize("code", [429, 533, 534, 536])
@pytest.mark.parametrize("command", ["listZones", "startVirtualMachine"])
def test_later_is_tried_later(serve, code, command):
    cloud, client = serve(after(1, lambda form: refused(command, code), {"count": 3}))
    assert client.call(command) == {"count": 3}
    assert len(cloud.asked) == 2


def test_an_internal_error_is_tried_once_more_and_only_for_what_reads(serve):
    cloud, client = serve(lambda form: refused(form["command"], 530))
    with pytest.raises(Unavailable):
        client.call("listZones")
    assert len(cloud.asked) == 2
    with pytest.raises(Unavailable):
        client.call("createTags")
    assert len(cloud.asked) == 3


def test_a_limit_that_stays_is_busy(serve):
    _, client = serve(lambda form: refused(form["command"], 429), patience_s=0)
    with pytest.raises(Busy) as error:
        client.call("listZones")
    assert error.value.retryable
    assert error.value.data["cs_code"] == 429


@pytest.mark.parametrize(("code", "kind"), [(431, Rejected), (432, NotAllowed), (532, Rejected)])
def test_no_is_no(serve, code, kind):
    cloud, client = serve(lambda form: refused(form["command"], code))
    with pytest.raises(kind):
        client.call("createVolume")
    assert len(cloud.asked) == 1


# --- Keys and clocks


def test_a_command_that_the_version_does_not_know(serve):
    def answer(form):
        known = form["command"] == "listCapabilities"
        return {"capability": {}} if known else refused(form["command"], 401)

    _, client = serve(answer)
    with pytest.raises(Unsupported, match="does not know importVolume") as error:
        client.call("importVolume")
    assert "the key is good" in str(error.value.hint)


def test_a_key_that_is_refused(serve):
    cloud, client = serve(lambda form: refused(form["command"], 401, "unable to verify user"))
    with pytest.raises(NotAllowed, match="does not accept the key") as error:
        client.call("listZones")
    assert cloud.commands == ["listZones", "listCapabilities"]
    assert "api.allowed.source.cidr.list" in str(error.value.hint)
    assert "ahead" not in str(error.value.hint)


@pytest.mark.parametrize("skew_s", [-4000.0, 4000.0])
def test_a_wrong_clock_is_corrected(serve, skew_s):
    """The server takes only what does not expire too soon, or too late, by its own clock."""

    def answer(form):
        from datetime import UTC, datetime, timedelta

        there = datetime.now(UTC) + timedelta(seconds=skew_s)
        expires = datetime.strptime(form["expires"], "%Y-%m-%dT%H:%M:%S%z")
        if not there < expires < there + timedelta(minutes=15):
            found = refused(form["command"], 401)
            found.skew_s = skew_s
            return found
        return Raw(b'{"xresponse": {"count": 1}}', skew_s=skew_s)

    cloud, client = serve(answer)
    assert client.call("listZones") == {"count": 1}
    assert len(cloud.asked) == 2
    assert client.skew_s == pytest.approx(skew_s, abs=30)
    assert [text for text in client.warnings if "its clock is" in text]
    client.call("startVirtualMachine")
    assert len(cloud.asked) == 3


def test_a_clock_that_is_wrong_and_a_key_that_is_too(serve):
    def answer(form):
        found = refused(form["command"], 401)
        found.skew_s = 700.0
        return found

    _, client = serve(answer)
    with pytest.raises(NotAllowed) as error:
        client.call("listZones")
    assert "ahead of ours, mend that first" in str(error.value.hint)


def test_no_date_is_no_skew(serve):
    _, client = serve(lambda form: Raw(b'{"xresponse": {}}', skew_s=None))
    client.call("listZones")
    assert client.skew_s == 0.0
    assert client.warnings == ()


def test_a_date_that_no_clock_shows_is_not_believed(serve):
    far = Raw(b'{"xresponse": {}}', skew_s=None)
    far.headers["Date"] = "Fri, 31 Dec 9999 23:59:59 GMT"
    _, client = serve(after(1, far, {}))
    client.call("listZones")
    assert client.skew_s == 0.0
    assert [text for text in client.warnings if "not believed" in text]
    client.call("listZones")
    assert client.skew_s == pytest.approx(0.0, abs=30)
    assert client.warnings == ()


def test_a_reason_without_end_is_cut(serve):
    _, client = serve(lambda form: refused(form["command"], 431, "x" * 100_000))
    with pytest.raises(Rejected) as error:
        client.call("listZones")
    assert len(str(error.value)) < 1000


def test_nothing_secret_is_shown(serve, caplog):
    """Not in an error, not in what it comes from, not in the log of what it is made with."""
    caplog.set_level(logging.DEBUG)
    errors = []
    hidden = {
        "userdata": Secret("c2VjcmV0LXVzZXItZGF0YQ=="),
        "details": {"password": Secret("pw1")},
    }
    for raw in (
        Raw(silent=True),
        Raw(b'{"x": {"password": "pw1"', length=900),
        refused("deployVirtualMachine", 401),
        refused("deployVirtualMachine", 431, "no"),
    ):
        _, client = serve(lambda form, raw=raw: raw)
        with pytest.raises(SendenseError) as error:
            client.call("deployVirtualMachine", **hidden)
        errors.append(error.value)
    shown = caplog.text + "".join(
        f"{error!r} {error.to_dict()} {error.__cause__!r} {error.hint}" for error in errors
    )
    for secret in ("very-secret-key", "the-api-key", "c2VjcmV0", "pw1", "signature"):
        assert secret not in shown
        assert urlencode({"": secret})[1:] not in shown


def test_an_open_network_is_warned_of():
    client = CloudClient("http://cloud.example:8080", "k", SECRET)
    assert client.endpoint == "http://cloud.example:8080/client/api"
    assert client.warnings == ("its endpoint is http://: answers cross the network unencrypted",)
    client.close()


# --- Features


def test_features_are_asked_once(serve):
    def answer(form):
        if form["command"] == "listCapabilities":
            told = {"cloudstackversion": "4.20.1.0", "apilimitmax": 25, "apilimitinterval": 1}
            return {"capability": told}
        apis = [
            {"name": "listCapabilities"},
            {"name": "listHosts"},
            {"name": "listStoragePools"},
            {"name": "deployVirtualMachine", "params": [{"name": "volumeId"}, {"name": "details"}]},
        ]
        return {"count": 4, "api": apis}

    cloud, client = serve(answer)
    found = client.features()
    assert found.version == "4.20.1.0"
    assert found.admin
    assert found.has("deployVirtualMachine")
    assert not found.has("importVolume")
    assert found.takes("deployVirtualMachine", "volumeid")
    assert not found.takes("deployVirtualMachine", "snapshotid")
    assert not found.takes("importVolume", "path")
    assert client.features() is found
    assert cloud.commands == ["listApis", "listCapabilities"]
    assert client.ping() == "4.20.1.0"


def test_many_threads_share_one_client(serve):
    cloud, client = serve(lambda form: {"count": int(form["id"])})
    found: list[int] = []

    def ask(number):
        found.extend(client.call("listZones", id=number + step)["count"] for step in range(10))

    threads = [threading.Thread(target=ask, args=(number * 100,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(number * 100 + step for number in range(8) for step in range(10))
    assert len(cloud.asked) == 80
