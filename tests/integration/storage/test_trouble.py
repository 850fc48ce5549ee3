"""What a service in trouble answers, and what we make of it."""

from __future__ import annotations

import subprocess
import time
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import pytest

from sendense.errors import (
    AlreadyExists,
    NotAllowed,
    NotFound,
    OutOfSpace,
    Rejected,
    Stalled,
    Unavailable,
)
from sendense.model.secret import Secret
from sendense.storage.options import StoreOptions
from sendense.storage.urls import open_store
from sendense_lab.ports import free_port
from tests.integration.storage.answers import answering, cut_short, silence, slowly, status

SECRETS = {"access_key_id": Secret("id"), "secret_access_key": Secret("secret")}
ONCE = StoreOptions(attempts=1)


def store_at(endpoint, options=ONCE, **query):
    pairs = "".join(f"&{key}={value}" for key, value in query.items())
    return open_store(f"s3://bucket?region=us-east-1&endpoint={endpoint}{pairs}", SECRETS, options)


def verbs(store):
    return {
        "put": lambda: store.put("a", b"x"),
        "get": lambda: store.get("a"),
        "read_into": lambda: store.read_into("a", 0, memoryview(bytearray(10))),
        "list": lambda: list(store.list("")),
        "delete": lambda: store.delete(["a"]),
    }


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        (301, "PermanentRedirect", Rejected),
        (400, "InvalidArgument", Rejected),
        (401, "Unauthorized", NotAllowed),
        (403, "AccessDenied", NotAllowed),
        (403, "RequestTimeTooSkewed", Unavailable),
        (404, "NoSuchBucket", NotFound),
        (405, "MethodNotAllowed", Rejected),
        (408, "RequestTimeout", Unavailable),
        (409, "OperationAborted", Unavailable),
        (429, "TooManyRequests", Unavailable),
        (500, "InternalError", Unavailable),
        (501, "NotImplemented", Rejected),
        (503, "SlowDown", Unavailable),
        (507, "InsufficientStorage", OutOfSpace),
    ],
)
def test_a_status(number, code, kind):
    with answering(status(number, code)) as endpoint:
        for verb, call in verbs(store_at(endpoint)).items():
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind, verb
            assert caught.value.hint


def test_a_conflict_is_only_an_object_where_there_is_one():
    with answering(status(409, "ConditionalRequestConflict")) as endpoint:
        store = store_at(endpoint)
        with pytest.raises(Unavailable):
            store.put("a", b"x")
    seen = []

    def conflict(request):
        seen.append(request.command)
        status(404 if request.command == "HEAD" else 409, "ConditionalRequestConflict")(request)

    with answering(conflict) as endpoint, pytest.raises(Unavailable):
        store_at(endpoint).put("a", b"x", create=True)
    assert seen == ["HEAD", "PUT", "HEAD"]


def test_a_store_that_knows_no_conditions():
    seen = []

    def answer(request):
        condition = request.headers.get("If-None-Match")
        seen.append((request.command, condition))
        if request.command == "HEAD":
            status(404)(request)
        elif condition:
            status(501, "NotImplemented")(request)
        else:
            request.send_response(200)
            request.send_header("ETag", '"x"')
            request.send_header("Content-Length", "0")
            request.end_headers()

    with answering(answer) as endpoint:
        store = store_at(endpoint, conditional_create="true").inner
        assert store.traits.conditional_create
        store.put("a", b"x", create=True)
        assert not store.traits.conditional_create
        store.put("b", b"x", create=True)
    assert seen == [("HEAD", None), ("PUT", "*"), ("PUT", None), ("HEAD", None), ("PUT", None)]


def test_an_answer_that_breaks_off():
    with answering(cut_short) as endpoint, pytest.raises(Unavailable):
        store_at(endpoint).read_into("a", 0, memoryview(bytearray(1000)))


def test_nobody_listens():
    with pytest.raises(Unavailable):
        store_at(f"http://127.0.0.1:{free_port()}").get("a")


@pytest.mark.parametrize("verb", ["put", "get", "read_into", "list", "delete"])
def test_silence_is_stalling(verb):
    with answering(silence(30)) as endpoint:
        store = store_at(endpoint, StoreOptions(attempts=1, stall_s=0.4))
        begun = time.monotonic()
        with pytest.raises(Stalled):
            verbs(store)[verb]()
        assert time.monotonic() - begun < 15


def test_a_slow_download_is_not():
    with answering(slowly(10_000, 40_000)) as endpoint:
        store = store_at(endpoint, StoreOptions(attempts=1, stall_s=2.0))
        target = bytearray(40_000)
        store.read_into("a", 0, memoryview(target))
        assert target == b"x" * 40_000


def test_a_slow_upload_is_not():
    patient = StoreOptions(attempts=1, stall_s=0.5, slowest_bytes_per_s=1 << 20)
    hasty = StoreOptions(attempts=1, stall_s=0.5, slowest_bytes_per_s=1 << 30)

    def done(request):
        request.send_response(200)
        request.send_header("ETag", '"x"')
        request.send_header("Content-Length", "0")
        request.end_headers()

    # More than what the sockets hold, so that the sender has to wait.
    with answering(done, take_bytes_per_s=12 << 20) as endpoint:
        begun = time.monotonic()
        store_at(endpoint, patient).put("a", bytes(16 << 20))
        assert time.monotonic() - begun > 1
        with pytest.raises(Stalled):
            store_at(endpoint, hasty).put("a", bytes(16 << 20))


def test_no_credentials_anywhere(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with answering(status(404)) as nowhere:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", nowhere)
        store = open_store(f"s3://bucket?region=eu&endpoint={nowhere}", options=ONCE)
        with pytest.raises(NotAllowed, match="no credentials"):
            store.get("a")


def test_credentials_of_the_environment(monkeypatch):
    seen = []

    def answer(request):
        seen.append(request.headers["Authorization"])
        status(404)(request)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with answering(answer) as endpoint, pytest.raises(NotFound) as caught:
        open_store(f"s3://bucket?region=eu&endpoint={endpoint}", options=ONCE).get("a")
    assert "from-the-environment" in seen[0]
    assert "hunter2" not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    ("url", "credentials", "expected"),
    [
        ("s3://bucket?region=eu", SECRETS, "Credential=id/"),
        ("azure://container?account=me", {"account_key": Secret("a2V5")}, "SharedKey me:"),
        ("azure://container?account=me", {"sas_key": Secret("sig=mine")}, "sig=mine"),
    ],
)
def test_named_credentials_win_over_the_environment(monkeypatch, url, credentials, expected):
    seen = []

    def answer(request):
        seen.append(f"{request.path} {request.headers}")
        status(404)(request)

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "stale")
    for name in ("AZURE_STORAGE_TOKEN", "AZURE_STORAGE_CLIENT_ID"):
        monkeypatch.setenv(name, "stale")
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "sig=stale")
    with answering(answer) as endpoint, pytest.raises(NotFound):
        open_store(f"{url}&endpoint={endpoint}", credentials, ONCE).get("a")
    assert expected in seen[0]
    assert "stale" not in seen[0]


def test_the_signature_of_an_azure_address_is_not_shown(caplog):
    secrets = {"sas_key": Secret("sv=2021&sig=hunter2")}
    for number in (400, 403, 503):
        with answering(status(number)) as endpoint:
            url = f"azure://container?account=me&endpoint={endpoint}/me"
            for call in verbs(open_store(url, secrets, ONCE)).values():
                with pytest.raises((Rejected, Unavailable)) as caught:
                    call()
                assert "hunter2" not in str(caught.value.to_dict())
                assert caught.value.__cause__ is None
                assert caught.value.__suppress_context__
    assert "hunter2" not in caplog.text


def test_a_certificate_that_nobody_knows(tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subject += ["-addext", "basicConstraints=critical,CA:FALSE"]
    out = ["-keyout", key, "-out", certificate]
    subprocess.run([*make.split(), *subject, *out], check=True, capture_output=True)
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with answering(status(404, "NoSuchKey"), tls=context) as endpoint:
        with pytest.raises(Rejected, match="not trusted") as caught:
            store_at(endpoint).get("a")
        assert type(caught.value) is Rejected
        assert "ca_file" in str(caught.value.hint)
        with pytest.raises(NotFound):
            store_at(endpoint, ca_file=certificate).get("a")


def test_a_creation_that_another_was_faster_with():
    seen = []

    def there(request):
        seen.append(request.command)
        if request.command == "PUT" or len(seen) == 1:
            status(412 if request.command == "PUT" else 404)(request)
            return
        request.send_response(200)
        for name, value in {
            "Content-Length": "5",
            "ETag": '"x"',
            "Last-Modified": "Mon, 23 Nov 2026 07:33:08 GMT",
        }.items():
            request.send_header(name, value)
        request.end_headers()

    with answering(there) as endpoint, pytest.raises(AlreadyExists):
        store_at(endpoint).put("a", b"x", create=True)
    assert seen == ["HEAD", "PUT", "HEAD"]
