"""Signing in with the keys of a cloud, which is asked who that is: a management server on paper."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from sendense import clock
from sendense.api.logins import Logins
from sendense.catalog.audit import AuditFilter
from sendense.catalog.tables import CLOUD_INSTANCES
from sendense.model.access import Grant, Outcome, Role, TenantScope, User
from sendense.model.cloud import CloudKeys
from sendense.model.secret import Secret
from sendense.workflows.managed.cloud_sync import look_at_instances
from sendense_lab.simulator.records import Domain
from sendense_lab.simulator.simulator import Simulator
from tests.support.catalogs import catalog_at, new_urls
from tests.support.cloud_logins import clouds
from tests.support.clouds import a_cloud
from tests.support.fleet import NOW


@pytest.fixture
def cloud(site):
    site.services.logins = Logins(allowed=10)
    with clouds(site) as found:
        yield found


@pytest.fixture(params=["4.18", "4.20", "4.23"])
def any_cloud(request, site):
    with clouds(site, version=request.param) as found:
        yield found


def uuids(client):
    return {each["uuid"] for each in client.get("/instances").json()["items"]}


def test_an_account_sees_its_own_and_its_projects(any_cloud):
    cloud, simulator = any_cloud, any_cloud.simulator
    ann = simulator.create_account("ann", domain="ROOT/acme")
    simulator.create_account("bob", domain="ROOT/acme")
    accounts = {name: simulator.account(name, "ROOT/acme") for name in ("ann", "bob")}
    shop = cloud.project("shop", accounts["bob"], accounts["ann"])
    other = cloud.project("other", accounts["bob"])
    with simulator.world.lock:
        owners = [simulator.world.owner_of(each) for each in (shop, other)]
    vms = {
        name: simulator.add_instance(name, account=account)
        for name, account in (*accounts.items(), *zip(("shop", "other"), owners, strict=True))
    }
    cloud.look()
    client, user = cloud.as_user(ann)
    account = accounts["ann"]
    assert user.name == f"cloud:id-west:{account.domain_id}:{account.id}"
    assert user.called == "ROOT/acme/ann"
    assert user.role is Role.TENANT
    home = TenantScope("id-west", "ROOT/acme", account.domain_id, "ann", account_id=account.id)
    assert user.grant == Grant(tenants=(home, TenantScope("id-west", project_id=shop.id)))
    assert uuids(client) == {vms["ann"].id, vms["shop"].id}
    assert client.get(f"/instances/{vms['bob'].id}").status_code == 404
    assert client.get("/hosts").status_code == 403
    me = client.get("/whoami").json()
    assert (me["user"], me["called"]) == (user.name, "ROOT/acme/ann")


def test_the_administrator_of_a_domain_sees_what_is_below(any_cloud):
    cloud, simulator = any_cloud, any_cloud.simulator
    dora = simulator.create_account("dora", domain="ROOT/acme", role="Domain Admin")
    places = ("ROOT", "ROOT/acme", "ROOT/acme/lab", "ROOT/acmes")
    vms = {}
    for number, place in enumerate(places):
        simulator.create_account(f"u{number}", domain=place)
        account = simulator.account(f"u{number}", place)
        vms[place] = simulator.add_instance(f"vm{number}", account=account)
    cloud.look()
    client, user = cloud.as_user(dora)
    assert [scope.account for scope in user.grant.tenants] == ["dora", ""]
    assert uuids(client) == {vms["ROOT/acme"].id, vms["ROOT/acme/lab"].id}


def test_who_gets_the_path_of_a_domain_is_not_below_it(any_cloud):
    cloud, simulator = any_cloud, any_cloud.simulator
    dora = simulator.create_account("dora", domain="ROOT/acme", role="Domain Admin")
    simulator.create_account("ann", domain="ROOT/acme/prod")
    mine = simulator.add_instance("mine", account=simulator.account("ann", "ROOT/acme/prod"))
    cloud.look()
    client, user = cloud.as_user(dora)
    with simulator.world.lock:
        for domain in simulator.world.all(Domain):
            domain.path = domain.path.replace("ROOT/acme", "ROOT/acme-2019")
        next(each for each in simulator.world.all(Domain) if each.name == "acme").name += "-2019"
    new = simulator.create_account("new", domain="ROOT/acme", role="Domain Admin")
    simulator.create_account("bob", domain="ROOT/acme/prod")
    simulator.add_instance("bob", account=simulator.account("bob", "ROOT/acme/prod"))
    cloud.look()
    assert uuids(client) == {mine.id}
    home = cloud.site.catalog.users.get(user.name).grant.tenants[0]
    assert home.domain_path == "ROOT/acme-2019"
    client, _ = cloud.as_user(new)
    assert {each["name"] for each in client.get("/cloudstack/vms").json()["items"]} == {"bob"}


@pytest.mark.parametrize("role", ["Root Admin", "Domain Admin"])
def test_power_over_the_cloud_is_none_here(cloud, role):
    simulator = cloud.simulator
    mine = simulator.create_account("boss", role=role)
    simulator.create_account("ann", domain="ROOT/acme")
    own = simulator.add_instance("own", account=simulator.account("boss"))
    simulator.add_instance("hers", account=simulator.account("ann", "ROOT/acme"))
    cloud.look()
    client, user = cloud.as_user(mine)
    assert uuids(client) == {own.id}
    assert user.role is Role.TENANT
    assert client.get("/tenants").status_code == 403


def test_what_an_account_may_see_is_found_anew_each_time(cloud):
    simulator = cloud.simulator
    ann = simulator.create_account("ann")
    first, _ = cloud.as_user(ann)
    shop = cloud.project("shop", simulator.account("admin"), simulator.account("ann"))
    with simulator.world.lock:
        owner = simulator.world.owner_of(shop)
    vm = simulator.add_instance("web", account=owner)
    cloud.look()
    assert uuids(first) == set()
    cloud.as_user(ann)
    assert uuids(first) == {vm.id}  # it is one user, however many tokens there are
    with simulator.world.lock:
        shop.member_ids.clear()
    cloud.as_user(ann)
    assert uuids(first) == set()


def test_the_token_ends(cloud):
    cloud.site.services.logins = Logins(lasts_s=3600)
    keys = cloud.simulator.create_account("ann")
    made = cloud.log_in(keys).json()
    ends = datetime.fromisoformat(made["expires_at"])
    assert timedelta(minutes=59) < ends - clock.now() <= timedelta(hours=1)
    # A token of its own lasts no longer than the login.
    client = cloud.site.client(token=made["token"])
    again = client.post("/tokens", json={"name": "script", "expires_in_s": 86400}).json()
    assert datetime.fromisoformat(again["expires_at"]) == ends


def test_tokens_that_ended_are_forgotten_at_the_next_login(cloud):
    keys = cloud.simulator.create_account("ann")
    name = cloud.as_user(keys)[1].name
    cloud.site.catalog.tokens.issue(name, "old", NOW, expires_at=NOW)
    cloud.as_user(keys)
    tokens = cloud.site.catalog.tokens.page(user=name).items
    assert "old" not in {token.name for token in tokens}
    assert len(tokens) == 2


def test_nobody_signs_in_where_that_is_off(cloud):
    cloud.site.services.logins = Logins(lasts_s=0)
    answer = cloud.log_in(cloud.simulator.create_account("ann"))
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported")


def test_keys_that_do_not_count_and_clouds_that_are_none_look_the_same(cloud):
    ann = cloud.simulator.create_account("ann")
    wrong = [
        cloud.log_in((ann[0], "not the secret")),
        cloud.log_in(("not-the-key", ann[1])),
        cloud.log_in(ann, "east"),
    ]
    cloud.site.catalog.clouds.edit(cloud.id, enabled=False)
    wrong.append(cloud.log_in(ann))
    assert {answer.status_code for answer in wrong} == {401}
    assert len({answer.text for answer in wrong}) == 1
    assert cloud.site.catalog.users.page(search="cloud:").items == ()


def test_a_locked_account_is_kept_out(cloud):
    keys = cloud.simulator.create_account("ann")
    with cloud.simulator.world.lock:
        cloud.simulator.account("ann").state = "locked"
    assert cloud.log_in(keys).status_code == 401


def test_who_tries_too_often_waits(cloud):
    cloud.site.services.logins = Logins(allowed=3)
    ann = cloud.simulator.create_account("ann")
    cloud.as_user(ann)
    for _ in range(3):
        assert cloud.log_in(("a", "b")).status_code == 401
    refused = cloud.log_in(("a", "b"))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    denied = AuditFilter(action="sign_in_cloudstack", outcome=Outcome.DENIED)
    assert len(cloud.site.catalog.audit.page(wanted=denied).items) == 3
    # Behind a proxy all have one address: whoever got in a moment ago still does.
    cloud.as_user(ann)
    # Who is not heard writes nothing down: that would fill the audit log.
    audit = cloud.site.catalog.audit.page(wanted=AuditFilter(action="sign_in_cloudstack")).items
    assert [each.outcome for each in audit] == [Outcome.DONE, *[Outcome.DENIED] * 3, Outcome.DONE]


def test_few_are_signing_in_at_once(cloud):
    cloud.site.services.logins = logins = Logins(at_once=1)
    ann = cloud.simulator.create_account("ann")
    with logins.place("another"):
        assert cloud.log_in(ann).status_code == 201
    with logins.place(cloud.id):
        assert cloud.log_in(ann).status_code == 429
    assert cloud.log_in(ann).status_code == 201


def test_a_cloud_that_is_away(cloud):
    ann = cloud.simulator.create_account("ann")
    cloud.simulator.down()
    answer = cloud.log_in(ann)
    assert answer.status_code == 503
    assert cloud.simulator.url not in answer.text
    assert answer.json()["message"] == "the cloud does not answer now"


def test_who_asks_a_cloud_that_is_away_waits_too(cloud):
    cloud.site.services.logins = Logins(allowed=2)
    ann = cloud.simulator.create_account("ann")
    cloud.simulator.down()
    assert [cloud.log_in(ann).status_code for _ in range(4)] == [503, 503, 429, 429]


def test_it_is_written_down_and_the_secret_is_nowhere(cloud, caplog):
    caplog.set_level(logging.DEBUG)
    ann = cloud.simulator.create_account("ann")
    made = cloud.log_in(ann).json()
    cloud.log_in((ann[0], "not-the-secret"))
    user = cloud.site.catalog.cloud_users.of_cloud(cloud.id)[0]
    audit = cloud.site.catalog.audit.page(wanted=AuditFilter(action="sign_in_cloudstack")).items
    assert [(each.who, each.outcome) for each in audit] == [
        ("", Outcome.DENIED),
        (user.name, Outcome.DONE),
    ]
    assert audit[1].detail == {"token": made["id"], "account": "ROOT/ann"}
    said = caplog.text + repr(audit)
    for secret in (*ann, "not-the-secret", made["token"]):
        assert secret not in said


def test_a_disabled_user_stays_disabled(cloud):
    keys = cloud.simulator.create_account("ann")
    client, user = cloud.as_user(keys)
    admin = cloud.site.client()
    path = f"/users/{user.name}"
    shown = admin.get(path).json()
    assert (shown["name"], shown["called"]) == (user.name, "ROOT/ann")
    assert admin.patch(path, json={"disabled": True}).status_code == 200
    assert client.get("/whoami").status_code == 401
    assert cloud.log_in(keys).status_code == 401
    admin.patch(path, json={"disabled": False})
    cloud.as_user(keys)
    assert admin.delete(path).status_code == 204


def test_an_account_that_is_gone_ends_its_user(cloud):
    simulator = cloud.simulator
    keys = {name: simulator.create_account(name) for name in ("ann", "bob", "eve")}
    cloud.look()
    clients = {name: cloud.as_user(each)[0] for name, each in keys.items()}
    with simulator.world.lock:
        simulator.account("ann").state = "removed"
        simulator.account("bob").state = "disabled"
    cloud.look()
    cloud.look()  # what one look missed is not gone yet
    users = cloud.site.catalog.cloud_users.of_cloud(cloud.id)
    assert {user.called for user in users if user.disabled} == {"ROOT/ann"}
    status = {name: client.get("/whoami").status_code for name, client in clients.items()}
    assert status == {"ann": 401, "bob": 401, "eve": 200}
    with simulator.world.lock:
        simulator.account("bob").state = "enabled"
    cloud.as_user(keys["bob"])
    # Who has the name now is somebody else.
    _, other = cloud.as_user(simulator.create_account("ann"))
    assert other.called == "ROOT/ann"
    assert clients["ann"].get("/whoami").status_code == 401


def test_an_account_that_is_made_again_has_nothing_of_the_old_ones(cloud):
    """All between two looks: only the id tells."""
    simulator = cloud.simulator
    keys = simulator.create_account("ann")
    old = simulator.add_instance("old", account=simulator.account("ann"))
    cloud.look()
    first, user = cloud.as_user(keys)
    with simulator.world.lock:
        simulator.account("ann").state = "removed"
        simulator.world.remove(simulator.world.get(type(old), old.id))
    again = simulator.create_account("ann")
    second, other = cloud.as_user(again)
    assert uuids(second) == set()
    new = simulator.add_instance("new", account=simulator.account("ann"))
    cloud.look()
    assert uuids(second) == {new.id}
    assert first.get("/whoami").status_code == 401
    users = {each.name: each.disabled for each in cloud.site.catalog.cloud_users.of_cloud(cloud.id)}
    assert users == {user.name: True, other.name: False}


def test_a_new_instance_is_its_owners_before_the_next_whole_look(any_cloud):
    cloud, simulator = any_cloud, any_cloud.simulator
    simulator.create_account("ann")
    dora = simulator.create_account("dora", domain="ROOT/acme", role="Domain Admin")
    cloud.look()
    with simulator.world.lock:
        simulator.account("ann").state = "removed"
    old, _ = cloud.as_user(dora)
    new, _ = cloud.as_user(simulator.create_account("ann"))
    bob = simulator.create_account("bob", domain="ROOT/acme/lab")
    places = {"ann": "ROOT", "bob": "ROOT/acme/lab"}
    vms = {
        name: simulator.add_instance(name, account=simulator.account(name, place)).id
        for name, place in places.items()
    }
    looked = look_at_instances(cloud.estate, cloud.id, list(vms.values()))
    assert set(looked.new) == set(vms.values())
    assert uuids(new) == {vms["ann"]}
    assert uuids(old) == {vms["bob"]}
    assert uuids(cloud.as_user(bob)[0]) == {vms["bob"]}
    with cloud.site.catalog.database.read() as connection:
        ids = connection.execute(select(CLOUD_INSTANCES.c.account_id)).scalars().all()
    assert set(ids) == {simulator.account(name, place).id for name, place in places.items()}


def test_names_that_change_hands_make_nobody_somebody_else(cloud):
    """A cloud and a domain get other names, and others get theirs."""
    site, simulator = cloud.site, cloud.simulator
    ann = simulator.create_account("ann", domain="ROOT/acme")
    cloud.look()
    first, user = cloud.as_user(ann)
    with simulator.world.lock:
        domain = simulator.world.get(Domain, simulator.account("ann", "ROOT/acme").domain_id)
        domain.name, domain.path = "acme-2019", "ROOT/acme-2019"
    second, other = cloud.as_user(simulator.create_account("ann", domain="ROOT/acme"))
    assert other.name != user.name
    site.catalog.clouds.edit(cloud.id, name="west-old")
    with Simulator(job_s=0.02) as another:
        keys = CloudKeys(another.admin_keys.api_key, Secret(another.admin_keys.secret))
        site.catalog.clouds.add(a_cloud("west", id="id-2", endpoint=another.url), keys)
        third, last = cloud.as_user(another.create_account("ann", domain="ROOT/acme"))
    assert len({user.name, other.name, last.name}) == 3
    assert site.catalog.users.get(user.name).grant == user.grant
    assert [each.get("/whoami").json()["user"] for each in (first, second, third)] == [
        user.name, other.name, last.name,
    ]  # fmt: skip


def test_an_account_that_comes_back_has_its_user_again(cloud):
    simulator = cloud.simulator
    client, user = cloud.as_user(simulator.create_account("ann"))
    cloud.look()
    with simulator.world.lock:
        account = simulator.account("ann")
        account.state = "removed"
    cloud.look()
    assert not cloud.site.catalog.users.get(user.name).disabled
    cloud.look()
    assert cloud.site.catalog.users.get(user.name).disabled
    with simulator.world.lock:
        account.state = "enabled"
    cloud.look()
    assert not cloud.site.catalog.users.get(user.name).disabled
    assert client.get("/whoami").status_code == 200


def test_users_go_with_their_cloud(cloud):
    client, _ = cloud.as_user(cloud.simulator.create_account("ann"))
    cloud.site.client().delete(f"/clouds/{cloud.id}")
    assert client.get("/whoami").status_code == 401
    assert cloud.site.catalog.users.page(search="cloud:").items == ()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_users_of_clouds_in_each_database(kind):
    other = Grant(tenants=(TenantScope("id-east", "ROOT", "d0", "ann"),))
    mine = Grant(tenants=(TenantScope("id-west", "ROOT", "d0", "ann"),))
    with new_urls(kind) as new_url, catalog_at(new_url()) as catalog:
        catalog.cloud_users.sign_in("cloud:west:ROOT/ann", mine, NOW)
        catalog.cloud_users.sign_in("cloud:east:ROOT/ann", other, NOW)
        catalog.tokens.issue("cloud:west:ROOT/ann", "t", NOW)
        assert [each.grant for each in catalog.cloud_users.of_cloud("id-west")] == [mine]
        name = "cloud:west:ROOT/ann"
        assert catalog.cloud_users.end("id-west", {}, [name]) == (name,)
        assert catalog.tokens.page().items == ()
        gone = {name: "a1", "cloud:east:ROOT/ann": "a1"}
        assert catalog.cloud_users.end("id-west", gone, []) == (name,)
        assert catalog.cloud_users.end("id-west", gone, []) == ()
        assert [each.disabled for each in catalog.users.page().items] == [False, True]
        assert catalog.cloud_users.resume("id-west", {"a2"}) == ()
        assert catalog.cloud_users.resume("id-west", {"a1"}) == (name,)
        catalog.cloud_users.end("id-west", gone, [])
        catalog.users.add(User("root", Role.ADMIN, NOW))
        catalog.users.edit(name, disabled=True)
        assert catalog.cloud_users.resume("id-west", {"a1"}) == ()


@pytest.mark.parametrize(
    "home", [{"domain_id": "d1"}, {"account": "eve", "account_id": ""}, {"account_id": "a2"}]
)
def test_who_is_another_account_gets_no_token_of_the_one_before(site, home):
    users, tokens = site.catalog.cloud_users, site.catalog.tokens
    scope = TenantScope("id-west", "ROOT", "d0", "ann", account_id="a1")
    user = users.sign_in("cloud:west", Grant(tenants=(scope,)), NOW)
    tokens.issue(user.name, "t", NOW)
    users.sign_in("cloud:west", Grant(tenants=(replace(scope, domain_path="ROOT/new"),)), NOW)
    assert len(tokens.page(user=user.name).items) == 1
    users.sign_in("cloud:west", Grant(tenants=(replace(scope, **home),)), NOW)
    assert tokens.page(user=user.name).items == ()
