"""Certificates for NBD over TLS: the installation's authority, and those of its workers and hosts.

The authority lives in the catalogue, its key sealed there; the first who needs it makes it.  Each
worker has a certificate of its own on its own disk, and renews it long before it ends.  A host
gets its certificate when it is enrolled.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from sendense.fleet.authority import Authority, renewal_due, write_worker_files
from sendense.model.enrolment import HostCertificate
from sendense.model.secret import Secret

_NAME = "tls-authority"
_WRITING = threading.Lock()
"""Jobs of one worker need them at the same time."""
_KEY_BEGINS = b"-----BEGIN PRIVATE KEY-----"


class SecretStore(Protocol):
    """Where the authority is kept."""

    def first(self, name: str, secret: Secret) -> Secret:
        """Keep a secret unless there is one of the name; gives the one that is kept."""

    def find(self, name: str) -> Secret | None:
        """Give a secret, if there is one."""


def authority_of(secrets: SecretStore) -> Authority:
    """Give the authority of this installation; it is made when it is first needed."""
    kept = secrets.find(_NAME)
    if kept is None:
        made = Authority.create("control plane")
        kept = secrets.first(_NAME, Secret(made.certificate + made.key.reveal()))
    text = kept.reveal()
    place = text.index(_KEY_BEGINS)
    return Authority(text[:place], Secret(text[place:]))


def worker_certificates(secrets: SecretStore, worker: str, folder: Path) -> Path:
    """See to it that a worker has certificates that last; gives their directory."""
    current = folder / "client-cert.pem"
    authority = authority_of(secrets)
    with _WRITING:
        if (
            not current.exists()
            or renewal_due(current.read_bytes())
            or (folder / "ca-cert.pem").read_bytes() != authority.certificate
        ):
            write_worker_files(folder, authority.certificate, authority.issue_worker(worker))
    return folder


def host_certificate(secrets: SecretStore, agent: str, names: tuple[str, ...]) -> HostCertificate:
    """Give a host the certificate that its gate shows to workers."""
    authority = authority_of(secrets)
    issued = authority.issue_agent(agent, names)
    return HostCertificate(
        authority=authority.certificate.decode(),
        certificate=issued.certificate.decode(),
        key=issued.key.reveal().decode(),
    )
