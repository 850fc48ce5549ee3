"""Streams of events: they last no longer than the right to them, and nobody takes all places."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from unittest.mock import Mock

import pytest

from sendense import clock
from sendense.api.routes import jobs
from sendense.errors import NotFound
from sendense.model.access import Grant, Role
from sendense.model.job import JobState
from tests.support.api_site import MINE
from tests.support.fleet import NOW

EVENTS = f"/jobs/job-{MINE}/events"
_PATIENCE_S = 120.0
_HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def checked_at_every_look(monkeypatch):
    monkeypatch.setattr(jobs, "_CHECK_EVERY_S", 0.0)


def names(response):
    """Give the names of the events as they come; the signs of life tell when it is too late."""
    end = time.monotonic() + _PATIENCE_S
    for line in response.iter_lines():
        if line.startswith("event:"):
            yield line.removeprefix("event:").strip()
        if time.monotonic() > end:
            pytest.fail("the stream goes on")


def told_around(client, change):
    """Give the events of a stream; after the first of them something changes."""
    told = []
    with client.stream("GET", EVENTS) as response:
        assert response.status_code == 200, response.read()
        for name in names(response):
            told.append(name)
            if len(told) == 1:
                change()
    return told


def revoked(site, _monkeypatch):
    for token in site.catalog.tokens.page(user="tenant").items:
        site.catalog.tokens.revoke(token.id)


def expired(_site, monkeypatch):
    later = clock.now() + 2 * _HOUR
    monkeypatch.setattr(clock, "now", lambda: later)


def disabled(site, _monkeypatch):
    site.catalog.users.edit("tenant", disabled=True)


def removed(site, _monkeypatch):
    site.catalog.users.remove("tenant")


def without_the_grant(site, _monkeypatch):
    site.catalog.users.edit("tenant", grant=Grant(instances=("another",)))


@pytest.mark.parametrize("change", [revoked, expired, disabled, removed, without_the_grant])
def test_it_ends_with_the_right_to_it(site, monkeypatch, change):
    client = site.client(token=site.token("tenant", expires_at=clock.now() + _HOUR))
    assert told_around(client, lambda: change(site, monkeypatch)) == ["job"]
    assert client.get(EVENTS).status_code in {401, 404}


def test_it_ends_with_the_role(site):
    """Who becomes a tenant sees what was granted, and that is nothing here."""
    client = site.client(Role.VIEWER)
    change = {"name": "viewer", "role": Role.TENANT}
    assert told_around(client, lambda: site.catalog.users.edit(**change)) == ["job"]


def test_it_ends_with_the_job(site, monkeypatch):
    """A job that is forgotten meanwhile is no failure of the server."""

    def forgotten(*_args):
        raise NotFound("no such job")

    change = lambda: monkeypatch.setattr(site.catalog.jobs, "get", forgotten)  # noqa: E731
    assert told_around(site.client(), change) == ["job"]


def test_whoever_still_may_sees_the_end(site):
    def change():
        other = site.catalog.tokens.page(user="viewer").items[0]
        site.catalog.tokens.revoke(other.id)
        site.catalog.users.edit("tenant", grant=Grant(names=("vm-*",)))
        site.catalog.jobs.move("job-u1", JobState.QUEUED, JobState.RUNNING, NOW)
        site.catalog.jobs.move("job-u1", JobState.RUNNING, JobState.SUCCEEDED, NOW)

    assert told_around(site.client(Role.TENANT), change)[-1] == "end"


@pytest.mark.parametrize(("every_s", "again"), [(0.0, True), (float("inf"), False)])
def test_the_right_is_looked_up_now_and_then(site, monkeypatch, every_s, again):
    """Not with every look at the job: 200 streams would be 400 look-ups a second."""
    monkeypatch.setattr(jobs, "_CHECK_EVERY_S", every_s)
    check = Mock(wraps=site.catalog.tokens.check)
    monkeypatch.setattr(site.catalog.tokens, "check", check)
    change = lambda: site.catalog.jobs.request_cancel("job-u1", NOW)  # noqa: E731
    assert told_around(site.client(), change) == ["job", "end"]
    assert (check.call_count > 1) is again


def test_that_it_ends_is_no_denied_request(site, monkeypatch):
    """Nobody asked for anything: no audit entry, and no attempt that the address has to pay for."""
    client = site.client(token=site.token("tenant"))
    before = len(site.catalog.audit.page().items)
    told_around(client, lambda: revoked(site, monkeypatch))
    assert len(site.catalog.audit.page().items) == before


def test_one_user_leaves_places_for_others(site):
    site.services.streams.most_each = 1
    with site.client(Role.TENANT).stream("GET", EVENTS) as response:
        # Kept: a reader that is dropped closes its stream.
        reader = names(response)
        next(reader)
        another = site.client(token=site.token("tenant"))
        with another.stream("GET", EVENTS) as refused:
            assert refused.status_code == 429
            assert refused.headers["content-type"] == "application/problem+json"
            problem = json.loads(refused.read())
        assert (problem["code"], problem["retryable"]) == ("busy", True)
        with site.client(Role.VIEWER).stream("GET", EVENTS) as theirs:
            assert next(names(theirs)) == "job"


def test_a_place_that_was_left_is_free(site):
    site.services.streams.most_each = 1
    client = site.client()
    with client.stream("GET", EVENTS) as response:
        next(names(response))
    end = time.monotonic() + _PATIENCE_S
    while site.services.streams.open and time.monotonic() < end:
        time.sleep(0.01)
    with client.stream("GET", EVENTS) as response:
        assert next(names(response)) == "job"
