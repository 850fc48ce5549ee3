"""Whose an instance is: the same in SQL and in Python, and one tenant never sees another's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.catalog.inventory_reading import CloudInstanceFilter
from sendense.catalog.jobs import JobFilter
from sendense.catalog.points import PointFilter
from sendense.catalog.status import judge_all
from sendense.errors import AlreadyExists, Conflict, NotFound, Rejected
from sendense.model.access import Grant, Role, TenantScope, User
from sendense.model.cloud import CloudAccount, CloudDomain, CloudFacts, CloudKind, Owner
from sendense.model.page import Paging
from sendense.model.tenant import Tenant, destination
from tests.support.builders import a_machine
from tests.support.catalogs import catalog_at
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import NOW, a_host, a_point_entry, a_repository_entry, a_request

LATER = NOW + timedelta(minutes=1)
PATHS = (
    "ROOT", "ROOT/a", "ROOT/a/b", "ROOT/ab", "ROOT/A", "ROOT/a%", "ROOT/a_", "ROOT/a*", "ROOT/ä",
    "ROOT/ä/b", "ROOT/a[b]", "ROOT/a[b]/c", "ROOT/a/b/c",
)  # fmt: skip
DOMAINS = (
    *(
        CloudDomain(
            f"d{number}", path.rpartition("/")[2], path,
            f"d{PATHS.index(path.rpartition('/')[0])}" if "/" in path else "",
        )
        for number, path in enumerate(PATHS)
    ),
    # d1 was ROOT/a before this one, and its path is not known to have changed yet.
    CloudDomain("d-new", "a", "ROOT/a", "d0"),
    CloudDomain("d-new-sub", "sub", "ROOT/a/sub", "d-new"),
)  # fmt: skip
ACCOUNTS = tuple(
    CloudAccount(f"{name}-{number}", name, f"d{number}")
    for number in range(0, len(PATHS), 2)
    for name in ("ann", "Ann")
)
OWNERS = (
    *(
        owner
        for number, path in enumerate(PATHS)
        for owner in (
            Owner(f"d{number}", path, "ann"),
            Owner(f"d{number}", path, "Ann"),
            Owner(f"d{number}", path, "", f"p{number}", "shop"),
        )
    ),
    Owner("d-new", "ROOT/a", "ann"),
    Owner("d-new-sub", "ROOT/a/sub", "ann"),
)
CLOUDS = ("id-west", "id-east")
IDS = (*(f"d{number}" for number in range(len(PATHS))), "d-new", "d-new-sub", "D1", "", "")


@pytest.fixture(scope="module")
def full(new_url):
    """Give a catalogue with an instance of each owner in each cloud; some are gone."""
    with catalog_at(new_url()) as catalog:
        for place, cloud_id in enumerate(CLOUDS):
            catalog.clouds.add(a_cloud(cloud_id.removeprefix("id-")), KEYS_OF_CLOUD)
            catalog.inventory.take(cloud_id, CloudKind.DOMAIN, DOMAINS, NOW)
            catalog.inventory.take(cloud_id, CloudKind.ACCOUNT, ACCOUNTS, NOW)
            first = 1 + place * 100
            found = [
                a_cloud_instance(first + number, owner=owner)
                for number, owner in enumerate(OWNERS)
            ]  # fmt: skip
            catalog.inventory.take_instances(cloud_id, pairs(*found), NOW)
            catalog.inventory.take_instances(cloud_id, pairs(*found[::2]), LATER)
            catalog.inventory.sweep(cloud_id, None, LATER, LATER)
        fill(catalog, catalog.inventory.page(Paging(limit=1000)).items)
        yield catalog


@pytest.fixture(scope="module")
def names(full):
    """Give what rules match all instances by, also those that are gone."""
    entries = full.inventory.page(Paging(limit=1000)).items
    return [full.instances.name(entry.instance.id) for entry in entries]


def fill(catalog, entries):
    """Give each instance a point and a job."""
    catalog.repositories.add(a_repository_entry())
    points = [
        a_point_entry(number, id=f"p-{entry.instance.id}", machine_uuid=entry.instance.id)
        for number, entry in enumerate(entries)
    ]
    catalog.points.put(points, NOW)
    for entry in entries:
        catalog.jobs.submit(a_request(subject=entry.instance.id), NOW)


def scopes():
    made = st.builds(
        lambda *fields: fields,
        st.sampled_from(CLOUDS),
        st.sampled_from((*PATHS, "", "ROOT/", "ROOT/a/")),
        st.sampled_from(IDS),
        st.sampled_from(("", "", "ann", "Ann", "eve")),
        st.sampled_from(("", "", "", "p1", "p2")),
        st.sampled_from(("", "ann-0", "ann-2", "Ann-2", "eve-2")),
    )
    return made.filter(lambda fields: any((fields[1], fields[2], fields[4]))).map(
        lambda fields: replace(TenantScope(*fields[:5]), account_id=fields[5] if fields[3] else "")
    )


@settings(max_examples=40, deadline=None)
@given(tenants=st.lists(scopes(), max_size=3))
def test_sql_and_python_agree(full, names, tenants):
    grant = Grant(tenants=tuple(tenants))
    covered = {each.uuid for each in names if grant.covers(each.uuid, each.name, each.cloud)}
    seen = full.inventory.page(Paging(limit=1000), CloudInstanceFilter(grant=grant)).items
    assert {entry.instance.id for entry in seen} == covered
    assert {each.uuid for each in full.instances.page(Paging(1000), grant=grant).items} == covered
    points = full.points.page(Paging(1000), PointFilter(grant=grant)).items
    assert {each.machine_uuid for each in points} == covered
    jobs = full.jobs.page(Paging(1000), JobFilter(grant=grant)).items
    assert {each.subject for each in jobs} == covered
    present = {each.uuid for each in full.instances.names()}
    assert {each.uuid for each in full.instances.names(grant)} == covered & present


@pytest.mark.parametrize(
    ("scope", "paths"),
    [
        (TenantScope("id-west", "ROOT/a"), {"ROOT/a", "ROOT/a/b", "ROOT/a/b/c", "ROOT/a/sub"}),
        (TenantScope("id-west", "ROOT/a/b"), {"ROOT/a/b", "ROOT/a/b/c"}),
        (TenantScope("id-west", domain_id="d1"), {"ROOT/a", "ROOT/a/b", "ROOT/a/b/c"}),
        (TenantScope("id-west", "ROOT/a", "d-new"), {"ROOT/a", "ROOT/a/sub"}),
        (TenantScope("id-west", "ROOT/a", "d-none"), set()),
        (TenantScope("id-west", "ROOT/ab", "d3", "ann", account_id="ann-9"), {"ROOT/ab"}),
        (TenantScope("id-west", "ROOT/a/b", "d2", "ann", account_id="ann-2"), {"ROOT/a/b"}),
        (TenantScope("id-west", "ROOT/a/b", "d2", "ann", account_id="ann-9"), set()),
        (TenantScope("id-west", "ROOT/a", "d2"), {"ROOT/a/b", "ROOT/a/b/c"}),
        (TenantScope("id-west", "ROOT/a", "d3", "ann"), {"ROOT/ab"}),
        (TenantScope("id-west", "ROOT/a[b]"), {"ROOT/a[b]", "ROOT/a[b]/c"}),
        (TenantScope("id-west", "ROOT/ab", account="ann"), {"ROOT/ab"}),
        (TenantScope("id-west", project_id="p3"), {"ROOT/ab"}),
        (TenantScope("id-none", "ROOT"), set()),
    ],
)
def test_what_a_scope_covers(full, scope, paths):
    wanted = CloudInstanceFilter(grant=Grant(tenants=(scope,)))
    found = full.inventory.page(Paging(limit=1000), wanted).items
    assert {entry.instance.owner.domain for entry in found} == paths
    assert {entry.cloud_id for entry in found} <= {"id-west"}
    if scope.account and paths:
        assert [entry.instance.owner.account for entry in found] == ["ann"]


def test_a_scope_that_names_nobody_is_refused():
    for scope in ({}, {"account": "ann"}, {"domain_id": "d1", "account_id": "a1"}):
        with pytest.raises(Rejected):
            TenantScope("id-west", **scope)


class TestOneTenant:
    MINE = a_cloud_instance(1, owner=Owner("d1", "ROOT/a", "ann"))
    THEIRS = a_cloud_instance(2, owner=Owner("d2", "ROOT/ab", "ann"))
    GRANT = Grant(tenants=(TenantScope("id-west", "ROOT/a"),))

    @pytest.fixture(autouse=True)
    def filled(self, catalog):
        catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
        found = pairs(self.MINE, self.THEIRS)
        catalog.inventory.take_instances("id-west", found, NOW)
        fill(catalog, catalog.inventory.page().items)

    def see(self, catalog):
        points = catalog.points.page(wanted=PointFilter(grant=self.GRANT)).items
        jobs = catalog.jobs.page(wanted=JobFilter(grant=self.GRANT)).items
        return (
            [each.uuid for each in catalog.instances.page(grant=self.GRANT).items],
            [each.machine_uuid for each in points],
            [each.subject for each in jobs],
        )

    def test_sees_its_own_only(self, catalog):
        assert self.see(catalog) == ([self.MINE.id],) * 3
        verdicts = judge_all(catalog, NOW, self.GRANT)
        assert [each.instance.uuid for each in verdicts] == [self.MINE.id]
        theirs = self.THEIRS.id
        for call in (
            lambda: catalog.inventory.instance(theirs, self.GRANT),
            lambda: catalog.instances.get(theirs, self.GRANT),
            lambda: catalog.points.get(f"p-{theirs}", "id-main", self.GRANT),
        ):
            with pytest.raises(NotFound):
                call()
        assert catalog.points.copies(f"p-{theirs}", self.GRANT) == ()

    def test_sees_what_the_cloud_has_no_longer(self, catalog):
        catalog.inventory.sweep("id-west", None, LATER, LATER)
        assert self.see(catalog) == ([self.MINE.id],) * 3
        assert catalog.instances.names(self.GRANT) == ()

    def test_loses_what_is_given_to_another(self, catalog):
        given_away = replace(self.MINE, owner=self.THEIRS.owner)
        catalog.inventory.take_instances("id-west", pairs(given_away), LATER)
        assert self.see(catalog) == ([], [], [])

    def test_sees_what_a_host_shows_too(self, catalog):
        catalog.hosts.add(a_host())
        shown = [a_machine(uuid=self.MINE.id, name="i-9"), a_machine(uuid="else", name="x")]
        catalog.instances.see("id-kvm1", shown, NOW)
        assert self.see(catalog)[0] == [self.MINE.id]

    def test_a_user_comes_back_as_it_was(self, catalog):
        user = User("ann", Role.TENANT, NOW, grant=self.GRANT)
        catalog.users.add(user)
        assert catalog.users.get("ann") == user


class TestNamesThatChangeHands:
    OLD = TenantScope("id-west", "ROOT/acme", "d-old")
    ROOT = CloudDomain("d-root", "ROOT", "ROOT")
    BEFORE = (
        ROOT,
        CloudDomain("d-old", "acme", "ROOT/acme", "d-root"),
        CloudDomain("d-old-sub", "prod", "ROOT/acme/prod", "d-old"),
    )
    AFTER = (
        ROOT,
        CloudDomain("d-old", "acme-2019", "ROOT/acme-2019", "d-root"),
        CloudDomain("d-old-sub", "prod", "ROOT/acme-2019/prod", "d-old"),
        CloudDomain("d-new", "acme", "ROOT/acme", "d-root"),
        CloudDomain("d-new-sub", "prod", "ROOT/acme/prod", "d-new"),
    )

    @pytest.fixture(autouse=True)
    def cloud(self, catalog):
        catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)

    def look(self, catalog, at, *owners, domains=(), accounts=()):
        """Take over all of a cloud, instances numbered as their owners are."""
        inventory = catalog.inventory
        for kind, found in ((CloudKind.DOMAIN, domains), (CloudKind.ACCOUNT, accounts)):
            inventory.take("id-west", kind, found, at)
            inventory.sweep("id-west", kind, at, at)
        inventory.refresh_owners("id-west")
        found = [
            a_cloud_instance(number, owner=owner)
            for number, owner in enumerate(owners)
            if owner is not None
        ]
        inventory.take_instances("id-west", pairs(*found), at)
        inventory.sweep("id-west", None, at, at)

    def seen(self, catalog, scope):
        """Give the numbers of instances in a scope, by SQL, and find that Python says the same."""
        grant = Grant(tenants=(scope,))
        page = catalog.inventory.page(Paging(100), CloudInstanceFilter(grant=grant)).items
        found = {entry.instance.id for entry in page}
        every = [
            catalog.instances.name(each.instance.id) for each in catalog.inventory.page().items
        ]
        assert {each.uuid for each in every if scope.covers(each.cloud)} == found
        return {int(uuid[-4:]) for uuid in found}

    def test_who_gets_a_domains_path_gets_no_more(self, catalog):
        mine = Owner("d-old", "ROOT/acme", "ann"), Owner("d-old-sub", "ROOT/acme/prod", "ann")
        self.look(catalog, NOW, *mine, *mine, domains=self.BEFORE)
        assert self.seen(catalog, self.OLD) == {0, 1, 2, 3}
        self.look(
            catalog, LATER,
            Owner("d-old", "ROOT/acme-2019", "ann"),
            Owner("d-old-sub", "ROOT/acme-2019/prod", "ann"),
            None, None,
            Owner("d-new", "ROOT/acme", "ann"), Owner("d-new-sub", "ROOT/acme/prod", "ann"),
            domains=self.AFTER,
        )  # fmt: skip
        assert self.seen(catalog, self.OLD) == {0, 1, 2, 3}
        assert self.seen(catalog, TenantScope("id-west", "ROOT/acme", "d-new")) == {4, 5}
        assert self.seen(catalog, TenantScope("id-west", "ROOT", "d-root")) == {0, 1, 2, 3, 4, 5}
        # Who is told by a path alone has what has that path now, and nothing that had it once.
        assert self.seen(catalog, TenantScope("id-west", "ROOT/acme")) == {4, 5}
        catalog.repositories.add(a_repository_entry())
        tenant = Tenant("t", "acme", self.OLD, repository_id="id-main")
        names = [catalog.instances.name(a_cloud_instance(number).id) for number in (3, 5)]
        places = [destination([tenant], each.cloud, "else").repository_id for each in names]
        assert places == ["id-main", "else"]

    def test_nothing_is_below_a_domain_by_its_path_alone(self):
        """A domain that no tree is known of."""
        other = CloudFacts("id-west", "", "vm", domain="ROOT/acme/prod", domain_id="d-new-sub")
        assert not self.OLD.covers(other)
        tenant = Tenant("t", "acme", self.OLD, repository_id="id-main")
        assert destination([tenant], other, "else").repository_id == "else"

    def test_a_circle_of_domains_is_no_tree(self, catalog):
        domains = (CloudDomain("d1", "a", "a", "d2"), CloudDomain("d2", "b", "a/b", "d1"))
        self.look(catalog, NOW, Owner("d1", "a", "ann"), domains=domains)
        assert self.seen(catalog, TenantScope("id-west", domain_id="d2")) == set()

    def test_an_account_that_is_made_again_inherits_nothing(self, catalog):
        ann = Owner("d", "ROOT", "ann")
        old, new = (TenantScope("id-west", "ROOT", "d", "ann", account_id=i) for i in ("a1", "a2"))
        self.look(catalog, NOW, ann, ann, accounts=[CloudAccount("a1", "ann", "d")])
        assert (self.seen(catalog, old), self.seen(catalog, new)) == ({0, 1}, set())
        # One of the old account's is left over, and the cloud knows its owner only by name.
        self.look(catalog, LATER, ann, None, ann, accounts=[CloudAccount("a2", "ann", "d")])
        assert (self.seen(catalog, old), self.seen(catalog, new)) == ({0, 1}, {2})

    def test_an_account_with_another_name_keeps_its_own(self, catalog):
        scope = TenantScope("id-west", "ROOT", "d", "ann", account_id="a1")
        catalog.tenants.add(Tenant("t", "ann", scope))
        catalog.users.add(User("cloud:x", Role.TENANT, NOW, grant=Grant(tenants=(scope,))))
        ann, zoe = Owner("d", "ROOT", "ann"), Owner("d", "ROOT", "zoe")
        accounts = [CloudAccount("a1", "ann", "d")]
        self.look(catalog, NOW, ann, ann, accounts=accounts, domains=[self.ROOT])
        accounts = [CloudAccount("a1", "zoe", "d"), CloudAccount("a2", "ann", "d")]
        domain = CloudDomain("d", "all", "ALL", "")
        self.look(catalog, LATER, zoe, None, ann, accounts=accounts, domains=[domain])
        assert self.seen(catalog, scope) == {0, 1}
        called = replace(scope, domain_path="ALL", account="zoe")
        assert catalog.tenants.get("t").scope == called
        assert catalog.users.get("cloud:x").grant == Grant(tenants=(called,))

    def test_an_instance_that_moves_is_its_new_accounts(self, catalog):
        accounts = [CloudAccount("a1", "ann", "d"), CloudAccount("a2", "bob", "d")]
        bob = TenantScope("id-west", "ROOT", "d", "bob", account_id="a2")
        self.look(catalog, NOW, Owner("d", "ROOT", "ann"), accounts=accounts)
        assert self.seen(catalog, bob) == set()
        self.look(catalog, LATER, Owner("d", "ROOT", "bob"), accounts=accounts)
        assert self.seen(catalog, bob) == {0}


class TestTenants:
    ROOT = Tenant("t1", "all", TenantScope("id-west", "ROOT"))
    ACME = Tenant("t2", "acme", TenantScope("id-west", "ROOT/acme"), quota_bytes=100)
    ANN = Tenant("t3", "ann", TenantScope("id-west", "ROOT/acme", account="ann", account_id="a1"))
    SHOP = Tenant("t4", "shop", TenantScope("id-west", project_id="p1"), "id-main", 5)

    @pytest.fixture(autouse=True)
    def tenants(self, catalog):
        catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
        catalog.repositories.add(a_repository_entry())
        for tenant in (self.ROOT, self.ACME, self.ANN, self.SHOP):
            catalog.tenants.add(tenant)

    def test_they_come_back_as_they_were(self, catalog):
        assert catalog.tenants.get("t4") == self.SHOP
        assert catalog.tenants.named("acme") == self.ACME
        assert catalog.tenants.every() == (self.ACME, self.ROOT, self.ANN, self.SHOP)
        assert catalog.tenants.page(search="AC").items == (self.ACME,)
        assert catalog.tenants.page(repository_id="id-main").items == (self.SHOP,)
        with pytest.raises(AlreadyExists, match="tenant named acme"):
            catalog.tenants.add(replace(self.ACME, id="t9"))
        with pytest.raises(Rejected):
            replace(self.ACME, quota_bytes=-1)

    def test_they_are_edited_and_removed(self, catalog):
        edited = catalog.tenants.edit("t2", name="a", quota_bytes=7, repository_id="id-main")
        assert edited == replace(self.ACME, name="a", quota_bytes=7, repository_id="id-main")
        scope = TenantScope("id-west", "ROOT/b")
        edited = catalog.tenants.edit("t2", scope=scope, quota_bytes=-1, repository_id="")
        assert edited == Tenant("t2", "a", scope)
        catalog.tenants.remove("t2")
        for call in (catalog.tenants.get, catalog.tenants.remove, catalog.tenants.edit):
            with pytest.raises(NotFound):
                call("t2")
        with pytest.raises(NotFound):
            catalog.tenants.named("a")

    def test_a_repository_of_a_tenant_stays(self, catalog):
        with pytest.raises(Conflict, match="tenant shop"):
            catalog.repositories.remove("id-main")
        catalog.tenants.edit("t4", repository_id="")
        catalog.repositories.remove("id-main")

    @pytest.mark.parametrize(
        ("owner", "tenant"),
        [
            (Owner("d", "ROOT/acme", "ann"), ANN),
            (Owner("d", "ROOT/acme", "bob"), ACME),
            (Owner("d", "ROOT/acme/sub", "ann"), ACME),
            (Owner("d", "ROOT/acmes", "ann"), ROOT),
            (Owner("d", "ROOT/acme", "", "p1"), SHOP),
            (Owner("d", "ROOT/acme", "", "p2"), ACME),
            (Owner("d", "OTHER", "ann"), None),
        ],
    )
    def test_the_closest_counts(self, catalog, owner, tenant):
        assert catalog.tenants.of(owner, "id-west") == tenant
        assert catalog.tenants.of(owner, "id-east") is None

    def test_what_they_store(self, catalog):
        found = [
            a_cloud_instance(1, owner=Owner("d", "ROOT/acme", "ann")),
            a_cloud_instance(2, owner=Owner("d", "ROOT/acme/sub", "bob")),
            a_cloud_instance(3, owner=Owner("e", "ROOT/other", "eve")),
        ]
        catalog.inventory.take_instances("id-west", pairs(*found), NOW)
        catalog.inventory.sweep("id-west", None, LATER, LATER)
        points = [
            a_point_entry(number, machine_uuid=each.id, stored_bytes=10**number)
            for number, each in enumerate(found)
        ]
        catalog.points.put(points, NOW)
        stored = [catalog.tenants.stored_bytes(each) for each in catalog.tenants.every()]
        assert stored == [11, 111, 1, 0]
