"""Certificates: for whom, for what, for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from sendense.errors import Damaged, Rejected
from sendense.fleet.authority import AGENT_LIFE, AUTHORITY_LIFE, Authority, renewal_due
from sendense.model.secret import Secret

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def made():
    return Authority.create("test", now=NOW)


@pytest.fixture
def authority(made):
    return Authority(made.certificate, made.key)


def test_a_hosts_certificate_names_its_names_and_addresses(authority):
    issued = authority.issue_agent("host1", ["host1.example", "192.0.2.7", "2001:db8::7"], now=NOW)
    read = x509.load_pem_x509_certificate(issued.certificate)
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["host1.example"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["192.0.2.7", "2001:db8::7"]
    usage = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert read.not_valid_after_utc == issued.not_after == NOW + AGENT_LIFE
    assert read.not_valid_before_utc < NOW
    with pytest.raises(Rejected):
        authority.issue_agent("host1", [], now=NOW)


def test_a_workers_certificate_is_for_connecting_only(authority):
    read = x509.load_pem_x509_certificate(authority.issue_worker("w" * 100, now=NOW).certificate)
    usage = read.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    read.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))


def test_renewal_comes_before_the_end(authority):
    issued = authority.issue_agent("host1", ["h"], now=NOW)
    assert not renewal_due(issued.certificate, now=NOW + AGENT_LIFE / 2)
    assert renewal_due(issued.certificate, now=NOW + AGENT_LIFE * 0.7)


def test_nothing_outlives_the_authority(authority):
    late = NOW + AUTHORITY_LIFE - timedelta(days=1)
    assert authority.issue_agent("h", ["h"], now=late).not_after == NOW + AUTHORITY_LIFE
    with pytest.raises(Rejected, match="expired"):
        authority.issue_worker("w", now=NOW + AUTHORITY_LIFE)


def test_bytes_that_are_no_authority(made):
    other = Authority.create("other", now=NOW)
    for certificate, key in (
        (b"x", made.key),
        (made.certificate, Secret(b"x")),
        (made.certificate, other.key),
    ):
        with pytest.raises(Damaged):
            Authority(certificate, key)
    assert "PRIVATE" not in repr(made)
