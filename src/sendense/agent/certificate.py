"""When the certificate of this host ends, and that this is said long before.

A host gets its certificate with each deployment and upgrade.  One that has ended opens nothing: no
disk of the host is read any more, so its end is a matter of health from 60 days before.

The standard library reads the dates of a certificate only of a connection, or of an authority; so
the few bytes that lead to them are walked here (DER: RFC 5280, section 4.1).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sendense import clock
from sendense.model.agent_status import HealthCheck, Level

_WARN = timedelta(days=60)
_DAY = timedelta(days=1)
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_VERSION, _UTC_TIME, _GENERALIZED_TIME = 0xA0, 0x17, 0x18
_HINT = "renew it from the control plane: 'sendense host upgrade HOST'"


def judge_certificate(file: Path) -> HealthCheck:
    """Judge how long the certificate of this host lasts."""
    try:
        end = not_after(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        return HealthCheck("certificate", Level.FAILED, f"{file} cannot be read: {error}", _HINT)
    left = end - clock.now()
    if left <= timedelta(0):
        message = f"it ended on {end:%Y-%m-%d}: no disk of this host can be read"
        return HealthCheck("certificate", Level.FAILED, message, _HINT)
    message = f"it ends in {left // _DAY} days, on {end:%Y-%m-%d}"
    if left < _WARN:
        return HealthCheck("certificate", Level.WARNING, message, _HINT)
    return HealthCheck("certificate", Level.OK, message)


def not_after(pem: str) -> datetime:
    """Give the end of the first certificate in a text; :class:`ValueError` where there is none."""
    begin, end = pem.find(_BEGIN), pem.find(_END)
    if begin < 0 or end < begin:
        raise ValueError("it holds no certificate")
    whole = ssl.PEM_cert_to_DER_cert(pem[begin : end + len(_END)])
    try:
        _, certificate = next(_parts(whole))
        _, signed = next(_parts(certificate))
        fields = [content for tag, content in _parts(signed) if tag != _VERSION]
        tag, content = list(_parts(fields[3]))[1]  # serial, signature, issuer, validity
    except (IndexError, StopIteration):
        raise ValueError("it is no certificate") from None
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits of the year: 00 to 49 are of this century.
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("it says no end")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the values, with their tags, that stand one behind the other."""
    place = 0
    while place < len(content):
        tag, length, place = content[place], content[place + 1], place + 2
        if length & 0x80:
            count = length & 0x7F
            length, place = int.from_bytes(content[place : place + count], "big"), place + count
        if place + length > len(content):
            raise IndexError
        yield tag, content[place : place + length]
        place += length
