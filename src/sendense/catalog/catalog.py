"""The catalogue: what the control plane remembers, by kind of entry.

It is an index and a record.  Points are in repositories, machines on hosts: both can be read from
there again.  What is only here is who may do what, policies, jobs, and the keys to hosts and
repositories, sealed under the master key (:mod:`sendense.catalog.sealing`).
"""

from __future__ import annotations

import secrets

from sqlalchemy import select, update

from sendense.catalog.audit import Audit
from sendense.catalog.cloud_changes import CloudChanges
from sendense.catalog.cloud_users import CloudUsers
from sendense.catalog.clouds import Clouds
from sendense.catalog.database import Database
from sendense.catalog.hosts import Hosts
from sendense.catalog.instances import Instances
from sendense.catalog.inventory import Inventory
from sendense.catalog.jobs import Jobs
from sendense.catalog.migrating import migrate
from sendense.catalog.points import Points
from sendense.catalog.policies import Policies
from sendense.catalog.replies import Replies
from sendense.catalog.repositories import Repositories
from sendense.catalog.rounds import Rounds
from sendense.catalog.runs import Runs
from sendense.catalog.sealing import MasterKeys, Place
from sendense.catalog.settings import Secrets, Settings
from sendense.catalog.tables import SEALED
from sendense.catalog.tenants import Tenants
from sendense.catalog.users import Tokens, Users
from sendense.catalog.workers import Turns, Workers
from sendense.errors import Damaged, Rejected
from sendense.model.secret import Secret

_CHECK = "check"


class Catalog:
    """All of it, over one database; used by any number of threads."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        """Use a database that has the tables of this version."""
        self.database = database
        self._keys = keys
        self.hosts = Hosts(database, keys)
        self.instances = Instances(database)
        self.clouds = Clouds(database, keys)
        self.inventory = Inventory(database, keys)
        self.cloud_changes = CloudChanges(database)
        self.repositories = Repositories(database, keys)
        self.points = Points(database)
        self.policies = Policies(database)
        self.jobs = Jobs(database)
        self.runs = Runs(database)
        self.rounds = Rounds(database)
        self.workers = Workers(database)
        self.turns = Turns(database)
        self.users = Users(database)
        self.cloud_users = CloudUsers(database)
        self.tokens = Tokens(database)
        self.tenants = Tenants(database)
        self.audit = Audit(database)
        self.settings = Settings(database)
        self.secrets = Secrets(database, keys)
        self.replies = Replies(database)

    def reseal(self) -> int:
        """Seal every secret anew under the newest master key; gives how many were under another."""
        count = 0
        with self.database.write() as connection:
            for table, key, column in SEALED:
                self.database.alone(connection, table)
                rows = connection.execute(select(key, column).where(column.is_not(None))).all()
                for row in rows:
                    row_key, sealed = str(row[0]), bytes(row[1])
                    if self._keys.key_of(sealed) == self._keys.current:
                        continue
                    place = Place(table.name, row_key, column.name)
                    again = self._keys.seal(self._keys.open(sealed, place), place)
                    connection.execute(update(table).where(key == row_key).values({column: again}))
                    count += 1
        return count

    def seal_for_points(self, machine: str, secret: Secret) -> bytes:
        """Seal what is stored with the points of a machine, beside what anybody may read there.

        A point is never written again: it opens with the master key of its day, also after another
        one was made the newest.
        """
        return self._keys.seal(secret, _with_points(machine))

    def open_from_point(self, machine: str, sealed: bytes) -> Secret:
        """Give what was sealed for the points of a machine."""
        return self._keys.open(sealed, _with_points(machine))

    def check_key(self) -> None:
        """Refuse a master key that is not this catalogue's, before something is sealed with it."""
        try:
            if self.secrets.find(_CHECK) is not None:
                return
        except (Rejected, Damaged) as error:
            raise Rejected(
                "the master key does not belong to this catalogue",
                hint="put the key back that the catalogue was made with",
            ) from error
        self.secrets.put(_CHECK, Secret(secrets.token_bytes(16)))

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _with_points(machine: str) -> Place:
    return Place("points", machine, "sealed")


def open_catalog(url: str, keys: MasterKeys) -> Catalog:
    """Open a catalogue, made or brought to the tables of this version where that is needed."""
    database = Database(url)
    try:
        migrate(database)
        catalog = Catalog(database, keys)
        catalog.check_key()
    except BaseException:
        database.close()
        raise
    return catalog
