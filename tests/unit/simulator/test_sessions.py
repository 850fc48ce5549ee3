"""Logging in with a name and a password, what a session lets through, and logging out."""

from __future__ import annotations

import http.client
import json
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

import pytest

from sendense_lab.simulator.records import User
from tests.unit.simulator.asking import Answer, Refused


class Browser:
    """Somebody with cookies, and no key."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.cookies = {}
        self.key = ""

    def send(self, command, *, method="POST", **params):
        parts = urlsplit(self.simulator.url)
        form = urlencode({"command": command, "response": "json", **params})
        head = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.cookies:
            head["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        try:
            if method == "POST":
                connection.request("POST", parts.path, form, head)
            else:
                connection.request("GET", f"{parts.path}?{form}", headers=head)
            found = connection.getresponse()
            answer = Answer(found.status, found.headers, found.read())
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or ():
            self.cookies |= {name: one.value for name, one in SimpleCookie(line).items()}
        return answer

    def __call__(self, command, **params):
        answer = self.send(command, **({"sessionkey": self.key} if self.key else {}), **params)
        (body,) = answer.document.values()
        if answer.status != 200:
            raise Refused(answer.status, body, answer.headers)
        return body

    def login(self, name="ann", password="pass word", **params):
        body = self("login", username=name, password=password, **params)
        self.key = body["sessionkey"]
        return body


@pytest.fixture
def ann(simulator):
    simulator.create_account("ann", domain="ROOT/acme", password="pass word")
    return simulator.world.named(User, "ann")


@pytest.fixture
def browser(simulator):
    return Browser(simulator)


def refusal(browser, command="listUsers", **params):
    with pytest.raises(Refused) as caught:
        browser.login(**params) if command == "login" else browser(command, **params)
    return caught.value


def test_from_login_to_logout(simulator, browser, ann):
    body = browser.login(domain="/acme")
    assert (body["userid"], body["account"], body["type"]) == (ann.id, "ann", "0")
    assert (body["is2faenabled"], body["is2faverified"]) == ("false", "true")
    assert browser.cookies["JSESSIONID"].endswith(".node0")
    assert [each["id"] for each in browser("listUsers")["user"]] == [ann.id]
    assert simulator.sessions.open == 1
    assert browser("logout") == {"description": "success"}
    assert simulator.sessions.open == 0
    assert refusal(browser).status == 401
    assert refusal(browser, "logout").status == 431


@pytest.mark.parametrize("path", ["acme", "/acme", "/acme/", "/ACME"])
def test_the_ways_to_write_a_domain(browser, ann, path):
    assert browser.login(domain=path)["userid"] == ann.id


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "/acme", "password": "another"},
        {"domain": "/acme", "password": ""},
        {"domain": "/acme", "name": "bob"},
        {"domain": "/nowhere"},
        {},
    ],
)
def test_what_is_wrong_is_531(simulator, browser, ann, wrong):
    refused = refusal(browser, "login", **wrong)
    assert (refused.status, refused.code) == (531, 531)
    assert browser.cookies == {}
    assert simulator.sessions.open == 0


def test_who_has_no_password_does_not_log_in(simulator, browser):
    simulator.create_account("bob")
    assert refusal(browser, "login", name="bob", password="").status == 531


def test_one_name_in_two_domains_is_two_users(simulator, browser, ann):
    simulator.create_account("ann", domain="ROOT/other", password="other word")
    other = browser.login(password="other word", domain="/other")
    assert other["userid"] != ann.id
    assert refusal(Browser(simulator), "login", domain="/other").status == 531


def test_login_is_a_form_and_not_an_address(browser, ann):
    params = {"username": "ann", "password": "pass word", "domain": "/acme"}
    assert browser.send("login", method="GET", **params).status == 405


@pytest.mark.parametrize("missing", ["parameter", "cookie", "wrong"])
def test_a_request_without_the_key_of_its_session_ends_it(simulator, browser, ann, missing):
    browser.login(domain="/acme")
    if missing == "parameter":
        browser.key = ""
    elif missing == "cookie":
        del browser.cookies["sessionkey"]
    else:
        browser.key = "another"
    assert refusal(browser).status == 401
    assert simulator.sessions.open == 0


def test_a_session_is_needed_where_nothing_is_signed(simulator, browser, ann):
    browser.login(domain="/acme")
    browser.cookies["JSESSIONID"] = "node0other.node0"
    assert refusal(browser).status == 401
    assert simulator.sessions.open == 1


def test_what_a_role_lacks_and_what_is_unknown_are_432_in_a_session(browser, ann):
    browser.login(domain="/acme")
    assert refusal(browser, "listHosts").code == 432
    assert refusal(browser, "noSuchCommand").code == 432


@pytest.mark.parametrize("what", ["user", "account"])
def test_who_is_switched_off(simulator, browser, ann, what):
    early = Browser(simulator)
    early.login(domain="/acme")
    row = ann if what == "user" else simulator.account("ann", "ROOT/acme")
    row.state = "locked"
    assert "disabled/locked" in refusal(browser, "login", domain="/acme").text
    assert refusal(early).status == 401


def test_wrong_passwords_lock_out(simulator, browser, ann):
    for _ in range(4):
        refusal(browser, "login", domain="/acme", password="x")
    browser.login(domain="/acme")  # counts from the start again
    for _ in range(5):
        refusal(Browser(simulator), "login", domain="/acme", password="x")
    assert ann.state == "disabled"


@pytest.mark.parametrize("mandated", [False, True])
def test_a_second_factor(make, mandated):
    simulator = make(settings={"mandate.user.2fa": str(mandated).lower()})
    simulator.create_account("ann", password="pass word")
    simulator.world.named(User, "ann").two_factor = not mandated
    browser = Browser(simulator)
    body = browser.login()
    assert (body["is2faenabled"], body["is2faverified"]) == ("true", "false")
    assert refusal(browser).code == 511
    assert simulator.sessions.open == 0


def test_a_restart_ends_all_sessions(simulator, browser, ann):
    browser.login(domain="/acme")
    simulator.restart()
    assert refusal(browser).status == 401


def test_a_user_that_is_created_has_its_password(simulator, ask, browser):
    ask("createAccount", username="eve", password="made word", email="e@example.org",
        firstname="E", lastname="V", accounttype=0)  # fmt: skip
    assert browser.login("eve", "made word")["account"] == "eve"
    assert "made word" not in json.dumps(ask("listUsers", listall="true"))


def test_a_key_is_good_without_any_session(simulator, ask):
    assert ask("listZones")["count"] == 1
    assert simulator.sessions.begun == 0
