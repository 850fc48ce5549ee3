"""Policies: which instances are backed up, when, to where, and what is kept."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from sendense import clock
from sendense.api.access import caller_of, reads, writes
from sendense.api.guard import GuardedRoute
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import IdAsked, IdInPath, PageOf, Search, paging
from sendense.api.store_shapes import (
    LeftOut,
    Matched,
    PolicyAsked,
    PolicyShape,
    Preview,
    RoundShape,
    Run,
    policy_shape,
    rules_of,
)
from sendense.jobs.scheduling import timetable
from sendense.model.access import Area
from sendense.model.fleet import InstanceName
from sendense.model.identity import new_id
from sendense.model.page import Page, Paging
from sendense.model.policy import Policy, PolicyRules
from sendense.model.running import Round
from sendense.model.schedule import next_run
from sendense.model.tenant import Tenant, destination

router = APIRouter(route_class=GuardedRoute, tags=["policies"])

At = Annotated[Paging, Depends(paging)]
_SHOWN = 100


@router.get("/policies")
@reads(Area.POLICIES)
def list_policies(
    services: ServicesHere,
    at: At,
    search: Search = None,
    enabled: Annotated[bool | None, Query()] = None,
    repository_id: IdAsked = None,
) -> PageOf[PolicyShape]:
    """List policies by name."""
    page = services.catalog.policies.page(
        at, search=search, enabled=enabled, repository_id=repository_id
    )
    items = [policy_shape(policy) for policy in page.items]
    return PageOf(items=items, next_cursor=page.next_cursor)


@router.post("/policies", status_code=201)
@writes(Area.POLICIES)
def create_policy(services: ServicesHere, asked: PolicyAsked, request: Request) -> PolicyShape:
    """Make a policy. It acts from its next due time on."""
    rules = _checked(services, asked)
    now = clock.now()
    policy = Policy(new_id(now), asked.name, asked.enabled, rules, now, now)
    services.catalog.policies.add(policy)
    request.state.subject = policy.id
    return policy_shape(policy)


@router.post("/policies/preview")
@reads(Area.POLICIES)
def preview_policy(services: ServicesHere, asked: PolicyAsked) -> Preview:
    """Show which instances a policy would take, and when; nothing is made."""
    return _preview(services, _checked(services, asked))


@router.get("/policies/{policy_id}")
@reads(Area.POLICIES)
def show_policy(services: ServicesHere, policy_id: IdInPath) -> PolicyShape:
    """Show a policy."""
    return policy_shape(services.catalog.policies.get(policy_id))


@router.put("/policies/{policy_id}")
@writes(Area.POLICIES)
def change_policy(services: ServicesHere, policy_id: IdInPath, asked: PolicyAsked) -> PolicyShape:
    """Change a policy to what is sent, whole."""
    rules = _checked(services, asked)
    policy = services.catalog.policies.edit(
        policy_id, clock.now(), name=asked.name, enabled=asked.enabled, rules=rules
    )
    return policy_shape(policy)


@router.delete("/policies/{policy_id}", status_code=204)
@writes(Area.POLICIES)
def remove_policy(services: ServicesHere, policy_id: IdInPath) -> Response:
    """Remove a policy. Its points stay, and nothing prunes them any more."""
    services.catalog.policies.remove(policy_id)
    return Response(status_code=204)


@router.get("/policies/{policy_id}/preview")
@reads(Area.POLICIES)
def preview_known_policy(services: ServicesHere, policy_id: IdInPath) -> Preview:
    """Show which instances a policy takes now, and when it runs next."""
    return _preview(services, services.catalog.policies.get(policy_id).rules)


@router.post("/policies/{policy_id}/run", status_code=202, response_model=RoundShape)
@writes(Area.JOBS)
def run_policy(services: ServicesHere, policy_id: IdInPath, request: Request) -> Round:
    """Run a policy now: a backup of each instance that it takes, unless one waits or runs."""
    return services.queue.run_policy(policy_id, caller_of(request).name)


@router.get("/policies/{policy_id}/rounds", response_model=PageOf[RoundShape])
@reads(Area.POLICIES)
def list_rounds(services: ServicesHere, policy_id: IdInPath, at: At) -> Page[Round]:
    """List the rounds of a policy, newest first: what was submitted, skipped, missed or late."""
    services.catalog.policies.get(policy_id)
    return services.catalog.rounds.page(policy_id, at)


def _checked(services: Services, asked: PolicyAsked) -> PolicyRules:
    """Read a policy; an error where its repository is not there, or its times mean nothing."""
    rules = rules_of(asked)
    timetable(rules)
    services.catalog.repositories.get(rules.repository_id)
    return rules


def _preview(services: Services, rules: PolicyRules) -> Preview:
    # Those that the last summary knows, a minute ago at most: it has them all in memory.
    known = [verdict.instance for verdict in services.summaries.get().verdicts]
    taken = [each for each in known if rules.match.match(each)]
    run, tenants = next_run(timetable(rules), clock.now()), services.catalog.tenants.every()
    return Preview(
        count=len(taken),
        instances=[_matched(each, rules, tenants) for each in taken[:_SHOWN]],
        left_out=[_left_out(each, rules) for each in _own(known, rules)][:_SHOWN],
        next_run=Run.model_validate(run),
    )


def _own(known: list[InstanceName], rules: PolicyRules) -> list[InstanceName]:
    return [each for each in known if rules.match.would_match(each)]


def _left_out(instance: InstanceName, rules: PolicyRules) -> LeftOut:
    return LeftOut(
        uuid=instance.uuid,
        name=instance.name,
        host_id=instance.host_id,
        why=rules.match.explain(instance),
    )


def _matched(instance: InstanceName, rules: PolicyRules, tenants: tuple[Tenant, ...]) -> Matched:
    place = destination(tenants, instance.cloud, rules.repository_id)
    return Matched(
        uuid=instance.uuid,
        name=instance.name,
        host_id=instance.host_id,
        cloud_name=None if instance.cloud is None else instance.cloud.name,
        repository_id=place.repository_id,
        why="; ".join([rules.match.explain(instance), *place.said.values()]),
    )
