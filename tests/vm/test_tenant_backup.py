"""What is agreed with a tenant, on a real host: its own repository and key, and its quota."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sendense import clock
from sendense.catalog.repositories import RepositorySecrets
from sendense.jobs.scheduling import run_now
from sendense.model.access import TenantScope
from sendense.model.holdings import RepositoryEntry
from sendense.model.job import Job, JobKind, JobState
from sendense.model.policy import MatchRules
from sendense.model.secret import Secret
from sendense.model.tenant import Tenant
from sendense_lab.lab import Lab
from tests.support.fleet import a_policy
from tests.vm.ascend_site import AscendSite, CloudHere

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab) as site:
        yield site


def run_policy(here: CloudHere) -> Job:
    """Have the policy back up the one instance; gives the job when it has ended."""
    control = here.site.control
    run_now(control.catalog, "id-nightly", "tests", clock.now())
    control.plane.jobs.wake()
    newest = next(job for job in control.catalog.jobs.page().items if job.kind is JobKind.BACKUP)
    return control.end_of(newest)


def test_its_points_lie_under_its_own_key_and_only_up_to_its_quota(site: AscendSite) -> None:
    with site.cloud("4.20") as here:
        simulator, control = here.simulator, site.control
        simulator.create_account("ann", domain="ROOT/acme")
        vm = here.add("web", account=simulator.account("ann", "ROOT/acme"))
        catalog, now = control.catalog, clock.now()
        own = RepositoryEntry("id-own", "own", f"dedup:{site.root}/own", now)
        secret = Secret("the tenant's own passphrase, 27 letters")
        catalog.repositories.add(own, RepositorySecrets(passphrase=secret))
        control.plane.estate.create(own)
        scope = TenantScope(here.cloud.id, "ROOT/acme", simulator.domain("ROOT/acme").id)
        catalog.tenants.add(Tenant("t1", "acme", scope, own.id))
        match = MatchRules(domains=("ROOT/acme",))
        policy = a_policy(repository_id=control.repository_id, match=match)
        rules = replace(policy.rules, schedule="0 1 1 1 *")
        catalog.policies.add(replace(policy, rules=rules, created_at=now, updated_at=now))

        done = run_policy(here)
        assert done.state is JobState.SUCCEEDED, done.failure
        assert done.repository_id == own.id
        assert done.content["repository_because"] == "it is the repository of the tenant acme"
        assert done.result is not None
        with site.estate.repository(own.id) as repository:
            assert [point.id for point in repository.points(vm.id)] == [done.result["point"]]
        with site.estate.repository(control.repository_id) as repository:
            assert repository.points(vm.id) == ()

        stored = catalog.tenants.stored_bytes(catalog.tenants.get("t1"))
        assert stored == done.result["stored_bytes"] > 0
        catalog.tenants.edit("t1", quota_bytes=stored)
        refused = run_policy(here)
        assert refused.state is JobState.FAILED
        assert refused.failure is not None
        assert refused.failure.code == "rejected"
        assert f"({stored} bytes) of its quota" in refused.failure.message
        assert not refused.failure.retryable

        catalog.tenants.edit("t1", quota_bytes=int(stored * 1.05))
        warned = run_policy(here)
        assert warned.state is JobState.SUCCEEDED, warned.failure
        assert warned.result is not None
        assert any("of its quota" in said for said in warned.result["warnings"])
