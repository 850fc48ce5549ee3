"""Logging in to a cloud with a password: who that is, and that the session always ends."""

from __future__ import annotations

import json
import logging

import pytest

from sendense.cloudstack.identity import who_logged_in
from sendense.cloudstack.session import session
from sendense.cloudstack.transport import Limits
from sendense.errors import (
    NotFound,
    NotSignedIn,
    Rejected,
    SecondStep,
    SendenseError,
    Unavailable,
    Unsupported,
)
from sendense.model.cloud_login import CloudLogin
from sendense.model.secret import Secret
from sendense_lab.simulator.records import RoleRule, User
from tests.support.raw_cloud import Raw, raw_cloud, refused

LIMITS = Limits(per_second=2000, patience_s=0.0, silent_s=5.0)
PASSWORD = "päss word+&=%"


def a_login(user="ann", password=PASSWORD, domain="ROOT/acme"):
    return CloudLogin(user, Secret(password), domain)


def who(endpoint, login=None, paths=(), **more):
    """Log in, ask who that is, log out."""
    limits = more.pop("limits", LIMITS)
    with session(endpoint, login or a_login(), name="west", limits=limits, **more) as (client, one):
        return who_logged_in(client, "id-west", one, dict(paths))


@pytest.fixture(params=["4.18", "4.20", "4.23"])
def cloud(request, site):
    found = site.cloud(version=request.param)
    found.create_account("ann", domain="ROOT/acme", password=PASSWORD)
    return found


def test_who_it_is(cloud):
    account = cloud.account("ann", "ROOT/acme")
    identity = who(cloud.url, paths={account.domain_id: "ROOT/acme"})
    assert (identity.user, identity.kind, identity.domain_admin) == ("ann", "User", False)
    assert identity.account_id == account.id
    owner = identity.owner
    assert (owner.domain, owner.domain_id, owner.account) == (
        "ROOT/acme", account.domain_id, "ann",
    )  # fmt: skip
    assert (cloud.sessions.begun, cloud.sessions.open) == (1, 0)


@pytest.mark.parametrize("domain", ["acme", "/acme", "/acme/", "ROOT/acme", "ROOT/ACME"])
def test_the_domain_in_each_way_to_write_it(cloud, domain):
    assert who(cloud.url, a_login(domain=domain)).user == "ann"


def test_without_a_domain_it_is_the_root(cloud):
    cloud.create_account("ann", password="another")
    root = who(cloud.url, a_login(password="another", domain=""))
    assert root.account_id == cloud.account("ann").id
    with pytest.raises(NotSignedIn):
        who(cloud.url, a_login(domain=""))


@pytest.mark.parametrize(
    "wrong", [{"password": "x"}, {"user": "bob"}, {"domain": "nowhere"}, {"password": ""}]
)
def test_what_the_cloud_does_not_take(cloud, wrong, caplog):
    caplog.set_level(logging.DEBUG, logger="sendense")
    with pytest.raises(NotSignedIn) as caught:
        who(cloud.url, a_login(**wrong))
    assert not isinstance(caught.value, SecondStep)
    said = f"{caught.value.to_dict()} {caught.value.__cause__} {caplog.text}"
    assert PASSWORD not in said
    assert "bob" not in said
    assert cloud.sessions.open == 0


@pytest.mark.parametrize("what", ["user", "account"])
def test_who_is_locked(cloud, what):
    row = cloud.account("ann", "ROOT/acme")
    if what == "user":
        row = cloud.world.named(User, "ann")
    row.state = "locked"
    with pytest.raises(NotSignedIn):
        who(cloud.url)


def test_who_is_locked_out_in_between(cloud):
    user = cloud.world.named(User, "ann")
    cloud.faults.before("listUsers", lambda: setattr(user, "state", "disabled"))
    with pytest.raises(NotSignedIn):
        who(cloud.url)
    assert cloud.sessions.open == 0


def test_a_second_factor_is_no_way_in(cloud):
    cloud.world.named(User, "ann").two_factor = True
    with pytest.raises(SecondStep) as caught:
        who(cloud.url)
    assert "API keys" in (caught.value.hint or "")
    assert cloud.sessions.open == 0


def test_a_second_factor_that_everybody_has_to_have(site):
    cloud = site.cloud(settings={"mandate.user.2fa": "true"})
    cloud.create_account("ann", domain="ROOT/acme", password=PASSWORD)
    with pytest.raises(SecondStep):
        who(cloud.url)


def test_a_password_that_has_to_be_changed_is_no_way_in(cloud):
    cloud.world.named(User, "ann").must_change_password = True
    with pytest.raises(SecondStep, match="new password"):
        who(cloud.url)
    assert cloud.sessions.open == 0


def test_a_role_without_users_is_told_by_its_account(cloud):
    role = cloud.world.role_named("User")
    for rule in ("listUsers",):
        cloud.world.add(RoleRule(role_id=role.id, rule=rule, allow=False))
    assert who(cloud.url).account_id == cloud.account("ann", "ROOT/acme").id
    cloud.world.add(RoleRule(role_id=role.id, rule="listAccounts", allow=False))
    with pytest.raises(NotSignedIn, match="does not show"):
        who(cloud.url)
    assert cloud.sessions.open == 0


def test_the_administrator_of_a_domain(cloud):
    cloud.create_account("dora", domain="ROOT/acme", role="Domain Admin", password=PASSWORD)
    place = cloud.account("dora", "ROOT/acme").domain_id
    found = who(cloud.url, a_login("dora"), paths={place: "ROOT/acme"})
    assert (found.user, found.domain_admin) == ("dora", True)


@pytest.mark.parametrize("command", ["listCapabilities", "listUsers", "listProjects"])
@pytest.mark.parametrize("fault", ["reset", "html", "half_written"])
def test_the_session_ends_whatever_breaks(cloud, command, fault):
    getattr(cloud.faults, fault)(times=100, command=command)
    with pytest.raises(Unavailable):
        who(cloud.url)
    assert (cloud.sessions.begun, cloud.sessions.open) == (1, 0)


def test_a_session_whose_beginning_was_half_told_ends_too(cloud):
    cloud.faults.half_written(command="login")
    with pytest.raises(Unavailable):
        who(cloud.url)
    assert (cloud.sessions.begun, cloud.sessions.open) == (1, 0)


def test_a_password_goes_out_once(cloud):
    cloud.faults.reset(times=100, command="login")
    with pytest.raises(Unavailable):
        who(cloud.url, limits=Limits(per_second=2000, patience_s=10.0))
    assert cloud.sessions.begun == 1


def test_logging_out_is_tried_again(cloud):
    cloud.faults.html(times=1, command="logout")
    assert who(cloud.url).user == "ann"
    assert cloud.sessions.open == 0


def test_a_session_that_cannot_be_ended_is_told_to_the_operator(cloud, caplog):
    cloud.faults.error(530, "no", times=100, command="logout")
    assert who(cloud.url).user == "ann"
    assert "could not be ended" in caplog.text
    assert PASSWORD not in caplog.text


def test_no_password_goes_where_others_can_read_it():
    with pytest.raises(Unsupported, match="not encrypted"):
        who("http://192.0.2.1/client/api")


def test_nothing_of_it_is_in_a_log(cloud, caplog):
    caplog.set_level(logging.DEBUG, logger="sendense")
    who(cloud.url)
    assert PASSWORD not in caplog.text
    assert "sessionkey" not in caplog.text.lower()


# --- Clouds that answer otherwise than they should

BEGUN = {
    "userid": "u1", "domainid": "d1", "account": "ann", "sessionkey": "k",
    "is2faenabled": "false", "is2faverified": "true",
}  # fmt: skip
ROW = {
    "id": "u1", "username": "ann", "domainid": "d1", "account": "ann", "accountid": "a1",
    "accounttype": 0, "state": "enabled",
}  # fmt: skip


def odd_cloud(**answers):
    """Give the answering function of a cloud."""
    usual = {
        "login": BEGUN,
        "listCapabilities": {"capability": {"cloudstackversion": "4.20.0.0"}},
        "listUsers": {"count": 1, "user": [ROW]},
        "listProjects": {},
        "logout": {"description": "success"},
    }

    return lambda form: {**usual, **answers}[form["command"]]


def test_an_odd_cloud_that_answers_well():
    with raw_cloud(odd_cloud()) as (cloud, url):
        assert who(url).account_id == "a1"
    sent = [form for form in cloud.asked if form["command"] != "login"]
    assert {form["sessionkey"] for form in sent} == {"k"}
    assert not any("signature" in form or "apiKey" in form for form in cloud.asked)
    assert sum("password" in form for form in cloud.asked) == 1


@pytest.mark.parametrize(
    "answers",
    [
        {"login": {**BEGUN, "userid": ""}},
        {"login": {**BEGUN, "account": ""}},
        {"login": {**BEGUN, "domainid": ""}},
        {"login": {**BEGUN, "userid": "u2"}},
        {"login": {**BEGUN, "account": "eve"}},
        {"login": {**BEGUN, "domainid": "d2"}},
        {"listUsers": {"user": [ROW, ROW]}},
        {"listUsers": {"user": [{**ROW, "id": "u2"}]}},
        {"listUsers": {"user": [{**ROW, "account": "eve"}]}},
        {"listUsers": {"user": [{**ROW, "domainid": "d2"}]}},
        {"listUsers": {"user": [{**ROW, "state": "locked"}]}},
        {"listUsers": {"user": [{key: ROW[key] for key in ROW if key != "accounttype"}]}},
    ],
)
def test_any_doubt_is_a_refusal(answers):
    with raw_cloud(odd_cloud(**answers)) as (_, url), pytest.raises(NotSignedIn):
        who(url)


@pytest.mark.parametrize("command", ["listCapabilities", "login"])
def test_a_factor_that_is_asked_for_later(command):
    answers = {command: refused(command, 511, "two factor")}
    with raw_cloud(odd_cloud(**answers)) as (_, url), pytest.raises(SecondStep):
        who(url)


@pytest.mark.parametrize("text", ["", "not json", json.dumps({"loginresponse": []})])
def test_what_is_no_answer(text):
    with raw_cloud(odd_cloud(login=Raw(text.encode()))) as (_, url), pytest.raises(SendenseError):
        who(url)


@pytest.mark.parametrize("code", [401, 405, 429, 430, 431, 511, 530, 531, 532, 533, 534, 536])
def test_the_cloud_s_own_words_on_a_login_are_in_no_log(code, caplog):
    """They may hold the name, where people type passwords by mistake."""
    caplog.set_level(logging.DEBUG, logger="sendense")
    words = "unable to find user typed-a-s3cret-here, try again"
    answers = {"login": refused("login", code, words)}
    patient = Limits(per_second=2000, patience_s=0.7, silent_s=5.0)
    with raw_cloud(odd_cloud(**answers)) as (_, url), pytest.raises(SendenseError) as caught:
        who(url, limits=patient)
    assert "s3cret" not in f"{caught.value.to_dict()} {caplog.text}"
    if not isinstance(caught.value, NotSignedIn):
        assert caught.value.data["cs_code"] == code


def test_the_kind_of_a_refused_login_stays():
    """Its words are read, and left out."""
    kinds = ((431, "unable to find it", NotFound), (431, "no", Rejected), (530, "no", Unavailable))
    for code, words, kind in kinds:
        answers = {"login": refused("login", code, words)}
        with raw_cloud(odd_cloud(**answers)) as (_, url), pytest.raises(SendenseError) as caught:
            who(url)
        assert type(caught.value) is kind
        assert f"west refuses login ({code})" in caught.value.message
