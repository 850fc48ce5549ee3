"""Users, and the tokens by which they are known.

A token is ``sendense_<id>_<secret>``.  Of the secret, 256 random bits, only a hash is kept, so that
nobody can read a token out of the database.  A slow hash is for what people choose; nobody guesses
256 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.paging import read_page
from sendense.catalog.rows import (
    columns_of,
    containing,
    equal,
    given,
    read_one,
    require_row,
    row_of,
    value_of,
)
from sendense.catalog.tables import TOKENS, USERS
from sendense.errors import Conflict, NotSignedIn
from sendense.model.access import Grant, Role, Token, User
from sendense.model.identity import new_id
from sendense.model.page import FIRST, Page, Paging
from sendense.model.secret import Secret

_TOKEN = re.compile(r"sendense_([0-9a-f]{24})_([0-9a-f]{64})")
_USE_NOTED_EVERY = timedelta(minutes=1)
"""A write for each request would be the slowest part of it."""


class Users:
    """All users; there is always an administrator among them once there was one."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def add(self, user: User) -> None:
        """Remember a new one."""
        with self._database.write(taken=f"user named {user.name}") as connection:
            connection.execute(insert(USERS), row_of(user, USERS))

    def get(self, name: str) -> User:
        """Give one."""
        with self._database.read() as connection:
            return _read(connection, name)

    def page(
        self, paging: Paging = FIRST, *, search: str | None = None, role: Role | None = None
    ) -> Page[User]:
        """List them by name."""
        query = select(*columns_of(User, USERS)).where(*containing(USERS.c.name, search))
        query = query.where(*equal({USERS.c.role: role}))
        with self._database.read() as connection:
            order = (USERS.c.name,)
            return read_page(connection, query, order, paging, lambda row: value_of(User, row))

    def any(self) -> bool:
        """Tell whether there is one at all: if not, this is the first run."""
        with self._database.read() as connection:
            return connection.execute(select(USERS.c.name).limit(1)).first() is not None

    def edit(
        self, name: str, *, role: Role | None = None, disabled: bool | None = None,
        grant: Grant | None = None,
    ) -> User:  # fmt: skip
        """Change what is given; the last administrator stays one."""
        changes = given(role=role, disabled=disabled, grant=grant)
        if disabled is not None:
            changes["ended_account"] = None  # from now on it is somebody's decision
        with self._database.write() as connection:
            self._database.alone(connection, USERS)
            if changes:
                connection.execute(update(USERS).where(USERS.c.name == name).values(changes))
            user = _read(connection, name)
            _require_an_admin(connection)
        return user

    def remove(self, name: str) -> None:
        """Forget one, with its tokens; the last administrator stays."""
        with self._database.write() as connection:
            self._database.alone(connection, USERS)
            found = connection.execute(delete(USERS).where(USERS.c.name == name))
            require_row(found.rowcount, f"user {name}")
            _require_an_admin(connection)


class Tokens:
    """All tokens."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def issue(
        self, user: str, name: str, at: datetime, *, role: Role | None = None,
        scopes: tuple[str, ...] = (), expires_at: datetime | None = None,
    ) -> tuple[Token, Secret]:  # fmt: skip
        """Make a token; its text is given this once."""
        token = Token(new_id(at), user, name, at, role, scopes, expires_at)
        secret = secrets.token_hex(32)
        row = row_of(token, TOKENS) | {"secret_hash": _hash(secret)}
        with self._database.write() as connection:
            _read(connection, user)
            connection.execute(insert(TOKENS), row)
        return token, Secret(f"sendense_{token.id}_{secret}")

    def check(self, text: Secret, at: datetime) -> tuple[User, Token]:
        """Give whose token this is; :class:`~sendense.errors.NotSignedIn` if it does not count."""
        if not text:
            raise NotSignedIn("there is no token", hint="send 'Authorization: Bearer <token>'")
        found = _TOKEN.fullmatch(text.reveal().decode(errors="replace"))
        refusal = NotSignedIn(
            "the token is not valid", hint="it is mistyped, expired or withdrawn: get another one"
        )
        if found is None:
            raise refusal
        where = TOKENS.c.id == found[1]
        query = select(*columns_of(Token, TOKENS), TOKENS.c.secret_hash).where(where)
        with self._database.read() as connection:
            row = connection.execute(query).first()
            # One answer to all that is wrong, and the comparison takes the same time.
            if row is None or not hmac.compare_digest(row.secret_hash, _hash(found[2])):
                raise refusal
            fields = {name: value for name, value in row._mapping.items() if name != "secret_hash"}
            token = Token(**fields)
            user = _read(connection, token.user)
        if user.disabled or (token.expires_at is not None and token.expires_at <= at):
            raise refusal
        if token.last_used_at is None or at - token.last_used_at >= _USE_NOTED_EVERY:
            with self._database.write() as connection:
                connection.execute(update(TOKENS).where(where).values(last_used_at=at))
        return user, token

    def get(self, token_id: str) -> Token:
        """Give one, without its secret."""
        with self._database.read() as connection:
            where = TOKENS.c.id == token_id
            return read_one(connection, Token, TOKENS, where, what=f"token {token_id}")

    def page(self, paging: Paging = FIRST, *, user: str | None = None) -> Page[Token]:
        """List them, newest first."""
        query: Select[Any] = select(*columns_of(Token, TOKENS)).where(*equal({TOKENS.c.user: user}))
        with self._database.read() as connection:
            return read_page(
                connection, query, (TOKENS.c.created_at, TOKENS.c.id), paging,
                lambda row: value_of(Token, row), newest_first=True,
            )  # fmt: skip

    def revoke(self, token_id: str) -> None:
        """Let a token count no longer."""
        with self._database.write() as connection:
            found = connection.execute(delete(TOKENS).where(TOKENS.c.id == token_id))
            require_row(found.rowcount, f"token {token_id}")


def _read(connection: Connection, name: str) -> User:
    return read_one(connection, User, USERS, USERS.c.name == name, what=f"user {name}")


def _require_an_admin(connection: Connection) -> None:
    where = (USERS.c.role == Role.ADMIN) & USERS.c.disabled.is_(False)
    if connection.execute(select(USERS.c.name).where(where).limit(1)).first() is None:
        raise Conflict(
            "no administrator would be left", hint="make another user an administrator first"
        )


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
