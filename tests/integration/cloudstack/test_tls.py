"""A cloud is talked to only where its certificate is one that we were told to trust."""

import ssl

import pytest

from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.identity import who_logged_in
from sendense.cloudstack.refusals import Lost
from sendense.cloudstack.session import session
from sendense.cloudstack.transport import Limits, endpoint_of
from sendense.errors import Rejected, Unavailable
from sendense.fleet.authority import Authority
from sendense.model.cloud_login import CloudLogin
from sendense.model.secret import Secret

QUICK = Limits(per_second=1000)


@pytest.fixture
def signed(tmp_path):
    """Give what signs, and the context of a server that it signed for."""
    made = Authority.create("a cloud")
    authority = Authority(made.certificate, made.key)
    issued = authority.issue_agent("cloud", ["127.0.0.1"])
    (tmp_path / "server.pem").write_bytes(issued.certificate + issued.key.reveal())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return authority, context


def asked(cloud, ca_pem):
    api_key, secret = cloud.admin_keys
    client = CloudClient(cloud.url, api_key, Secret(secret), ca_pem=ca_pem, limits=QUICK)
    try:
        return client.ping(), client.warnings
    finally:
        client.close()


def test_the_given_certificate_is_trusted(site, signed):
    authority, context = signed
    cloud = site.cloud(tls=context)
    version, warnings = asked(cloud, authority.certificate.decode())
    assert version.startswith("4.20")
    assert warnings == ()


@pytest.mark.parametrize("other", [False, True])
def test_no_other_is(site, signed, other):
    _, context = signed
    ca_pem = Authority.create("another").certificate.decode() if other else ""
    with pytest.raises(Unavailable, match="certificate verify failed") as error:
        asked(site.cloud(tls=context), ca_pem)
    # The form with the signature was not sent.
    assert not isinstance(error.value, Lost)
    assert "certificate of its authority" in str(error.value.hint)


def session_of(cloud, ca_pem):
    cloud.create_account("ann", password="pass word")
    login = CloudLogin("ann", Secret("pass word"))
    with session(cloud.url, login, ca_pem=ca_pem, limits=QUICK) as (client, found):
        return who_logged_in(client, "id", found, {})


@pytest.mark.parametrize("secure", ["true", "false"])
def test_a_password_goes_to_who_is_trusted(site, signed, secure):
    authority, context = signed
    cloud = site.cloud(tls=context, settings={"enable.secure.session.cookie": secure})
    assert session_of(cloud, authority.certificate.decode()).user == "ann"
    assert (cloud.sessions.begun, cloud.sessions.open) == (1, 0)


@pytest.mark.parametrize("other", [False, True])
def test_a_password_goes_to_nobody_else(site, signed, other):
    _, context = signed
    cloud = site.cloud(tls=context)
    ca_pem = Authority.create("another").certificate.decode() if other else ""
    with pytest.raises(Unavailable, match="certificate verify failed"):
        session_of(cloud, ca_pem)
    assert cloud.sessions.begun == 0


def test_what_is_no_certificate():
    with pytest.raises(Rejected, match="no PEM certificates"):
        CloudClient("https://cloud.example", "k", Secret("s"), ca_pem="nonsense")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://cloud.example", "https://cloud.example/client/api"),
        (" https://cloud.example/client/ ", "https://cloud.example/client/api"),
        ("https://cloud.example:8443/client/api/", "https://cloud.example:8443/client/api"),
        ("http://[::1]:8080", "http://[::1]:8080/client/api"),
        ("https://cloud.example/other/api", "https://cloud.example/other/api"),
    ],
)
def test_addresses(given, expected):
    assert endpoint_of(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "",
        "cloud.example",
        "ftp://cloud.example",
        "https://",
        "https://me:pw@cloud.example/client/api",
        "https://cloud.example/client/api?apiKey=x",
        "https://cloud.example:port/",
        "https://[::1",
    ],
)
def test_what_is_no_address(given):
    with pytest.raises(Rejected) as error:
        endpoint_of(given)
    # There may be a password in it.
    assert "pw" not in error.value.message
