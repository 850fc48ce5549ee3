"""A server that is asked over TLS."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import ssl
from urllib.parse import urlencode, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.simulator.asking import admin


def certificate(folder):
    """Make a certificate for the loopback that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cloud")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "cloud.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_over_tls(make, tmp_path):
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    simulator = make(tls=context)
    assert simulator.url.startswith("https://")
    parts = urlsplit(simulator.url)
    trusting = ssl.create_default_context(cafile=str(path))
    connection = http.client.HTTPSConnection(parts.netloc, timeout=60, context=trusting)
    connection.request("POST", parts.path, urlencode(admin(simulator).signed("listZones")))
    answer = connection.getresponse()
    assert json.loads(answer.read())["listzonesresponse"]["count"] == 1
    connection.close()
