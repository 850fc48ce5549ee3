"""No secret comes out again: not in answers, not in logs, not in errors, not in the database."""

from __future__ import annotations

import logging
import secrets
import sqlite3
from contextlib import closing

import pytest

from sendense.api.first_run import administrator_token, first_run
from sendense.model.access import Role
from sendense.model.secret import Secret
from tests.support.api_site import api_site
from tests.support.catalogs import catalog_at, file_of
from tests.support.fleet import NOW, a_host


@pytest.fixture
def url(new_url):
    return new_url()


def test_no_secret_comes_out(url, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    passphrase, credential, ticket, wrong = (secrets.token_hex(12) for _ in range(4))
    said = []
    with catalog_at(url) as catalog, api_site(catalog, tmp_path) as site:
        catalog.hosts.add(a_host(), Secret(ticket))
        admin = site.client()

        def ask(method, path, **options):
            response = admin.request(method, path, **options)
            said.append(response.text + str(response.headers))
            return response

        body = {
            "name": "vault", "url": f"dedup:{tmp_path}/vault", "create": True,
            "passphrase": passphrase,
        }  # fmt: skip
        made = ask("POST", "/repositories", json=body, headers={"Idempotency-Key": "k"}).json()
        ask("POST", "/repositories", json=body, headers={"Idempotency-Key": "k"})
        ask("POST", "/repositories", json=body)
        ask("POST", "/repositories", json=body | {"url": 5})
        ask("POST", "/repositories", json=body | {"name": "n", "unknown": passphrase})
        ask("POST", "/repositories", json=body | {"name": "n", "passphrase": [passphrase]})
        ask("PATCH", f"/repositories/{made['id']}", json={"passphrase": wrong})
        ask("GET", f"/repositories/{made['id']}/info")
        credentials = {"passphrase": passphrase, "credentials": {"account_key": credential}}
        ask("PATCH", f"/repositories/{made['id']}", json=credentials)
        ask("GET", f"/repositories/{made['id']}/info")
        token = admin.post("/tokens", json={"name": "t"}).json()["token"]
        site.client(token=token).get("/whoami")
        site.client(token=token[:-1]).get("/whoami")
        for path in admin.get("/openapi.json").json()["paths"]:
            if path.startswith("/api/v1/") and "{" not in path:
                ask("GET", path.removeprefix("/api/v1"))
        every = [passphrase, credential, ticket, wrong, token.split("_")[2]]
        every += [text.split("_")[2] for text in site.tokens.values()]
        stored = dump(url)
    heard = "".join(said) + caplog.text
    assert "vault" in heard
    assert b"vault" in stored
    for secret in every:
        assert secret not in heard
        assert secret.encode() not in stored
        assert secret.encode().hex().encode() not in stored


def dump(url):
    file = file_of(url)
    with closing(sqlite3.connect(file)) as connection:
        text = "\n".join(connection.iterdump()).lower().encode()
    return text + b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))


class TestFirstRun:
    def test_one_token_once(self, url):
        with catalog_at(url) as catalog:
            shown: list[Secret] = []
            first_run(catalog, shown.append)
            (token,) = shown
            user, _ = catalog.tokens.check(token, NOW)
            assert (user.name, user.role) == ("admin", Role.ADMIN)
            first_run(catalog, shown.append)
            assert "secret" in repr(token)
        with catalog_at(url) as catalog:
            first_run(catalog, shown.append)
        assert shown == [token]

    def test_one_that_was_not_shown_is_no_first_run(self, url):
        def fail(token):
            raise BrokenPipeError

        shown: list[Secret] = []
        with catalog_at(url) as catalog:
            with pytest.raises(BrokenPipeError):
                first_run(catalog, fail)
            first_run(catalog, shown.append)
        assert len(shown) == 1

    def test_who_has_the_machine_gets_in_again(self, url):
        with catalog_at(url) as catalog:
            first_run(catalog, lambda token: None)
            for token in catalog.tokens.page().items:
                catalog.tokens.revoke(token.id)
            user, _ = catalog.tokens.check(administrator_token(catalog, "rescue"), NOW)
            assert user.role is Role.ADMIN
