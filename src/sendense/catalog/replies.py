"""Answers to requests that carry a key, so that a request that is repeated is not done twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update

from sendense.catalog.database import Database
from sendense.catalog.tables import REPLIES
from sendense.errors import AlreadyExists, Busy, Conflict

_WORKED_ON = timedelta(minutes=10)
"""For longer no request takes: whoever had the key has died."""
_KEPT = timedelta(days=1)


@dataclass(frozen=True)
class Reply:
    """What was answered."""

    status: int
    body: Any
    location: str | None = None
    """Where what was made is."""


class Replies:
    """All answers that are remembered, by user and key."""

    def __init__(self, database: Database) -> None:
        """Use a database."""
        self._database = database

    def begin(self, user: str, key: str, request_hash: str, at: datetime) -> Reply | None:
        """Take a key for a request, or give what was answered to the same request before.

        A key of a request that never came to an answer is free again after ten minutes.

        :class:`~sendense.errors.Conflict` if the key was used for another request, and
        :class:`~sendense.errors.Busy` if the same one is being worked on.
        """
        row = {
            "user": user,
            "key": key,
            "request_hash": request_hash,
            "expires_at": at + _WORKED_ON,
        }
        mine = (REPLIES.c.user == user) & (REPLIES.c.key == key)
        try:
            with self._database.write() as connection:
                connection.execute(delete(REPLIES).where(mine, REPLIES.c.expires_at <= at))
                connection.execute(insert(REPLIES), row)
            return None
        except AlreadyExists:
            with self._database.read() as connection:
                found = connection.execute(select(REPLIES).where(mine)).first()
        if found is None or (found.request_hash == request_hash and found.status is None):
            raise Busy("the same request is being worked on", hint="ask again in a moment")
        if found.request_hash != request_hash:
            raise Conflict(
                "this Idempotency-Key was used for another request",
                hint="take a new key for each request, and the same one only to repeat it",
            )
        return Reply(found.status, found.body["body"], found.body.get("location"))

    def finish(self, user: str, key: str, reply: Reply, at: datetime) -> None:
        """Remember for a day what was answered."""
        mine = (REPLIES.c.user == user) & (REPLIES.c.key == key)
        body = {"body": reply.body, "location": reply.location}
        change = {"status": reply.status, "body": body, "expires_at": at + _KEPT}
        with self._database.write() as connection:
            connection.execute(update(REPLIES).where(mine).values(change))

    def abandon(self, user: str, key: str) -> None:
        """Give a key free: the request was not carried out."""
        mine = (REPLIES.c.user == user) & (REPLIES.c.key == key)
        with self._database.write() as connection:
            connection.execute(delete(REPLIES).where(mine))

    def forget(self, at: datetime) -> int:
        """Forget what has expired; gives how many."""
        with self._database.write() as connection:
            return connection.execute(delete(REPLIES).where(REPLIES.c.expires_at <= at)).rowcount
