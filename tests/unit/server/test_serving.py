"""Serving the API: what keeps it from being served is said."""

import socket
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from sendense.errors import Rejected, Unavailable
from sendense.fleet.authority import Authority
from sendense.server.serving import ApiServer, logins_of
from sendense.server.settings import ServerSettings


@pytest.fixture
def taken() -> Iterator[str]:
    """Give an address at which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def chain(tmp_path: Path) -> tuple[Path, Path]:
    """Give a certificate and its key."""
    made = Authority.create("tests")
    issued = Authority(made.certificate, made.key).issue_agent("server", ["127.0.0.1"])
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    certificate.write_bytes(issued.certificate)
    key.write_bytes(issued.key.reveal())
    return certificate, key


def test_an_address_that_is_taken(taken: str) -> None:
    api = ApiServer(ServerSettings(listen=taken), MagicMock())
    with pytest.raises(Unavailable, match=f"served on {taken}: .*address already in use"), api:
        pass


def test_a_certificate_and_its_key(taken: str, chain: tuple[Path, Path]) -> None:
    ApiServer(ServerSettings(listen=taken, tls_certificate=chain[0], tls_key=chain[1]), MagicMock())


@pytest.mark.parametrize(
    ("broken", "content", "said"),
    [
        (0, None, r"^tls_certificate: .*server.pem cannot be read: No such file"),
        (1, None, r"^tls_key: .*server.key cannot be read: No such file"),
        (0, b"none", r"tls_certificate .*server.pem and tls_key .*server.key are no certificate"),
        (1, b"none", r"tls_certificate .*server.pem and tls_key .*server.key are no certificate"),
    ],
)
def test_what_is_no_certificate_or_key(
    taken: str, chain: tuple[Path, Path], broken: int, content: bytes | None, said: str
) -> None:
    if content is None:
        chain[broken].unlink()
    else:
        chain[broken].write_bytes(content)
    settings = ServerSettings(listen=taken, tls_certificate=chain[0], tls_key=chain[1])
    with pytest.raises(Rejected, match=said):
        ApiServer(settings, MagicMock())


@pytest.mark.parametrize("passwords", [True, False])
def test_the_settings_say_who_may_sign_in(passwords: bool) -> None:
    logins = logins_of(ServerSettings(cloud_login_hours=2, cloud_login_passwords=passwords))
    assert (logins.lasts_s, logins.passwords) == (7200, passwords)
