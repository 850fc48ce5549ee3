"""Object locks against a server that has them: what is locked survives a thief with our keys."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from sendense.errors import NotAllowed, NotFound, Rejected, Unavailable, Unsupported
from sendense.storage.options import StoreOptions
from sendense.storage.s3locks import S3Locks
from sendense.storage.urls import open_store
from sendense.storage.wrapper import innermost
from sendense_lab.ports import free_port
from tests.integration.storage.answers import answering, status
from tests.support.s3_servers import CREDENTIALS, moto_server

SOON = datetime(2099, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ONCE = StoreOptions(attempts=1)


@pytest.fixture(scope="module")
def server():
    with moto_server() as running:
        running.make_bucket("locked", locks=True)
        running.make_bucket("plain")
        yield running


@pytest.fixture
def place(server, request):
    """A prefix of its own for each test: what is locked cannot be tidied up."""
    return server.url("locked", f"p/{abs(hash(request.node.name))}", object_lock="true")


@pytest.fixture
def store(place):
    return open_store(place, CREDENTIALS)


def locks_of(store):
    locks = innermost(store).locks
    assert isinstance(locks, S3Locks)
    return locks


def versions(server, store, name):
    _, _, prefix = store.location.partition("?")[0].removeprefix("s3://").partition("/")
    listing = server.client().list_object_versions(Bucket="locked", Prefix=f"{prefix}/{name}")
    return listing.get("Versions", []), listing.get("DeleteMarkers", [])


def test_the_store_says_that_it_locks(store):
    assert store.traits.object_lock
    assert store.locks is not None


def test_an_object_is_locked(store):
    store.put("packs/a", b"x")
    assert store.locks.until("packs/a") is None
    store.locks.extend("packs/a", SOON)
    assert store.locks.until("packs/a") == SOON


def test_a_date_is_never_shortened(store):
    store.put("a", b"x")
    store.locks.extend("a", SOON)
    for earlier in (SOON - DAY, SOON):
        store.locks.extend("a", earlier)
        assert store.locks.until("a") == SOON
    store.locks.extend("a", SOON + DAY)
    assert store.locks.until("a") == SOON + DAY


def test_any_time_zone(store):
    store.put("a", b"x")
    store.locks.extend("a", SOON.astimezone(timezone(timedelta(hours=5))))
    assert store.locks.until("a") == SOON


def test_a_locked_version_survives(server, store):
    store.put("packs/a", b"precious")
    store.locks.extend("packs/a", SOON)
    store.delete(["packs/a"])
    with pytest.raises(NotFound):
        store.get("packs/a")
    (version,), (_,) = versions(server, store, "packs/a")
    with pytest.raises(server.client().exceptions.ClientError, match="AccessDenied"):
        server.client().delete_object(
            Bucket="locked", Key=version["Key"], VersionId=version["VersionId"]
        )
    assert locks_of(store).undelete("packs/") == 1
    assert store.get("packs/a") == b"precious"
    assert store.locks.until("packs/a") == SOON
    assert [item.name for item in store.list("packs/")] == ["packs/a"]


@pytest.mark.slow
def test_bringing_back_many(store):
    names = [f"packs/{number:04}" for number in range(1100)]
    for name in names:
        store.put(name, b"x")
    store.put("index/a", b"x")
    store.delete([*names, "index/a"])
    store.delete(names[:3])
    assert locks_of(store).undelete("packs/") == 1100
    assert [item.name for item in store.list("")] == names
    assert locks_of(store).undelete("packs/") == 0


def test_a_place_beside_is_left_alone(server, store):
    other = open_store(server.url("locked", "other", object_lock="true"), CREDENTIALS)
    other.put("packs/a", b"x")
    other.delete(["packs/a"])
    assert locks_of(store).undelete("") == 0
    with pytest.raises(NotFound):
        other.get("packs/a")


def test_what_was_written_over_comes_back(store):
    store.put("packs/a", b"precious")
    store.put("packs/b", b"untouched")
    store.locks.extend("packs/a", SOON)
    store.put("packs/a", b"ransom")
    store.put("packs/a", b"more ransom")
    assert locks_of(store).unreplace("packs/") == 1
    assert store.get("packs/a") == b"precious"
    assert store.get("packs/b") == b"untouched"
    assert locks_of(store).unreplace("packs/") == 0


def test_modes(server, place):
    modes = {}
    for mode in ("governance", "compliance"):
        store = open_store(f"{place}&lock_mode={mode}", CREDENTIALS)
        store.put(mode, b"x")
        locks_of(store).extend(mode, SOON)
        (version,), _ = versions(server, store, mode)
        modes[mode] = server.client().head_object(Bucket="locked", Key=version["Key"])
    assert {mode: answer["ObjectLockMode"] for mode, answer in modes.items()} == {
        "governance": "GOVERNANCE",
        "compliance": "COMPLIANCE",
    }


def test_a_strong_lock_stays_strong(server, place):
    strong = open_store(f"{place}&lock_mode=compliance", CREDENTIALS)
    strong.put("a", b"x")
    locks_of(strong).extend("a", SOON)
    weak = open_store(place, CREDENTIALS)
    locks_of(weak).extend("a", SOON + DAY)
    (version,), _ = versions(server, weak, "a")
    answer = server.client().head_object(Bucket="locked", Key=version["Key"])
    assert answer["ObjectLockMode"] == "COMPLIANCE"
    assert locks_of(weak).until("a") == SOON + DAY


def test_what_is_not_there(store):
    for call in (lambda: store.locks.extend("none", SOON), lambda: store.locks.until("none")):
        with pytest.raises(NotFound):
            call()


@pytest.mark.parametrize("bucket", ["plain", "missing"])
def test_a_bucket_without_locks_is_refused(server, bucket):
    with pytest.raises(Rejected) as caught:
        open_store(server.url(bucket, object_lock="true"), CREDENTIALS)
    assert caught.value.hint


def test_without_the_package(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(Unsupported) as caught:
        open_store(server.url("locked", object_lock="true"), CREDENTIALS)
    assert "s3-locks" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        (403, "AccessDenied", NotAllowed),
        (503, "SlowDown", Unavailable),
        (501, "NotImplemented", Rejected),
    ],
)
def test_a_service_in_trouble(number, code, kind):
    url = "s3://bucket?object_lock=true&region=eu&endpoint="
    with answering(status(number, code)) as endpoint, pytest.raises(kind) as caught:
        open_store(url + endpoint, CREDENTIALS, ONCE)
    assert type(caught.value) is kind
    with pytest.raises(Unavailable):
        open_store(f"{url}http://127.0.0.1:{free_port()}", CREDENTIALS, ONCE)


def test_a_lock_that_is_not_answered_at_once():
    seen = []

    def answer(request):
        seen.append(request.command)
        status(503, "SlowDown")(request)

    options = StoreOptions(attempts=3, patience_s=5.0)
    url = "s3://bucket?object_lock=true&region=eu&endpoint="
    with answering(answer) as endpoint, pytest.raises(Unavailable):
        open_store(url + endpoint, CREDENTIALS, options)
    assert len(seen) == 3
