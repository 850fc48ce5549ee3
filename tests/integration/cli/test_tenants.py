"""``sendense tenant``, and signing in with the keys of a cloud."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sendense.api.cloud_door import NoClouds
from sendense.api.logins import Logins
from sendense.errors import NotSignedIn, SecondStep
from sendense.model.access import Role, TenantScope
from sendense.model.cloud import CloudAccount, CloudDomain, CloudKind, CloudProject, Owner
from sendense.model.cloud_check import CloudIdentity
from sendense.model.tenant import Tenant
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud, a_cloud_instance, pairs
from tests.support.fleet import NOW, a_point_entry
from tests.unit.cli.stage import a_secret_file
from tests.unit.cli.terminal import Terminal

CLOUD = "id-west"
ANN = Owner("d-acme", "ROOT/acme", "ann")
ANN_HERE = "cloud:id-west:d-acme:a-ann"
PASSWORD = " pass wörd"
BY_PASSWORD = ("--cloud", "west", "--user", "ann", "--domain", "ROOT/acme")


class Door(NoClouds):
    """A cloud that knows one pair of keys."""

    def who(self, cloud_id, api_key, secret):
        """Say whose they are."""
        if (api_key, secret.reveal()) != ("key-of-ann", b"s3cret"):
            raise NotSignedIn("no")
        return CloudIdentity(cloud_id, "ann", ANN, "User", account_id="a-ann")

    def who_by_password(self, cloud_id, login):
        """Know one user, and one more with a second factor."""
        shown = (login.user, login.path, login.password.reveal().decode())
        if shown == ("two", "/", PASSWORD):
            raise SecondStep("a second factor", hint="sign in with API keys")
        if shown != ("ann", "/acme", PASSWORD):
            raise NotSignedIn("no")
        return CloudIdentity(cloud_id, "ann", ANN, "User", account_id="a-ann")


@pytest.fixture
def cloud(site):
    """Give the server a cloud with a domain, two accounts, a project and an instance."""
    catalog = site.catalog
    catalog.clouds.add(a_cloud("west"), KEYS_OF_CLOUD)
    domain = CloudDomain("d-acme", "acme", "ROOT/acme")
    accounts = [CloudAccount(f"a-{n}", n, "d-acme", "ROOT/acme", 0, "enabled") for n in "xy"]
    project = CloudProject("p-shop", "shop", "d-acme", "ROOT/acme")
    catalog.inventory.take(CLOUD, CloudKind.DOMAIN, [domain], NOW)
    catalog.inventory.take(CLOUD, CloudKind.ACCOUNT, accounts, NOW)
    catalog.inventory.take(CLOUD, CloudKind.PROJECT, [project], NOW)
    catalog.inventory.take_instances(CLOUD, pairs(a_cloud_instance(owner=ANN)), NOW)
    site.services.clouds = Door()
    site.services.logins = Logins(passwords=True)
    return site


def test_from_the_first_to_the_last(person, cloud):
    said = person.ok(
        "tenant", "add", "acme", "--cloud", "west", "--domain", "ROOT/acme", "--quota", "2T",
        "--repository", "unused",
    )  # fmt: skip
    assert "the tenant acme was added: domain ROOT/acme" in said
    person.ok("tenant", "add", "shop", "--cloud", "west", "--project", "shop")
    listed = person.ok("tenant", "list")
    assert "2.0 TiB" in listed
    assert [each["name"] for each in person.json("tenant", "list")["tenants"]] == ["acme", "shop"]
    assert person.json("tenant", "list", "--search", "sho")["tenants"][0]["project"] == "shop"
    shown = person.ok("tenant", "show", "acme")
    assert "unused" in shown
    assert "2.0 TiB, 0 % used" in shown
    person.ok("tenant", "edit", "acme", "--quota", "none", "--repository", "none", "--name", "a")
    changed = person.json("tenant", "show", "a")["tenant"]
    assert (changed["quota_bytes"], changed["repository_id"]) == (None, None)
    person.ok("tenant", "remove", "a", "--yes")
    person.refused("tenant", "show", "a", code=3, says="there is no tenant a")
    person.be(Role.OPERATOR)
    assert person.json("tenant", "list")["tenants"]
    person.refused("tenant", "remove", "shop", "--yes", code=10, says="may not do this")


def test_all_at_once(person, cloud):
    dry = person.json("tenant", "add", "--all", "--cloud", "west", "--dry-run")
    assert [each["name"] for each in dry["tenants"]] == ["acme/x", "acme/y", "acme/shop"]
    assert person.json("tenant", "list")["tenants"] == []
    assert "3 tenants of west added" in person.ok("tenant", "add", "--all", "--cloud", "west", "-y")
    again = person.ok("tenant", "add", "--all", "--cloud", "west", "--yes")
    assert "all of west are tenants already" in again


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("x",), "somebody of a cloud"),
        (("x", "--cloud", "west"), "a domain, an account or a project"),
        (("--cloud", "west", "--domain", "ROOT/acme"), "which tenant is not said"),
        (("--all", "--cloud", "west", "--quota", "1G"), "--all goes with"),
        (("x", "--cloud", "west", "--domain", "ROOT/acme", "--quota", "much"), "not a size"),
    ],
)
def test_what_is_no_tenant(person, cloud, arguments, says):
    person.refused("tenant", "add", *arguments, code=2, says=says)


def test_what_is_nowhere(person, cloud):
    domain = ("--domain", "ROOT/acme")
    person.refused("tenant", "add", "x", "--cloud", "east", *domain, code=3, says="no cloud east")


@pytest.fixture
def visitor(person, monkeypatch):
    """Give somebody who is not signed in."""
    monkeypatch.delenv("SENDENSE_TOKEN")
    monkeypatch.delenv("SENDENSE_SERVER")
    return person


def test_a_login_with_the_keys_of_a_cloud(visitor, cloud, home, tmp_path):
    secret = a_secret_file(tmp_path / "secret", "s3cret\n")
    keys = ("--cloud", "west", "--api-key", "key-of-ann")
    answer = visitor("login", cloud.url, *keys, "--secret-file", secret)
    assert answer.code == 0, answer
    assert "as ROOT/acme/ann (tenant)" in answer.out
    assert "it counts until" in answer.err
    kept = json.loads((home / "config/sendense/login.json").read_text())
    assert kept["token"].startswith("sendense_")
    assert "s3cret" not in json.dumps(kept) + answer.out + answer.err
    assert len(visitor.json("instance", "list")["instances"]) == 1
    assert "called" in visitor.ok("whoami")
    visitor.refused("tenant", "list", code=10, says="may not do this")
    visitor.ok("logout", "--revoke")
    assert cloud.catalog.users.get(ANN_HERE)
    assert cloud.catalog.tokens.page(user=ANN_HERE).items == ()


def test_a_secret_from_standard_input(visitor, cloud, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"s3cret\n")))
    keys = ("--cloud", "west", "--api-key", "key-of-ann")
    assert "signed in" in visitor.ok("login", cloud.url, *keys)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    visitor.refused("login", cloud.url, *keys, code=2, says="there is no secret")


def test_keys_that_are_wrong_or_not_whole(visitor, cloud, tmp_path):
    wrong = a_secret_file(tmp_path / "wrong", "other\n")
    keys = ("--cloud", "west", "--api-key", "key-of-ann", "--secret-file", wrong)
    answer = visitor.refused("login", cloud.url, *keys, code=2, says="does not accept these keys")
    assert "other" not in answer.out + answer.err
    visitor.refused("login", cloud.url, "--cloud", "west", code=2, says="an API key")
    bad = a_secret_file(tmp_path / "bad", "two words\n")
    says = "not the secret of a key"
    visitor.refused("login", cloud.url, *keys[:4], "--secret-file", bad, code=2, says=says)
    both = (*keys, "--token-file", wrong)
    visitor.refused("login", cloud.url, *both, code=2, says="two ways")


def test_a_tenant_sees_its_own_quota_and_use(visitor, cloud, tmp_path):
    ann = TenantScope(CLOUD, ANN.domain, ANN.domain_id, "ann", account_id="a-ann")
    domain = TenantScope(CLOUD, ANN.domain, ANN.domain_id)
    cloud.catalog.tenants.add(Tenant("t1", "ann-agreed", ann, None, 4096))
    cloud.catalog.tenants.add(Tenant("t2", "acme-agreed", domain, None, 9999))
    uuid = cloud.catalog.inventory.page().items[0].instance.id
    point = a_point_entry(7, machine_uuid=uuid, stored_bytes=1024)
    cloud.catalog.points.put([point], NOW)
    file = a_secret_file(tmp_path / "password", PASSWORD)
    visitor.ok("login", cloud.url, *BY_PASSWORD, "--password-file", file)
    shown = visitor.ok("tenant", "show")
    for words in ("ann-agreed", "account ROOT/acme/ann", "1.0 KiB", "4.0 KiB", "3.0 KiB"):
        assert words in shown
    assert "acme-agreed" not in shown
    usage = visitor.json("tenant", "show")["usage"]
    assert (usage["stored_bytes"], usage["points"], usage["instances"]) == (1024, 1, 1)
    assert [each["left_bytes"] for each in usage["tenants"]] == [3072]
    visitor.refused("tenant", "show", "acme-agreed", code=10, says="may not do this")
    cloud.catalog.tenants.remove("t1")
    assert "no quota is agreed" in visitor.ok("tenant", "show")


def test_who_is_no_tenant_says_which_one(person, cloud):
    person.refused("tenant", "show", code=2, says="which tenant is not said")


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nmore\n"])
def test_a_login_with_a_password_from_a_file(visitor, cloud, home, tmp_path, end):
    file = a_secret_file(tmp_path / "password", PASSWORD + end)
    answer = visitor("login", cloud.url, *BY_PASSWORD, "--password-file", file, "-vv")
    assert answer.code == 0, answer
    assert "as ROOT/acme/ann (tenant)" in answer.out
    assert "it counts until" in answer.err
    kept = (home / "config/sendense/login.json").read_text()
    assert PASSWORD.strip() not in kept + answer.out + answer.err
    assert visitor.json("whoami")["user"] == ANN_HERE


def test_a_login_with_a_password_from_standard_input(visitor, cloud, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(f"{PASSWORD}\n".encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert "as ROOT/acme/ann (tenant)" in visitor.ok("login", cloud.url, *BY_PASSWORD)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    visitor.refused("login", cloud.url, *BY_PASSWORD, code=2, says="there is no password")


def test_a_password_typed_on_a_terminal_is_not_shown(visitor, cloud):
    with Terminal("login", cloud.url, *BY_PASSWORD) as terminal:
        terminal.wait_for("Password of ann in west")
        terminal.type(PASSWORD)
        assert terminal.end() == 0
    assert PASSWORD.strip().encode() not in terminal.shown
    assert b"as ROOT/acme/ann" in terminal.shown


def test_a_second_factor_leads_to_keys(visitor, cloud, tmp_path):
    file = a_secret_file(tmp_path / "password", PASSWORD)
    line = ("--cloud", "west", "--user", "two", "--password-file", file)
    answer = visitor.refused("login", cloud.url, *line, code=2, says="a second factor")
    assert "sign in with API keys" in answer.err


def test_a_password_that_does_not_count(visitor, cloud, home, tmp_path):
    file = a_secret_file(tmp_path / "password", "t0psecret")
    line = (*BY_PASSWORD, "--password-file", file)
    answer = visitor.refused("login", cloud.url, *line, code=2, says="does not accept this user")
    assert "check the name of the cloud" in answer.err
    assert "t0psecret" not in answer.err
    assert not (home / "config/sendense/login.json").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--user", "ann"), "--cloud and --user"),
        (("--cloud", "west", "--domain", "ROOT"), "--cloud and --user"),
        (("--cloud", "west"), "or --cloud and --user"),
        (("--cloud", "west", "--user", "ann", "--api-key", "k"), "two ways"),
        (("--cloud", "west", "--user", "ann", "--token-file", "FILE"), "two ways"),
        (("--cloud", "west", "--user", "ann", "--password-file", "FILE"), "the password is empty"),
    ],
)
def test_half_of_a_login(visitor, cloud, tmp_path, options, says):
    file = a_secret_file(tmp_path / "empty", "\nx")
    words = [str(file) if word == "FILE" else word for word in options]
    visitor.refused("login", cloud.url, *words, code=2, says=says)


def test_a_password_that_is_no_text(visitor, cloud, tmp_path):
    file = tmp_path / "password"
    file.write_bytes(b"\xff\xfe")
    file.chmod(0o600)
    line = (*BY_PASSWORD, "--password-file", file)
    visitor.refused("login", cloud.url, *line, code=2, says="no UTF-8")


def test_the_user_of_a_cloud_is_like_others(person, cloud):
    name = ANN_HERE
    body = {"cloud": "west", "api_key": "key-of-ann", "secret_key": "s3cret"}
    assert cloud.client(None).post("/login/cloudstack", json=body).status_code == 201
    shown = person.ok("user", "show", name)
    assert "all of ROOT/acme/ann" in shown
    assert "called" in shown
    assert "ROOT/acme/ann" in person.ok("user", "list")
    assert person.json("token", "list", "--user", name)["tokens"]
    person.ok("user", "edit", name, "--disable")
    assert person.json("user", "show", name)["user"]["disabled"]
    person.ok("user", "remove", name, "--yes")
