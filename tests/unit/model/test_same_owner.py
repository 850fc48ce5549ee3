"""Whether two scopes are one owner: by ids, and by names only where nobody has any."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.model.access import TenantScope

DOMAIN = TenantScope("west", "ROOT/acme", "d1")
ACCOUNT = TenantScope("west", "ROOT/acme", "d1", "ann", account_id="a1")
PROJECT = TenantScope("west", project_id="p1")
BY_NAME = TenantScope("west", "ROOT/acme", account="ann")


@pytest.mark.parametrize("scope", [DOMAIN, ACCOUNT, PROJECT, BY_NAME, replace(BY_NAME, account="")])
def test_each_is_itself(scope):
    assert scope.same_owner(replace(scope))
    assert not scope.same_owner(replace(scope, cloud_id="east"))


@pytest.mark.parametrize("scope", [DOMAIN, ACCOUNT])
def test_another_path_is_the_same_domain(scope):
    assert scope.same_owner(replace(scope, domain_path="ROOT/acme-2019"))


def test_another_name_is_the_same_account():
    assert ACCOUNT.same_owner(replace(ACCOUNT, account="anna"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DOMAIN, ACCOUNT),
        (ACCOUNT, PROJECT),
        (DOMAIN, replace(DOMAIN, domain_id="d2")),
        (DOMAIN, replace(DOMAIN, domain_id="")),
        (ACCOUNT, replace(ACCOUNT, account_id="a2")),
        (ACCOUNT, replace(ACCOUNT, account_id="")),
        (ACCOUNT, replace(ACCOUNT, domain_id="d2")),
        (ACCOUNT, BY_NAME),
        (PROJECT, replace(PROJECT, project_id="p2")),
        (PROJECT, replace(ACCOUNT, project_id="p2")),
        (BY_NAME, replace(BY_NAME, account="bob")),
        (BY_NAME, replace(BY_NAME, account="")),
        (BY_NAME, replace(BY_NAME, domain_path="ROOT/acme/lab")),
    ],
)
def test_these_are_two(one, other):
    assert not one.same_owner(other)
    assert not other.same_owner(one)
