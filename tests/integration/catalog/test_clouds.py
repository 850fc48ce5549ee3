"""Clouds and their keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import AlreadyExists, NotFound
from sendense.model.cloud import CloudKeys, CloudState
from sendense.model.page import Paging
from sendense.model.secret import Secret
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud
from tests.support.fleet import NOW

ALL_KEYS = CloudKeys("a", Secret("s"), "ra", Secret("rs"), Secret("w"))


def test_a_cloud_comes_back_as_it_was(catalog):
    west = a_cloud(ca_pem="PEM", state=CloudState(NOW, warnings=("w",), instances=3))
    assert catalog.clouds.add(west, KEYS_OF_CLOUD) == west
    assert catalog.clouds.named("west") == west
    with pytest.raises(AlreadyExists, match="cloud named west"):
        catalog.clouds.add(replace(west, id="other"), KEYS_OF_CLOUD)
    east = catalog.clouds.add(a_cloud("east", enabled=False), ALL_KEYS)
    assert (east.has_restore_key, east.has_webhook) == (True, True)
    assert catalog.clouds.every() == (east, west)
    assert catalog.clouds.page(search="EA").items == (east,)
    assert catalog.clouds.page(enabled=True).items == (west,)
    assert catalog.clouds.page(Paging(limit=1)).next_cursor


def test_keys(catalog):
    catalog.clouds.add(a_cloud(), ALL_KEYS)
    assert catalog.clouds.keys("id-west") == ALL_KEYS
    cloud = catalog.clouds.set_keys("id-west", KEYS_OF_CLOUD)
    assert (cloud.has_restore_key, cloud.has_webhook) == (False, False)
    assert catalog.clouds.keys("id-west") == KEYS_OF_CLOUD
    with pytest.raises(NotFound):
        catalog.clouds.keys("none")
    with pytest.raises(NotFound):
        catalog.clouds.set_keys("none", ALL_KEYS)


def test_it_is_edited_noted_and_removed(catalog):
    catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
    edited = catalog.clouds.edit("id-west", name="south", endpoint="https://s", enabled=False)
    assert edited == replace(a_cloud(), name="south", endpoint="https://s", enabled=False)
    state = CloudState(failed_at=NOW, failure="no answer", version="4.20.1")
    catalog.clouds.note("id-west", state)
    assert catalog.clouds.get("id-west").state == state
    assert catalog.clouds.keys("id-west") == KEYS_OF_CLOUD
    catalog.clouds.remove("id-west", NOW)
    for call in (catalog.clouds.get, catalog.clouds.keys, catalog.clouds.edit):
        with pytest.raises(NotFound):
            call("id-west")
    with pytest.raises(NotFound):
        catalog.clouds.note("id-west", state)
    with pytest.raises(NotFound):
        catalog.clouds.remove("id-west", NOW)
