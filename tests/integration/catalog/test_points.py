"""Points, repositories and policies in the catalogue."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sendense.catalog.points import PointFilter
from sendense.catalog.repositories import NO_SECRETS, RepositorySecrets
from sendense.errors import AlreadyExists, Conflict, NotFound
from sendense.model.access import Grant, Role, User
from sendense.model.hold import Hold, HoldKind
from sendense.model.holdings import Holding, entry_of
from sendense.model.page import every
from sendense.model.point import SAFETY, Attachment, Consistency, PointState
from sendense.model.policy import MatchRules
from sendense.model.retention import KeepRules
from sendense.model.secret import Secret
from tests.support.builders import a_point
from tests.support.fleet import NOW, a_point_entry, a_policy, a_repository_entry

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def repositories(catalog):
    catalog.repositories.add(a_repository_entry("main"))
    catalog.repositories.add(a_repository_entry("other"))


class TestPoints:
    def test_a_point_comes_back_as_it_was(self, catalog):
        hold = Hold("p1", HoldKind.LOCK, NOW + MINUTE, "", NOW)
        entry = entry_of(a_point("p1"), "id-main", [hold], job_id="j")
        catalog.points.put([entry], NOW)
        assert catalog.points.get("p1", "id-main") == entry
        assert entry.locked_until == NOW + MINUTE
        assert not entry.pinned

    def test_of_a_point_that_undoes_a_restore_it_says_so(self, catalog):
        safety = a_point("p1", attachments=(Attachment(SAFETY, 10, "0" * 64),))
        entry = entry_of(safety, "id-main")
        catalog.points.put([entry, entry_of(a_point("p2", 2), "id-main")], NOW)
        assert entry.safety
        assert catalog.points.get("p1", "id-main") == entry
        for wanted, ids in ((True, ["p1"]), (False, ["p2"]), (None, ["p2", "p1"])):
            page = catalog.points.page(wanted=PointFilter(safety=wanted))
            assert [each.id for each in page.items] == ids

    def test_a_copy_keeps_its_id(self, catalog):
        entries = [a_point_entry(), a_point_entry(repository_id="id-other", sequence=9)]
        catalog.points.put(entries, NOW)
        assert catalog.points.copies("p000001") == tuple(entries)
        assert catalog.points.copies("none") == ()

    def test_put_again_it_changes_and_keeps_its_job(self, catalog):
        catalog.points.put([a_point_entry(job_id="j")], NOW)
        catalog.points.put([a_point_entry(state=PointState.DAMAGED)], NOW)
        after = catalog.points.get("p000001", "id-main")
        assert (after.state, after.job_id) == (PointState.DAMAGED, "j")

    def test_replace_takes_over_what_the_repository_has(self, catalog):
        catalog.points.put([a_point_entry(n) for n in range(1, 5)], NOW)
        catalog.points.put([a_point_entry(1, repository_id="id-other")], NOW)
        # Stored while the repository was being listed.
        catalog.points.put([a_point_entry(9)], NOW + 2 * MINUTE)
        there = [a_point_entry(n) for n in (2, 3, 5)]
        assert catalog.points.replace("id-main", there, listed_at=NOW + MINUTE) == 2
        wanted = PointFilter(repository_id="id-main")
        ids = [point.sequence for point in catalog.points.page(wanted=wanted).items]
        assert ids == [9, 5, 3, 2]
        assert len(catalog.points.copies("p000001")) == 1

    def test_removed_with_their_repository(self, catalog):
        catalog.points.put([a_point_entry(), a_point_entry(repository_id="id-other")], NOW)
        assert catalog.points.remove("id-main", ["p000001", "none"]) == 1
        catalog.repositories.remove("id-other")
        assert catalog.points.copies("p000001") == ()

    def test_one_of_no_repository(self, catalog):
        with pytest.raises(Conflict):
            catalog.points.put([a_point_entry(repository_id="none")], NOW)

    def test_holds(self, catalog):
        catalog.points.put([a_point_entry()], NOW)
        catalog.points.hold("p000001", "id-main", pinned=True, locked_until=NOW)
        point = catalog.points.get("p000001", "id-main")
        assert (point.pinned, point.locked_until) == (True, NOW)
        with pytest.raises(NotFound):
            catalog.points.hold("none", "id-main", pinned=True, locked_until=None)

    def test_pages_newest_first_and_filters(self, catalog):
        points = [
            a_point_entry(
                n, taken_at=NOW + MINUTE * (n // 4), machine_uuid=f"u{n % 2}",
                machine_name=f"vm{n % 2}",
            )
            for n in range(10)
        ]  # fmt: skip
        catalog.points.put(points, NOW)
        found = list(every(lambda at: catalog.points.page(replace(at, limit=3))))
        assert found == sorted(points, key=lambda p: (p.taken_at, p.id), reverse=True)

        def count(**wanted):
            return len(catalog.points.page(wanted=PointFilter(**wanted)).items)

        assert count(machine_uuid="u1") == 5
        assert count(machine_name="vm0") == 5
        assert count(after=NOW + MINUTE) == 6
        assert count(before=NOW + MINUTE) == 4
        assert count(grant=Grant(instances=("u1",))) == 5
        assert count(grant=Grant(names=("vm*",))) == 10
        assert count(grant=Grant()) == 0
        assert [p.sequence for p in catalog.points.of_machine("u1", "id-main")] == [1, 3, 5, 7, 9]

    def test_sums(self, catalog):
        points = [a_point_entry(n, machine_uuid=f"u{n % 2}") for n in range(1, 5)]
        damaged = a_point_entry(9, state=PointState.DAMAGED)
        catalog.points.put([*points, damaged], NOW)
        assert catalog.points.newest_good() == {"u0": NOW + 4 * MINUTE, "u1": NOW + 3 * MINUTE}
        assert catalog.points.holding() == Holding(points=5, machines=2, stored_bytes=500)
        assert catalog.points.holding("id-other") == Holding(0, 0, 0)
        assert catalog.points.stored_since(NOW + 3 * MINUTE) == 300

    def test_a_safety_point_is_no_newest_good_one(self, catalog):
        undoing = [a_point_entry(n, machine_uuid=f"u{n % 2}", safety=True) for n in (8, 9)]
        catalog.points.put([a_point_entry(1, machine_uuid="u1"), *undoing], NOW)
        assert catalog.points.newest_good() == {"u1": NOW + MINUTE}


class TestRepositories:
    def test_what_has_the_name_is_said(self, catalog):
        with pytest.raises(AlreadyExists, match="there is a repository named main already"):
            catalog.repositories.add(a_repository_entry(id="new"))
        with pytest.raises(AlreadyExists, match="there is a repository named main already"):
            catalog.repositories.edit("id-other", name="main")
        for name in ("nightly", "weekly"):
            catalog.policies.add(a_policy(name))
        with pytest.raises(AlreadyExists, match="there is a policy named nightly already"):
            catalog.policies.add(replace(a_policy(), id="new"))
        with pytest.raises(AlreadyExists, match="there is a policy named nightly already"):
            catalog.policies.edit("id-weekly", NOW, name="nightly")
        catalog.users.add(User("bob", Role.VIEWER, NOW))
        with pytest.raises(AlreadyExists, match="there is a user named bob already"):
            catalog.users.add(User("bob", Role.ADMIN, NOW))

    def test_secrets_are_sealed_and_come_back(self, catalog):
        secrets = RepositorySecrets(Secret("pass"), {"key": Secret("cred")})
        entry = catalog.repositories.add(a_repository_entry("s3", url="s3://b"), secrets)
        assert (entry.has_passphrase, entry.has_credentials) == (True, True)
        assert catalog.repositories.secrets("id-s3") == secrets
        assert catalog.repositories.secrets("id-main") == NO_SECRETS
        assert catalog.repositories.named("s3") == entry

    def test_edit_changes_what_is_given(self, catalog):
        changed = catalog.repositories.edit(
            "id-main", name="new", secrets=RepositorySecrets(Secret("p"))
        )
        assert changed == replace(a_repository_entry("main"), name="new", has_passphrase=True)
        with pytest.raises(AlreadyExists):
            catalog.repositories.edit("id-main", name="other")
        with pytest.raises(NotFound):
            catalog.repositories.edit("none", name="x")

    def test_one_that_a_policy_uses_stays(self, catalog):
        catalog.policies.add(a_policy())
        with pytest.raises(Conflict, match=r"used by the policy nightly$") as caught:
            catalog.repositories.remove("id-main")
        assert "policy edit" in str(caught.value.hint)
        catalog.policies.add(a_policy("weekly"))
        with pytest.raises(Conflict, match="nightly and 1 more"):
            catalog.repositories.remove("id-main")
        catalog.policies.remove("id-weekly")
        catalog.policies.remove("id-nightly")
        catalog.repositories.remove("id-main")
        with pytest.raises(NotFound):
            catalog.repositories.get("id-main")
        assert [each.name for each in catalog.repositories.every()] == ["other"]


class TestPolicies:
    def test_a_policy_comes_back_as_it_was(self, catalog):
        policy = a_policy(
            keep=KeepRules(last=3, within=timedelta(days=2.5), timezone="Europe/Berlin"),
            match=MatchRules(("web-*",), ("h",), ("u",), ("x*",)),
            consistency=Consistency.APPLICATION,
            window="22:00-06:00",
            blackout_dates=("2026-12-24",),
            jitter=timedelta(minutes=5),
            sla=timedelta(hours=26),
            full_every=30,
        )
        catalog.policies.add(policy)
        assert catalog.policies.get("id-nightly") == policy
        assert catalog.policies.named("nightly") == policy
        assert catalog.policies.enabled() == (policy,)

    def test_edit_and_filters(self, catalog):
        catalog.policies.add(a_policy())
        rules = a_policy(repository_id="id-other").rules
        changed = catalog.policies.edit("id-nightly", NOW + MINUTE, enabled=False, rules=rules)
        assert (changed.enabled, changed.updated_at) == (False, NOW + MINUTE)
        assert catalog.policies.enabled() == ()
        assert catalog.policies.page(repository_id="id-main").items == ()
        assert catalog.policies.page(repository_id="id-other", enabled=False).items == (changed,)
        with pytest.raises(NotFound):
            catalog.policies.edit("none", NOW, name="x")
