"""Signing in with a name and a password of a cloud: a management server on paper, both databases.

What follows from who that is, is the same as with keys, and tested there.
"""

from __future__ import annotations

import logging
import threading

import pytest

from sendense.api.logins import Logins
from sendense.catalog.audit import AuditFilter
from sendense.model.access import Outcome, Role
from sendense.model.cloud_login import CloudLogin
from sendense.model.secret import Secret
from sendense_lab.simulator import seed
from sendense_lab.simulator.records import Domain, User
from tests.integration.api.test_secrets import dump
from tests.support.api_site import api_site, fill
from tests.support.catalogs import catalog_at, new_urls
from tests.support.cloud_logins import PLACE, clouds

PASSWORD = "blätter & +%20 wald "
ACTION = "sign_in_cloudstack_password"
ALL_EQUAL = "the cloud is not known here, or does not accept this user and password"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def urls(request):
    with new_urls(request.param) as found:
        yield found


@pytest.fixture
def url(urls):
    return urls()


@pytest.fixture
def site(url, tmp_path):
    with catalog_at(url) as catalog:
        fill(catalog)
        with api_site(catalog, tmp_path) as served:
            served.services.logins = Logins(passwords=True, allowed=100, guesses=100)
            yield served


@pytest.fixture
def cloud(site):
    with clouds(site) as found:
        found.simulator.create_account("ann", domain="ROOT/acme", password=PASSWORD)
        yield found


def denied(cloud):
    wanted = AuditFilter(action=ACTION, outcome=Outcome.DENIED)
    return cloud.site.catalog.audit.page(wanted=wanted).items


def names(client):
    return {each["name"] for each in client.get("/cloudstack/vms").json()["items"]}


def test_it_is_the_user_that_keys_of_the_account_give(cloud):
    simulator = cloud.simulator
    account = simulator.account("ann", "ROOT/acme")
    simulator.add_instance("hers", account=account)
    simulator.add_instance("others")
    cloud.look()
    client, user = cloud.let_in(cloud.by_password("ann", PASSWORD, "ROOT/acme"))
    assert (user.role, user.called) == (Role.TENANT, "ROOT/acme/ann")
    assert user.name == f"cloud:id-west:{account.domain_id}:{account.id}"
    assert names(client) == {"hers"}
    assert cloud.as_user(simulator.keys_of(account))[1] == user
    assert (simulator.sessions.begun, simulator.sessions.open) == (1, 0)
    token = client.get("/tokens").json()["items"]
    assert {each["name"] for each in token} == {"password of west", "keys of west"}
    again = client.post("/tokens", json={"name": "x", "expires_in_s": 864000}).json()
    assert again["expires_at"] in {each["expires_at"] for each in token}


def test_the_same_name_in_another_domain_is_somebody_else(cloud):
    cloud.simulator.create_account("ann", domain="ROOT/other", password="another")
    cloud.simulator.create_account("ann", password="root's")
    found = [
        cloud.let_in(cloud.by_password("ann", password, domain))[1].name
        for password, domain in ((PASSWORD, "acme"), ("another", "/other"), ("root's", ""))
    ]
    assert len(set(found)) == 3
    assert cloud.by_password("ann", PASSWORD, "other").status_code == 401
    assert cloud.by_password("ann", PASSWORD).status_code == 401


def test_who_gets_the_name_of_somebody_is_not_that_one(cloud):
    """The path and the name change hands; what the first one owned does not."""
    simulator, world = cloud.simulator, cloud.simulator.world
    simulator.add_instance("hers", account=simulator.account("ann", "ROOT/acme"))
    cloud.look()
    first, user = cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))
    with world.lock:
        place = next(each for each in world.all(Domain) if each.name == "acme")
        place.name, place.path = "acme-2019", "ROOT/acme-2019"
    simulator.create_account("ann", domain="ROOT/acme", password="new")
    second, other = cloud.let_in(cloud.by_password("ann", "new", "acme"))
    assert other.name != user.name
    assert (names(first), names(second)) == ({"hers"}, set())
    _, same = cloud.let_in(cloud.by_password("ann", PASSWORD, "acme-2019"))
    assert same.name == user.name
    with world.lock:
        simulator.account("ann", "ROOT/acme-2019").state = "removed"
        seed.add_account(world, "ann", simulator.domain("ROOT/acme-2019"), "User")
        again = simulator.account("ann", "ROOT/acme-2019")
        seed.user_of(world, again).password = PASSWORD
    third, last = cloud.let_in(cloud.by_password("ann", PASSWORD, "acme-2019"))
    assert last.name not in {user.name, other.name}
    assert names(third) == set()


def test_two_users_of_one_account_are_one_user_here(cloud):
    account = cloud.simulator.account("ann", "ROOT/acme")
    with cloud.simulator.world.lock:
        cloud.simulator.world.add(User(name="bea", account_id=account.id, password="her own"))
    found = {
        cloud.let_in(cloud.by_password(user, password, "acme"))[1].name
        for user, password in (("ann", PASSWORD), ("bea", "her own"))
    }
    assert len(found) == 1


def test_power_over_the_cloud_is_none_here(cloud):
    cloud.simulator.create_account("boss", role="Root Admin", password="boss's")
    cloud.simulator.add_instance("hers", account=cloud.simulator.account("ann", "ROOT/acme"))
    cloud.look()
    client, user = cloud.let_in(cloud.by_password("boss", "boss's"))
    assert user.role is Role.TENANT
    assert names(client) == set()
    assert client.get("/tenants").status_code == 403


def test_the_administrator_of_a_domain_sees_what_is_below(cloud):
    cloud.simulator.create_account(
        "dora", domain="ROOT/acme", role="Domain Admin", password="dora's"
    )
    cloud.simulator.create_account("eve", domain="ROOT/acme/lab")
    cloud.simulator.create_account("bob", domain="ROOT/acmes")
    for name, place in (("ann", "ROOT/acme"), ("eve", "ROOT/acme/lab"), ("bob", "ROOT/acmes")):
        cloud.simulator.add_instance(name, account=cloud.simulator.account(name, place))
    cloud.look()
    client, _ = cloud.let_in(cloud.by_password("dora", "dora's", "acme"))
    assert names(client) == {"ann", "eve"}


def test_all_that_is_wrong_looks_the_same(cloud):
    wrong = [
        cloud.by_password("ann", "x", "acme"),
        cloud.by_password("bob", PASSWORD, "acme"),
        cloud.by_password("ann", PASSWORD, "nowhere"),
        cloud.by_password("ann", PASSWORD, "acme", cloud="east"),
    ]
    cloud.simulator.account("ann", "ROOT/acme").state = "locked"
    wrong.append(cloud.by_password("ann", PASSWORD, "acme"))
    cloud.simulator.account("ann", "ROOT/acme").state = "enabled"
    cloud.site.catalog.clouds.edit(cloud.id, enabled=False)
    wrong.append(cloud.by_password("ann", PASSWORD, "acme"))
    assert {answer.status_code for answer in wrong} == {401}
    assert {answer.json()["message"] for answer in wrong} == {ALL_EQUAL}
    assert len({answer.text for answer in wrong}) == 1
    assert cloud.site.catalog.users.page(search="cloud:").items == ()
    assert cloud.simulator.sessions.open == 0
    assert len(denied(cloud)) == len(wrong)


@pytest.mark.parametrize("what", ["user", "account"])
def test_who_is_disabled_in_the_cloud_or_here(cloud, what):
    simulator = cloud.simulator
    _, user = cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))
    row = simulator.account("ann", "ROOT/acme")
    row = row if what == "account" else simulator.world.named(User, "ann")
    row.state = "disabled"
    assert cloud.by_password("ann", PASSWORD, "acme").status_code == 401
    row.state = "enabled"
    cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))
    cloud.site.client().patch(f"/users/{user.name}", json={"disabled": True})
    assert cloud.by_password("ann", PASSWORD, "acme").status_code == 401


def test_a_second_factor_is_told_and_keys_are_named(cloud):
    cloud.simulator.world.named(User, "ann").two_factor = True
    answer = cloud.by_password("ann", PASSWORD, "acme")
    assert (answer.status_code, answer.json()["code"]) == (401, "second-step")
    assert "API keys" in answer.json()["hint"]
    assert cloud.by_password("ann", "x", "acme").json()["code"] == "not-signed-in"
    assert cloud.simulator.sessions.open == 0
    account = cloud.simulator.account("ann", "ROOT/acme")
    cloud.as_user(cloud.simulator.keys_of(account))


def test_who_is_disabled_here_learns_no_more_than_others(cloud, caplog):
    """Neither by the words nor by how often: a right password is counted as a wrong one is."""
    caplog.set_level(logging.INFO, logger="sendense")
    cloud.site.services.logins = Logins(passwords=True, allowed=100, guesses=2)
    _, user = cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))
    cloud.simulator.create_account("bob", domain="ROOT/acme", password="bob's")
    cloud.site.client().patch(f"/users/{user.name}", json={"disabled": True})
    right = [cloud.by_password("ann", PASSWORD, "acme") for _ in range(3)]
    wrong = [cloud.by_password("bob", "x", "acme") for _ in range(3)]
    assert [answer.status_code for answer in right] == [401, 401, 429]
    assert [answer.text for answer in right] == [answer.text for answer in wrong]
    assert f"the user {user.name} is disabled" in caplog.text
    assert len(denied(cloud)) == 4


def test_a_user_s_password_is_tried_a_few_times_only(cloud):
    """Then no password is tried, so that the right one is not told from the others."""
    cloud.site.services.logins = Logins(passwords=True, allowed=100, guesses=4)
    cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))
    for user, domain in (
        ("ann", "acme"),
        ("ANN", "/acme/"),
        ("ann ", "ROOT/acme"),
        ("ánn", "acme"),
    ):
        assert cloud.by_password(user, "x", domain).status_code == 401
    tried = cloud.simulator.sessions.begun
    refused = [cloud.by_password("ann", each, "acme") for each in ("x", PASSWORD)]
    by_id = cloud.by_password("ann", PASSWORD, "acme", cloud=cloud.id)
    assert {answer.status_code for answer in (*refused, by_id)} == {429}
    assert len({answer.json()["message"] for answer in refused}) == 1
    assert int(refused[0].headers["retry-after"]) > 200
    assert cloud.simulator.sessions.begun == tried
    assert cloud.simulator.world.named(User, "ann").state == "enabled"
    assert len(denied(cloud)) == 4  # who is not heard writes nothing down
    # Keys are the way that is left, and others are not kept out.
    cloud.as_user(cloud.simulator.keys_of(cloud.simulator.account("ann", "ROOT/acme")))
    cloud.simulator.create_account("bob", password="bob's")
    cloud.let_in(cloud.by_password("bob", "bob's"))


def test_an_address_that_fails_too_often_waits(cloud):
    """A right password is no way around it; who was let in a moment ago is heard still."""
    cloud.site.services.logins = Logins(passwords=True, allowed=3, guesses=100)
    cloud.simulator.create_account("bob", password="bob's")
    cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))
    for number in range(3):
        assert cloud.by_password(f"user{number}", "x").status_code == 401
    assert cloud.by_password("user9", "x").status_code == 429
    assert cloud.by_password("bob", "bob's").status_code == 429
    cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))


def test_many_guesses_at_once_are_one_at_a_time(cloud):
    cloud.site.services.logins = logins = Logins(
        passwords=True, allowed=100, at_once=10, guesses=100
    )
    tried = threading.Event()
    subject = CloudLogin("ann", Secret(PASSWORD), "acme").subject
    with logins.guess(f"id-west\n{subject}"):
        assert cloud.by_password("ann", PASSWORD, "acme").status_code == 429
        tried.set()
    assert tried.is_set()
    cloud.let_in(cloud.by_password("ann", PASSWORD, "acme"))


def test_a_cloud_that_is_away_or_breaks_off(cloud):
    cloud.simulator.faults.reset(times=10, command="listUsers")
    answer = cloud.by_password("ann", PASSWORD, "acme")
    assert (answer.status_code, answer.json()["message"]) == (503, "the cloud does not answer now")
    assert cloud.simulator.sessions.open == 0
    cloud.simulator.faults.clear()
    cloud.simulator.down()
    answer = cloud.by_password("ann", PASSWORD, "acme")
    assert answer.status_code == 503
    assert cloud.simulator.url not in answer.text


def test_no_password_goes_over_a_way_that_is_not_encrypted(cloud):
    cloud.site.catalog.clouds.edit(cloud.id, endpoint="http://192.0.2.1/client/api")
    answer = cloud.by_password("ann", PASSWORD, "acme")
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported")
    assert "192.0.2.1" not in answer.text


def test_what_never_reaches_the_cloud_counts_too_and_is_not_written_down(cloud):
    cloud.site.services.logins = Logins(passwords=True, allowed=3)
    cloud.site.catalog.clouds.edit(cloud.id, endpoint="http://192.0.2.1/client/api")
    answers = [cloud.by_password(f"user{number}", PASSWORD) for number in range(5)]
    assert [answer.status_code for answer in answers] == [422] * 3 + [429] * 2
    assert cloud.site.catalog.audit.page(wanted=AuditFilter(action=ACTION)).items == ()


def test_who_asks_a_cloud_that_is_away_waits_too(cloud):
    """Nobody fills the audit log by it, and it may count such a password all the same."""
    cloud.site.services.logins = Logins(passwords=True, allowed=3, guesses=2)
    cloud.simulator.down()
    users = ("ann", "ann", "ann", "bob", "eve")
    answers = [cloud.by_password(user, PASSWORD, "acme").status_code for user in users]
    assert answers == [503, 503, 429, 503, 429]
    assert len(cloud.site.catalog.audit.page(wanted=AuditFilter(action=ACTION)).items) == 3


def test_nobody_signs_in_where_that_is_off(cloud):
    cloud.site.services.logins = Logins(passwords=True, lasts_s=0)
    answer = cloud.by_password("ann", PASSWORD, "acme")
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported")
    assert cloud.simulator.sessions.begun == 0


def test_passwords_may_be_off_and_keys_on(cloud):
    """As they are where nobody turned them on."""
    cloud.site.services.logins = Logins()
    answer = cloud.by_password("ann", PASSWORD, "acme")
    assert (answer.status_code, answer.json()["code"]) == (422, "unsupported")
    assert answer.json()["message"] == "nobody signs in here with the password of a cloud"
    assert "API keys" in answer.json()["hint"]
    assert "cloud_login_passwords" in answer.json()["hint"]
    assert cloud.simulator.sessions.begun == 0
    assert cloud.site.catalog.audit.page(wanted=AuditFilter(action=ACTION)).items == ()
    cloud.as_user(cloud.simulator.keys_of(cloud.simulator.account("ann", "ROOT/acme")))


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": ""},
        {"password": None},
        {"password": ["t0psecret"]},
        {"user": ""},
        {"user": "a\nb"},
        {"domain": "\0"},
        {"api_key": "k"},
    ],
)
def test_what_does_not_fit_is_refused_and_not_repeated(cloud, wrong):
    body = {"cloud": "west", "user": "ann", "password": "t0psecret", "domain": "acme", **wrong}
    answer = cloud.site.client(None).post(f"{PLACE}/password", json=body)
    assert answer.status_code == 422
    assert "t0psecret" not in answer.text
    assert cloud.simulator.sessions.begun == 0


def test_the_password_is_nowhere(cloud, url, caplog):
    caplog.set_level(logging.DEBUG, logger="sendense")
    cloud.look()
    made = cloud.by_password("ann", PASSWORD, "acme")
    refused = cloud.by_password("typed-a-s3cret-here", "not-the-password", "acme")
    user = cloud.site.catalog.cloud_users.of_cloud(cloud.id)[0]
    audit = cloud.site.catalog.audit.page(wanted=AuditFilter(action=ACTION)).items
    assert [(each.who, each.outcome) for each in audit] == [
        ("", Outcome.DENIED),
        (user.name, Outcome.DONE),
    ]
    assert audit[1].detail == {"token": made.json()["id"], "account": "ROOT/acme/ann"}
    said = caplog.text + repr(audit) + refused.text
    shown = made.text.replace(made.json()["token"], "")
    for secret in (PASSWORD, "not-the-password", "s3cret", "sessionkey"):
        assert secret not in said
        assert secret not in shown
    if url.startswith("sqlite"):
        stored = dump(url)
        assert b"acme" in stored
        for secret in (PASSWORD, "not-the-password", "s3cret"):
            assert secret.encode() not in stored


def test_the_bound_of_a_user_is_no_address():
    """Also of one who is called as an address is."""
    logins = Logins(passwords=True, guesses=1)
    for user in ("192.0.2.1", "::1", "x" * 5000, "\ud800"):
        with logins.attempt("192.0.2.1", Secret(user)), logins.guess(user):
            pass
