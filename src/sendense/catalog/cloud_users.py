"""Users that came by their keys of a cloud: they are refreshed by that, and end with their account.

They are users like others: an administrator sees them, disables them and withdraws their tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.rows import columns_of, row_of, value_of
from sendense.catalog.tables import TOKENS, USERS
from sendense.errors import NotSignedIn
from sendense.model.access import CLOUD_USER, Grant, Role, User
from sendense.model.cloud_user import same_account


class CloudUsers:
    """Those of all clouds."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def sign_in(self, name: str, grant: Grant, at: datetime) -> User:
        """Give the user of a name, with this grant; one that was disabled stays so.

        The name says who it is, so the home of a known user is the same.  Should it ever be
        another, then nobody keeps a token that was given to somebody else.
        """
        with self._database.write() as connection:
            self._database.alone(connection, USERS)
            known = _named(connection, name)
            if known is None:
                user = User(name, Role.TENANT, at, grant=grant)
                connection.execute(insert(USERS), row_of(user, USERS))
                return user
            if known.disabled or known.role is not Role.TENANT:
                raise NotSignedIn(
                    f"the user {name} is disabled, or no tenant any more",
                    hint="an administrator decides on it: sendense user show",
                )
            connection.execute(update(USERS).where(USERS.c.name == name).values(grant=grant))
            # Each time makes a token; those that count no longer need not be kept.
            ended = TOKENS.c.user == name
            if _is_at_home(known, grant):
                ended &= TOKENS.c.expires_at <= at
            connection.execute(delete(TOKENS).where(ended))
            known = _named(connection, name)
        if known is None:
            raise NotSignedIn(f"the user {name} was removed")
        return known

    def of_cloud(self, cloud_id: str) -> tuple[User, ...]:
        """Give those of a cloud, by name."""
        with self._database.read() as connection:
            return _of_cloud(connection, cloud_id)

    def end(
        self, cloud_id: str, gone: Mapping[str, str], barred: Collection[str]
    ) -> tuple[str, ...]:
        """Disable those whose account is gone, and withdraw the tokens of those that are barred.

        ``gone`` has the ids of accounts by the names of users.  Gives the names of those that this
        changed something for.  Who is disabled stays so until the same account is there again
        (:meth:`resume`), or an administrator enables it.
        """
        ended: list[str] = []
        users = self.of_cloud(cloud_id)
        if not users:
            return ()
        with self._database.write() as connection:
            for user in users:
                if user.name in gone and not user.disabled:
                    where = USERS.c.name == user.name
                    values = {"disabled": True, "ended_account": gone[user.name]}
                    connection.execute(update(USERS).where(where).values(values))
                    ended.append(user.name)
                elif user.name in barred:
                    found = connection.execute(delete(TOKENS).where(TOKENS.c.user == user.name))
                    ended += [user.name] if found.rowcount else []
        return tuple(ended)

    def resume(self, cloud_id: str, present: Collection[str]) -> tuple[str, ...]:
        """Enable those that were disabled by the end of an account that is there; gives the names.

        ``present`` are ids of accounts.
        """
        resumed = []
        with self._database.write() as connection:
            self._database.alone(connection, USERS)
            query = select(USERS.c.name, USERS.c.ended_account)
            ended = {
                row.name: row.ended_account
                for row in connection.execute(query.where(USERS.c.ended_account.is_not(None)))
            }
            for user in _of_cloud(connection, cloud_id):
                if ended.get(user.name) in present:
                    where = USERS.c.name == user.name
                    values = {"disabled": False, "ended_account": None}
                    connection.execute(update(USERS).where(where).values(values))
                    resumed.append(user.name)
        return tuple(resumed)


def forget_users(connection: Connection, cloud_id: str) -> None:
    """Remove the users that came by a cloud, with their tokens."""
    for user in _of_cloud(connection, cloud_id):
        connection.execute(delete(USERS).where(USERS.c.name == user.name))


def _of_cloud(connection: Connection, cloud_id: str) -> tuple[User, ...]:
    users = _read(connection, USERS.c.name.startswith(CLOUD_USER, autoescape=True))
    homes = ((user, user.home) for user in users)
    return tuple(user for user, home in homes if home is not None and home.cloud_id == cloud_id)


def _is_at_home(known: User, grant: Grant) -> bool:
    home = known.home
    return home is not None and bool(grant.tenants) and same_account(home, grant.tenants[0])


def _named(connection: Connection, name: str) -> User | None:
    return next(iter(_read(connection, USERS.c.name == name)), None)


def _read(connection: Connection, where: ColumnElement[bool]) -> tuple[User, ...]:
    query = select(*columns_of(User, USERS)).where(where).order_by(USERS.c.name)
    return tuple(value_of(User, row) for row in connection.execute(query))
