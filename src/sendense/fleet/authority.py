"""The control plane's own small certificate authority, for NBD over TLS.

It signs two kinds of certificate: of agents, which serve, and of workers, which connect.  Each
says so in its usage, so that the certificate of a stolen host opens no other host's disks.
Certificates are short-lived and renewed well before they end; nothing is ever revoked.

Bytes in, bytes out: whoever calls keeps the keys, encrypted.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sendense import clock
from sendense.errors import Damaged, Rejected
from sendense.model.secret import Secret

AUTHORITY_LIFE = timedelta(days=3650)
AGENT_LIFE = timedelta(days=730)
"""A host gets a new one with each deployment and upgrade, and by no other way; its agent
warns of the end 60 days before (:mod:`sendense.agent.certificate`)."""
WORKER_LIFE = timedelta(days=2)
_EARLIER = timedelta(minutes=10)
"""Certificates begin so long ago, for hosts whose clock is behind."""
_RENEW_AT = 2 / 3
"""Of a certificate's life."""


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: Secret
    not_after: datetime


class Authority:
    """Signs for agents and workers; from bytes that :meth:`create` made."""

    def __init__(self, certificate: bytes, key: Secret) -> None:
        """Take the authority's certificate and key, in PEM."""
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            private = load_pem_private_key(key.reveal(), None)
        except (ValueError, TypeError) as error:
            raise Damaged("the authority's certificate or key cannot be read") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise Damaged("the authority's key is not of the kind that it makes")
        if private.public_key() != self._certificate.public_key():
            raise Damaged("the authority's certificate is not for its key")
        self._key = private

    @classmethod
    def create(cls, name: str, *, now: datetime | None = None) -> Issued:
        """Make a new authority; ``name`` tells installations apart."""
        moment = now or clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(f"Sendense authority {name}")
        builder = _builder(subject, subject, key.public_key(), moment, AUTHORITY_LIFE)
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        return _issued(builder.sign(key, hashes.SHA256()), key)

    @property
    def certificate(self) -> bytes:
        """Give the certificate that agents and workers trust, in PEM."""
        return self._certificate.public_bytes(Encoding.PEM)

    def issue_agent(
        self, agent_id: str, names: Sequence[str], *, now: datetime | None = None
    ) -> Issued:
        """Sign for a host that workers reach under ``names``: names and addresses."""
        if not names:
            raise Rejected("a host's certificate needs the names or addresses it is reached under")
        return self._issue(agent_id, names, ExtendedKeyUsageOID.SERVER_AUTH, AGENT_LIFE, now)

    def issue_worker(self, worker_id: str, *, now: datetime | None = None) -> Issued:
        """Sign for a worker."""
        return self._issue(worker_id, (), ExtendedKeyUsageOID.CLIENT_AUTH, WORKER_LIFE, now)

    def _issue(
        self,
        name: str,
        names: Sequence[str],
        usage: x509.ObjectIdentifier,
        life: timedelta,
        now: datetime | None,
    ) -> Issued:
        moment = now or clock.now()
        if moment + life > self._certificate.not_valid_after_utc:
            life = self._certificate.not_valid_after_utc - moment
        if life <= timedelta(0):
            raise Rejected("the authority itself has expired", hint="create a new one")
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._certificate.subject
        builder = _builder(_subject(name), issuer, key.public_key(), moment, life)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(authority, critical=False)
        )
        if names:
            spoken = x509.SubjectAlternativeName([_general(item) for item in names])
            builder = builder.add_extension(spoken, critical=False)
        return _issued(builder.sign(self._key, hashes.SHA256()), key)


def renewal_due(certificate: bytes, *, now: datetime | None = None) -> bool:
    """Tell whether a certificate has lived two thirds of its life."""
    read = x509.load_pem_x509_certificate(certificate)
    life = read.not_valid_after_utc - read.not_valid_before_utc
    return (now or clock.now()) >= read.not_valid_before_utc + life * _RENEW_AT


def write_worker_files(folder: Path, authority: bytes, issued: Issued) -> None:
    """Put a worker's certificate where libnbd looks for it (``Gate.certificates``)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The key last: a certificate without its key is noticed, a key beside an old one is not.
    for name, content in (
        ("ca-cert.pem", authority),
        ("client-cert.pem", issued.certificate),
        ("client-key.pem", issued.key.reveal()),
    ):
        fresh = folder / f".{name}.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        fresh.replace(folder / name)


def _subject(name: str) -> x509.Name:
    # 64 characters are the most that X.509 lets a common name have.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Issued(
        certificate.public_bytes(Encoding.PEM), Secret(text), certificate.not_valid_after_utc
    )
