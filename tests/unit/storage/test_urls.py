"""URLs of stores: what each part means, what is refused, and that no secret is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendense.errors import Rejected, SendenseError
from sendense.model.secret import Secret
from sendense.storage.counting import Counting
from sendense.storage.local import LocalStore
from sendense.storage.options import StoreOptions
from sendense.storage.retrying import Retrying
from sendense.storage.throttled import Throttled
from sendense.storage.urls import KNOWN_QUERY, open_store, parse_url
from sendense.storage.wrapper import innermost
from sendense.transfer.throttle import Throttle
from tests.house.tree import ROOT

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "kind", "place", "prefix"),
    [
        ("/srv/backup", "file", "/srv/backup", ""),
        ("/srv/with:colon", "file", "/srv/with:colon", ""),
        ("file:///srv/a%20b", "file", "/srv/a b", ""),
        ("memory:one", "memory", "one", ""),
        ("s3://bucket", "s3", "bucket", ""),
        ("s3://bucket/", "s3", "bucket", ""),
        ("s3://my.bucket-1/deep/er/", "s3", "my.bucket-1", "deep/er"),
        ("azure://container/prefix?account=me", "azure", "container", "prefix"),
        ("gs://bucket/prefix", "gs", "bucket", "prefix"),
    ],
)
def test_what_a_url_means(url, kind, place, prefix):
    parsed = parse_url(url)
    assert (parsed.kind, parsed.place, parsed.prefix) == (kind, place, prefix)


def test_a_relative_path_is_made_whole(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parse_url("backup").place == str(tmp_path / "backup")


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/a/b?endpoint=http://127.0.0.1:9000&region=eu-1",
        "s3://bucket?endpoint=https://host&object_lock=true&path_style=true",
        "azure://container?account=me&endpoint=http://127.0.0.1:10000/me",
        "gs://bucket/prefix",
        "/srv/backup",
        "memory:one",
    ],
)
def test_it_is_written_as_it_was_read(url):
    assert str(parse_url(url)) == url
    assert parse_url(str(parse_url(url))) == parse_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file://host/path",
        "file:relative",
        "ftp://host/path",
        "memory:",
        "memory:../x",
        "s3:bucket",
        "s3:///prefix",
        "s3://bucket/a/../b",
        "s3://bucket/with space",
        "s3://bucket#part",
        "s3://[bucket/x",
        "s3://bucket?region=a&region=b",
        "s3://bucket?endpoint=host:9000",
        "s3://bucket?endpoint=http://host?x=y",
        "gs://bucket?region=eu",
    ],
)
def test_what_is_no_url(url):
    with pytest.raises(Rejected) as caught:
        parse_url(url)
    assert caught.value.hint


def test_an_unknown_part_is_told_with_those_that_are_known():
    with pytest.raises(Rejected, match="'regoin'") as caught:
        parse_url("s3://bucket?regoin=eu")
    assert "region" in str(caught.value.hint)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/prefix",
        f"s3://bucket?endpoint=https://user:{SECRET}@host",
        f"s3://bucket?secret_access_key={SECRET}",
        f"azure://container?sig={SECRET}",
        f"azure://container?sas_token={SECRET}",
        f"gs://bucket?password={SECRET}",
    ],
)
def test_a_secret_is_refused_and_not_repeated(url):
    with pytest.raises(Rejected) as caught:
        open_store(url)
    assert SECRET not in str(caught.value.to_dict())
    assert "environment" in str(caught.value.hint)


def test_the_location_holds_no_secret():
    secrets = {"access_key_id": Secret("id"), "secret_access_key": Secret(SECRET)}
    store = open_store("s3://bucket/prefix?region=eu-1&endpoint=http://127.0.0.1:1", secrets)
    assert store.location == "s3://bucket/prefix?endpoint=http://127.0.0.1:1&region=eu-1"
    assert SECRET not in repr(vars(innermost(store)))


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("/srv/backup", {"access_key_id": Secret("x")}),
        ("s3://bucket", {"account_key": Secret("x")}),
        ("s3://bucket", {"access_key_id": Secret("only")}),
        ("azure://container?account=me", {"account_key": Secret("not base64")}),
        ("gs://bucket", {"service_account_key": Secret("no json")}),
        ("s3://bucket?path_style=yes", {}),
        ("s3://bucket?lock_mode=forever", {}),
        ("s3://bucket?ca_file=/not/there.pem", {}),
    ],
)
def test_settings_that_do_not_fit(url, credentials):
    with pytest.raises(SendenseError) as caught:
        open_store(url, credentials).get("x")
    assert caught.value.hint
    assert not caught.value.retryable


def test_who_decides_about_creation():
    secrets = {"access_key_id": Secret("id"), "secret_access_key": Secret("x")}

    def decides(url):
        return open_store(url, secrets).traits.conditional_create

    assert decides("s3://bucket?region=eu-1")
    assert not decides("s3://bucket?endpoint=http://127.0.0.1:1")
    assert decides("s3://bucket?endpoint=http://127.0.0.1:1&conditional_create=true")


def test_one_name_is_one_store_in_memory():
    first, second, other = (open_store(f"memory:{name}") for name in ("same", "same", "other"))
    first.put("a", b"x")
    assert second.get("a") == b"x"
    assert list(other.list("")) == []
    first.delete(["a"])


def test_the_wrappers(tmp_path):
    plain = open_store(str(tmp_path))
    assert isinstance(plain, Retrying)
    assert isinstance(plain.inner, LocalStore)
    from sendense.storage.counting import Counters

    options = StoreOptions(download=Throttle(1), counters=Counters())
    throttled = open_store(str(tmp_path), options=options)
    assert isinstance(throttled, Retrying)
    assert isinstance(throttled.inner, Throttled)
    assert isinstance(throttled.inner.inner, Counting)
    assert isinstance(innermost(throttled), LocalStore)


def test_a_local_store_needs_no_client(tmp_path):
    text = (Path(ROOT) / "src/sendense/storage/urls.py").read_text(encoding="utf-8")
    assert "\nfrom sendense.storage.buckets" not in text


@pytest.mark.parametrize("kind", KNOWN_QUERY)
def test_each_part_is_documented(kind):
    text = (ROOT / "docs/stores.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in text for key in KNOWN_QUERY[kind])
