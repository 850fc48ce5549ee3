"""No secret in the database, each only in its place, and the master key can be changed."""

from __future__ import annotations

import secrets as random_secrets
import sqlite3
import subprocess
from contextlib import closing

import pytest
from sqlalchemy import select, update

from sendense.catalog.catalog import open_catalog
from sendense.catalog.repositories import RepositorySecrets
from sendense.catalog.sealing import MasterKey, MasterKeys
from sendense.catalog.tables import HOSTS, REPOSITORIES, SEALED
from sendense.errors import Damaged, Rejected
from sendense.fleet.certificates import host_certificate, worker_certificates
from sendense.model.access import Role, User
from sendense.model.cloud import CloudKeys, InstanceSecrets
from sendense.model.secret import Secret
from tests.support.catalogs import KEYS, catalog_at, file_of
from tests.support.clouds import a_cloud, a_cloud_instance
from tests.support.fleet import NOW, a_host, a_repository_entry


def fill(catalog):
    """Put a secret wherever one may be; give them all."""
    made = [random_secrets.token_hex(12) for _ in range(9)]
    ticket, passphrase, credential, own, *of_cloud = (Secret(each) for each in made)
    catalog.hosts.add(a_host(), ticket)
    secrets = RepositorySecrets(passphrase, {"account_key": credential})
    catalog.repositories.add(a_repository_entry(), secrets)
    catalog.secrets.put("ca", own)
    fill_cloud(catalog, *of_cloud)
    catalog.users.add(User("ada", Role.ADMIN, NOW))
    token = catalog.tokens.issue("ada", "t", NOW)[1].reveal().decode()
    return [*made, token.split("_")[2]]


def fill_cloud(catalog, signing, restoring, webhook, detail, user_data):
    keys = CloudKeys("api", signing, "restore", restoring, webhook)
    catalog.clouds.add(a_cloud(), keys)
    found = [(a_cloud_instance(), InstanceSecrets({"password": detail}, user_data))]
    catalog.inventory.take_instances("id-west", found, NOW)


def dump(url):
    """Give all that is stored, as whoever steals the database has it."""
    if url.startswith("sqlite"):
        file = file_of(url)
        with closing(sqlite3.connect(file)) as connection:
            text = "\n".join(connection.iterdump()).encode()
        return text + b"".join(
            path.read_bytes() for path in file.parent.glob(f"{file.name}*") if path.is_file()
        )
    return subprocess.run(["pg_dump", url], check=True, capture_output=True).stdout


def test_no_secret_in_the_database(url):
    with catalog_at(url) as catalog:
        made = fill(catalog)
        found = dump(url).lower()
    assert b"kvm1.example" in found  # it is the right database, and text is seen in it
    for secret in made:
        for form in (secret.encode(), secret.encode().hex().encode()):
            assert form not in found


def test_a_value_moved_to_another_row_does_not_open(catalog):
    catalog.hosts.add(a_host("a"), Secret("a's"))
    catalog.hosts.add(a_host("b"), Secret("b's"))
    with catalog.database.write() as connection:
        secret = HOSTS.c.ticket_secret
        moved = connection.execute(select(secret).where(HOSTS.c.id == "id-a")).scalar_one()
        connection.execute(update(HOSTS).where(HOSTS.c.id == "id-b").values(ticket_secret=moved))
    assert catalog.hosts.ticket_secret("id-a") == Secret("a's")
    with pytest.raises(Damaged):
        catalog.hosts.ticket_secret("id-b")


def test_a_value_that_was_changed_does_not_open(catalog):
    catalog.repositories.add(a_repository_entry(), RepositorySecrets(Secret("p")))
    with catalog.database.write() as connection:
        sealed = connection.execute(select(REPOSITORIES.c.passphrase)).scalar_one()
        changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
        connection.execute(update(REPOSITORIES).values(passphrase=changed))
    with pytest.raises(Damaged):
        catalog.repositories.secrets("id-main")


def test_another_master_key_is_refused_at_the_start(url):
    with catalog_at(url):
        pass
    for other in (MasterKey.new(), MasterKey(KEYS.current, Secret(b"\x01" * 32))):
        with pytest.raises(Rejected, match="does not belong"):
            open_catalog(url, MasterKeys([other]))


def test_the_master_key_is_changed(url):
    old, new = MasterKey.new(), MasterKey.new()
    with catalog_at(url, MasterKeys([old])) as catalog:
        fill(catalog)
        before = catalog.repositories.secrets("id-main")
    with catalog_at(url, MasterKeys([old, new])) as catalog:
        assert catalog.reseal() == len(SEALED) + 1  # and the one that tells the key
        assert catalog.reseal() == 0
    with catalog_at(url, MasterKeys([new])) as catalog:
        assert catalog.repositories.secrets("id-main") == before
    with pytest.raises(Rejected, match="does not belong"):
        open_catalog(url, MasterKeys([old]))


def test_the_first_secret_of_a_name_stays(catalog):
    assert catalog.secrets.first("a", Secret(b"1")) == Secret(b"1")
    assert catalog.secrets.first("a", Secret(b"2")) == Secret(b"1")
    assert catalog.secrets.find("a") == Secret(b"1")


def test_certificates_of_one_installation_trust_each_other(catalog, tmp_path):
    folder = worker_certificates(catalog.secrets, "w1", tmp_path / "w1")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert worker_certificates(catalog.secrets, "w1", folder) == folder
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    host = host_certificate(catalog.secrets, "kvm1", ("192.0.2.1",))
    assert host.authority.encode() == before["ca-cert.pem"]
    assert "PRIVATE KEY" not in repr(host)
