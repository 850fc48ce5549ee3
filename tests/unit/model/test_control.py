"""Decisions of the control plane: transitions, matches, takeovers, protection."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Rejected
from sendense.model.access import (
    ALL_SCOPES,
    Area,
    Grant,
    Role,
    effective_role,
    roles_below,
    scopes_cover,
    scopes_within,
)
from sendense.model.agent_status import Level
from sendense.model.cloud import CloudFacts
from sendense.model.coding import decode, encode
from sendense.model.fleet import HostHealth, Instance, InstanceName, may_take_over
from sendense.model.job import (
    FINAL_STATES,
    OPEN_STATES,
    TRANSITIONS,
    JobFailure,
    JobRequest,
    JobState,
    after_cancel,
)
from sendense.model.machine import PowerState
from sendense.model.policy import MatchRules, Policy, PolicyRules
from tests.support.builders import a_machine
from tests.support.fleet import NOW, a_heartbeat, a_host, a_policy, a_request

MINUTE = timedelta(minutes=1)
WEB = InstanceName("u1", "web-1", "h1")


def test_every_state_leads_to_an_end():
    assert set(TRANSITIONS) == set(JobState)
    reached = set(FINAL_STATES)
    for _ in JobState:
        reached |= {state for state, after in TRANSITIONS.items() if after & reached}
    assert reached == set(JobState)
    assert {JobState.QUEUED, JobState.RUNNING, JobState.CANCELLING} == OPEN_STATES


def test_a_wish_to_cancel_takes_a_transition_that_there_is():
    for state in JobState:
        to = after_cancel(state)
        assert to is None or to in TRANSITIONS[state]


def test_a_failure_in_the_words_of_its_error():
    failure = JobFailure.of(Rejected("no", hint="do"), "plan")
    assert failure == JobFailure("rejected", "no", "do", False, "plan")


@pytest.mark.parametrize(
    ("rules", "taken"),
    [
        (MatchRules(), False),
        (MatchRules(names=("web-*",)), True),
        (MatchRules(names=("WEB-*",)), False),
        (MatchRules(names=("db-*", "web-?")), True),
        (MatchRules(hosts=("h1",)), True),
        (MatchRules(names=("web-*",), hosts=("h2",)), False),
        (MatchRules(instances=("u1",)), True),
        (MatchRules(names=("db-*",), instances=("u1",)), True),
        (MatchRules(names=("*",), except_names=("web-*",)), False),
        (MatchRules(instances=("u1",), except_names=("web-*",)), False),
    ],
)
def test_rules_match(rules, taken):
    assert rules.match(WEB) == taken


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (MatchRules(), "not taken: it is not on the list of instances, and no patterns are given"),
        (MatchRules(instances=("u1",)), "taken: it is on the list of instances"),
        (MatchRules(zones=("east",)), "not taken: its zone (west) does not fit east"),
        (MatchRules(projects=("*",)), "not taken: its project (none) does not fit *"),
        (
            MatchRules(names=("Shop",), tags=("backup",)),
            "taken: its name (web-1, Shop) fits Shop, and its tag (backup=no) fits backup",
        ),
        (
            MatchRules(names=("*",), except_tags=("backup=no",)),
            "left out: its tag (backup=no) fits backup=no",
        ),
    ],
)
def test_rules_say_why(rules, said):
    cloud = CloudFacts("c1", "one", "Shop", zone="west", tags={"backup": "no"})
    assert rules.explain(replace(WEB, cloud=cloud)) == said


@pytest.mark.parametrize(
    "changes",
    [
        {"timezone": "Mars/Olympus"},
        {"full_every": -1},
        {"jitter": timedelta(seconds=-1)},
        {"sla": timedelta(0)},
        {"blackout_dates": ("24.12.2026",)},
    ],
)
def test_rules_that_can_never_be_meant(changes):
    with pytest.raises(Rejected):
        a_policy(**changes)


def test_a_policy_travels():
    policy = a_policy(sla=timedelta(hours=26), jitter=timedelta(seconds=0.5))
    assert decode(Policy, encode(policy)) == policy
    with pytest.raises(Rejected, match="sla"):
        decode(PolicyRules, encode(policy.rules) | {"sla": "26h"})
    with pytest.raises(Rejected, match="sla"):
        decode(PolicyRules, encode(policy.rules) | {"sla": float("inf")})


@pytest.mark.parametrize(
    ("changes", "health"),
    [
        ({}, HostHealth.SILENT),
        ({"last_seen": NOW - 3 * MINUTE}, HostHealth.SILENT),
        ({"last_seen": NOW}, HostHealth.OK),
        ({"last_seen": NOW, "heartbeat": a_heartbeat(Level.WARNING)}, HostHealth.WARNING),
        ({"last_seen": NOW, "heartbeat": a_heartbeat(Level.FAILED)}, HostHealth.FAILED),
        ({"last_seen": NOW, "revoked_at": NOW}, HostHealth.REVOKED),
        ({"last_seen": NOW, "enrolled_at": None}, HostHealth.NOT_ENROLLED),
    ],
)
def test_the_health_of_a_host(changes, health):
    assert a_host(**changes).health(NOW, 2 * MINUTE) is health


@pytest.mark.parametrize(
    ("known", "host", "power", "takes"),
    [
        ({}, "h1", PowerState.STOPPED, True),
        ({}, "h2", PowerState.RUNNING, True),
        ({}, "h2", PowerState.PAUSED, False),
        ({"host_id": None}, "h2", PowerState.STOPPED, True),
        ({"gone_at": NOW}, "h2", PowerState.STOPPED, True),
        ({"power": PowerState.STOPPED}, "h2", PowerState.STOPPED, True),
        ({"seen_at": NOW - 11 * MINUTE}, "h2", PowerState.STOPPED, True),
    ],
)
def test_which_host_has_an_instance(known, host, power, takes):
    instance = Instance("u1", "web-1", "h1", PowerState.RUNNING, a_machine(), NOW, NOW)
    assert may_take_over(replace(instance, **known), host, power, NOW) == takes


def test_a_request_travels():
    request = a_request(content={"mode": "auto", "limits": [1, None]}, not_before=NOW)
    assert decode(JobRequest, encode(request)) == request


@pytest.mark.parametrize(
    ("role", "cap", "effective"),
    [
        (Role.ADMIN, None, Role.ADMIN),
        (Role.ADMIN, Role.VIEWER, Role.VIEWER),
        (Role.VIEWER, Role.ADMIN, Role.VIEWER),
        (Role.OPERATOR, Role.OPERATOR, Role.OPERATOR),
        (Role.TENANT, Role.ADMIN, Role.TENANT),
        (Role.ADMIN, Role.TENANT, Role.TENANT),
        (Role.TENANT, None, Role.TENANT),
    ],
)
def test_the_lower_role_counts(role, cap, effective):
    assert effective_role(role, cap) is effective
    assert cap not in roles_below(role) or effective is cap


@pytest.mark.parametrize(
    ("scopes", "area", "access", "covers"),
    [
        ((), Area.USERS, "write", True),
        (("points:read",), Area.POINTS, "read", True),
        (("points:read",), Area.POINTS, "write", False),
        (("points:write",), Area.POINTS, "read", True),
        (("points:write",), Area.JOBS, "read", False),
    ],
)
def test_scopes(scopes, area, access, covers):
    assert scopes_cover(scopes, area, access) == covers


@given(*[st.sets(st.sampled_from(ALL_SCOPES)) for _ in range(2)])
def test_scopes_within_others_allow_nothing_more(scopes, limit):
    if scopes_within(scopes, limit):
        for area in Area:
            for access in ("read", "write"):
                if scopes_cover(scopes, area, access):
                    assert scopes_cover(limit, area, access)


@pytest.mark.parametrize(
    ("grant", "covers"),
    [
        (Grant(), False),
        (Grant(instances=("u1",)), True),
        (Grant(names=("web-*",)), True),
        (Grant(names=("web-?",)), True),
        (Grant(names=("web-??",)), False),
        (Grant(names=("WEB-*",)), False),
        (Grant(names=("web-[0-9]",)), False),
        (Grant(names=("web.1",)), False),
    ],
)
def test_a_grant(grant, covers):
    assert grant.covers("u1", "web-1") == covers
