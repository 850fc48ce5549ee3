"""Signing in: where the token comes from, where it is kept, and to whom it goes."""

from __future__ import annotations

import io
import json
import ssl
import stat
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sendense.cli.remote.sign_in import Asked, server_at
from sendense.errors import Rejected
from sendense.fleet.authority import Authority
from sendense.model.access import Role
from sendense_lab.ports import free_port
from tests.support.tcp_way import TcpWay
from tests.unit.cli.stage import a_secret_file
from tests.unit.cli.terminal import Terminal


@pytest.fixture
def visitor(person, monkeypatch):
    """Give somebody who is not signed in."""
    monkeypatch.delenv("SENDENSE_TOKEN")
    monkeypatch.delenv("SENDENSE_SERVER")
    return person


@pytest.fixture
def token_file(site, tmp_path):
    return a_secret_file(tmp_path / "token", site.tokens[Role.VIEWER])


@pytest.fixture
def kept(home):
    return home / "config/sendense/login.json"


def typed(monkeypatch, text: str) -> None:
    """Put something on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_from_login_to_logout(visitor, site, token_file, kept):
    visitor.refused("status", code=2, says="no server is named")
    document = visitor.json("login", site.url, "--token-file", token_file)
    assert (document["user"], document["role"]) == ("viewer", "viewer")
    assert document["stored"] == str(kept)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert list(kept.parent.iterdir()) == [kept]
    assert "viewer" in visitor.ok("whoami")
    assert visitor.json("whoami")["server"] == site.url
    assert visitor.json("host", "list")["hosts"]
    assert "signed in" in visitor.ok("login", f"{site.url}/", "--token-file", token_file)
    assert visitor.json("logout") == {"signed_out": True, "revoked": False}
    assert not kept.exists()
    assert "nobody was" in visitor.ok("logout")
    visitor.refused("logout", "--revoke", code=2, says="nobody is signed in")


def test_logout_that_withdraws_the_token(visitor, site, token_file, monkeypatch):
    visitor.ok("login", site.url, "--token-file", token_file)
    for option in (("--server", site.url), ("--token-file", token_file)):
        says = "the token that login kept, and no other"
        visitor.refused("logout", "--revoke", *option, code=2, says=says)
    assert "void" in visitor.ok("logout", "--revoke")
    monkeypatch.setenv("SENDENSE_TOKEN_FILE", str(token_file))
    answer = visitor.refused("whoami", "--server", site.url, code=2, says="token")
    assert "sendense login" in answer.err


def test_token_from_standard_input(visitor, site, monkeypatch, kept):
    typed(monkeypatch, f"{site.tokens[Role.ADMIN]}\n")
    assert "as admin" in visitor.ok("login", site.url)
    typed(monkeypatch, "")
    visitor.refused("login", site.url, code=2, says="there is no token")


def test_token_typed_on_a_terminal_is_not_shown(visitor, site, kept):
    token = site.tokens[Role.OPERATOR]
    with Terminal("login", site.url) as terminal:
        terminal.wait_for("Token for")
        terminal.type(token)
        assert terminal.end() == 0
    assert token.encode() not in terminal.shown
    assert b"as operator" in terminal.shown
    assert json.loads(kept.read_text())["token"] == token


@pytest.mark.parametrize("text", ["sendense_wrong", "", "two words", "\x00\x01"])
def test_a_token_that_does_not_count_is_not_kept(visitor, site, tmp_path, kept, text):
    file = a_secret_file(tmp_path / "wrong", text)
    answer = visitor("login", site.url, "--token-file", file, "-vv")
    assert answer.code == 2
    assert not kept.exists()
    assert not text.strip("\x00\x01") or text not in answer.out + answer.err


def test_the_environment_wins_over_what_was_kept(visitor, site, token_file, monkeypatch):
    visitor.ok("login", site.url, "--token-file", token_file)
    monkeypatch.setenv("SENDENSE_TOKEN", site.tokens[Role.ADMIN])
    assert visitor.json("whoami")["user"] == "admin"
    operator = a_secret_file(token_file.with_name("operator"), site.tokens[Role.OPERATOR])
    monkeypatch.setenv("SENDENSE_TOKEN_FILE", str(operator))
    assert visitor.json("whoami")["user"] == "operator"
    assert visitor.json("whoami", "--token-file", token_file)["user"] == "viewer"


def test_a_kept_token_goes_to_its_server_only(visitor, site, token_file, monkeypatch):
    visitor.ok("login", site.url, "--token-file", token_file)
    with TcpWay(urlsplit(site.url).port) as elsewhere:
        visitor.refused("whoami", "--server", elsewhere.url, code=2, says="there is no token for")
        monkeypatch.setenv("SENDENSE_SERVER", elsewhere.url)
        visitor.refused("whoami", code=2, says="there is no token for")
        assert elsewhere.accepted == 0


def test_what_was_kept_is_damaged(visitor, site, token_file, kept):
    kept.parent.mkdir(parents=True)
    a_secret_file(kept, f'{{"server": "{site.url}", "tok')
    answer = visitor.refused("whoami", code=2, says="is not what")
    assert "sign in again" in answer.err
    visitor.ok("login", site.url, "--token-file", token_file)
    visitor.ok("whoami")


def test_others_that_can_read_what_was_kept(visitor, site, token_file, kept):
    visitor.ok("login", site.url, "--token-file", token_file)
    kept.chmod(0o644)
    assert "chmod 600" in visitor("whoami").err


def test_where_nothing_can_be_kept(visitor, site, token_file, home):
    (home / "config").write_text("a file")
    visitor.refused(
        "login", site.url, "--token-file", token_file, code=10, says="cannot be written"
    )


class TestEncryption:
    @pytest.fixture
    def authority(self, tmp_path):
        made = Authority.create("tests")
        file = tmp_path / "ca.pem"
        file.write_bytes(made.certificate)
        return Authority(made.certificate, made.key), file

    @pytest.fixture
    def secured(self, site, authority, tmp_path):
        """Give a way to the server with a certificate of a private authority."""
        issued = authority[0].issue_agent("server", ["127.0.0.1"])
        chain = tmp_path / "server.pem"
        chain.write_bytes(issued.certificate + issued.key.reveal())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        with TcpWay(urlsplit(site.url).port, context) as way:
            yield way

    def test_a_private_authority(self, visitor, secured, authority, token_file):
        answer = visitor.refused(
            "login", secured.url, "--token-file", token_file, code=5, says="does not prove who"
        )
        assert "--ca-file" in answer.err
        ca_file = authority[1]
        visitor.ok("login", secured.url, "--token-file", token_file, "--ca-file", ca_file)
        assert visitor.json("whoami")["user"] == "viewer"

    def test_another_name(self, visitor, secured, authority, token_file):
        url = secured.url.replace("127.0.0.1", "localhost")
        line = ("login", url, "--token-file", token_file, "--ca-file", authority[1])
        visitor.refused(*line, code=5, says="does not prove who")

    @pytest.mark.parametrize(("content", "code"), [("no certificate", 2), (None, 3)])
    def test_no_authority(self, visitor, token_file, tmp_path, content, code):
        file = tmp_path / "none.pem"
        if content is not None:
            file.write_text(content)
        line = ("login", "https://127.0.0.1:1", "--token-file", token_file, "--ca-file", file)
        visitor.refused(*line, code=code, says="none.pem")

    def test_without_encryption_only_where_it_is_harmless_or_wanted(self, visitor, token_file):
        line = ("login", "http://192.0.2.1:1", "--token-file", token_file)
        answer = visitor.refused(*line, code=2, says="is not encrypted")
        assert "--insecure" in answer.err
        assert server_at("http://192.0.2.1", Asked(insecure=True)).insecure
        for host in ("localhost", "127.0.0.1:8080", "[::1]:8080"):
            assert not server_at(f"http://{host}", Asked()).encrypted


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host", "https://", "https://user:secret@host", "https://host?token=secret",
        "https://host#secret", "https://host:0", "https://host:99999", "https://a b", "::",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_server(url):
    with pytest.raises(Rejected) as caught:
        server_at(url, Asked())
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.data}"


def test_a_name_alone_is_meant_encrypted():
    assert server_at("backup.example.net:8443/sendense/", Asked()).url == (
        "https://backup.example.net:8443/sendense"
    )


def test_solo_commands_need_no_server(visitor, monkeypatch, tmp_path):
    monkeypatch.setenv("SENDENSE_SERVER", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("SENDENSE_TOKEN", "x")
    monkeypatch.setenv("SENDENSE_CA_FILE", "x")
    visitor.refused("points", "list", "-r", str(tmp_path / "none"), code=3, says="none")
    assert Path(tmp_path / "config").exists() is False
