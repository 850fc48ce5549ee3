"""Names for people, ids for the server.

What a person types is tried as an id first, then as a name, which the server looks for.  A name
that means two things is refused with both, and one that means nothing with those that look like
it: nothing is guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote

from sendense.cli.remote.answers import Doc
from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.model.access import Role

if TYPE_CHECKING:
    from sendense.cli.remote.client import Client

_ID = re.compile(r"[A-Za-z0-9._@:-]{1,64}")
_USER = re.compile(r"[A-Za-z0-9._@:/%~-]{1,255}")
_MOST = 1000
_MOST_ASKED = 50
"""Names of instances that are looked up one by one for a list; behind that UUIDs have to do."""
_FEW = 4
"""Of hosts and so on, which are fewer: more than this, and all are read at once."""
_HIDDEN = "-"
"""In place of a name that is not for this user."""
LATEST = "latest:"


class Names:
    """Finds what is meant, and remembers what things are called."""

    def __init__(self, client: Client) -> None:
        """Ask nothing yet."""
        self._client = client
        self._known: dict[tuple[str, str], str] = {}
        self._asked: Counter[str] = Counter()
        self._hidden: set[str] | None = None

    # --- What a person means

    def host(self, typed: str) -> Doc:
        """Find a host by id or name."""
        return self._find("hosts", "host", typed, "id")

    def cloud(self, typed: str) -> Doc:
        """Find a cloud by id or name."""
        return self._find("clouds", "cloud", typed, "id")

    def instance(self, typed: str) -> Doc:
        """Find an instance by UUID or name: that of its host, or one that it has in its cloud."""
        try:
            return self._find("instances", "instance", typed, "uuid")
        except NotFound:
            found = self._in_clouds(typed)
            if not found:
                raise
        if len(found) > 1:
            raise _ambiguous("instance", typed, found)
        return self._client.get(f"/instances/{quote(found[0], safe='')}")

    def _in_clouds(self, typed: str) -> list[str]:
        """Give the UUIDs of instances that clouds call so; those that are there before others."""
        similar = islice(self._client.every("/cloudstack/vms", search=typed), _MOST)
        named = [each for each in similar if typed in (each["name"], each["display_name"])]
        there = [each for each in named if not each["gone_at"]]
        return [str(each["id"]) for each in there or named]

    def repository(self, typed: str) -> Doc:
        """Find a repository by id or name."""
        return self._find("repositories", "repository", typed, "id")

    def policy(self, typed: str) -> Doc:
        """Find a policy by id or name."""
        return self._find("policies", "policy", typed, "id")

    def tenant(self, typed: str) -> Doc:
        """Find a tenant by id or name."""
        return self._find("tenants", "tenant", typed, "id")

    def repository_id(self, typed: str | None) -> str | None:
        """Give the id of a repository, where one is meant."""
        return None if typed is None else str(self.repository(typed)["id"])

    def host_id(self, typed: str | None) -> str | None:
        """Give the id of a host, where one is meant."""
        return None if typed is None else str(self.host(typed)["id"])

    def instance_uuid(self, typed: str | None) -> str | None:
        """Give the UUID of an instance, where one is meant."""
        return None if typed is None else str(self.instance(typed)["uuid"])

    def machine_uuid(self, typed: str | None) -> str | None:
        """Give the UUID of a machine that may be known by its points alone."""
        if typed is None:
            return None
        try:
            return self.instance_uuid(typed)
        except NotFound:
            named = self._client.every("/points", machine_name=typed)
            found = {str(point["machine_uuid"]) for point in islice(named, _MOST)}
            if len(found) > 1:
                raise _ambiguous("machine", typed, sorted(found)) from None
            if not found:
                raise
            return found.pop()

    def point(self, typed: str, repository_id: str | None = None) -> Doc:
        """Find a point by its id, or the newest good one of an instance (``latest:NAME``).

        A safety point, which a restore made of what it was about to overwrite, is never the latest:
        a restore that is repeated must not restore that.
        """
        if not typed.startswith(LATEST):
            path = f"/points/{_id(typed, 'point')}"
            return self._client.get(path, repository_id=repository_id)
        name = typed.removeprefix(LATEST)
        machine = self.machine_uuid(name)
        newest = self._client.every(
            "/points", page_size=1, machine=machine, repository_id=repository_id, state="complete"
        )
        for point in newest:
            if not (point.get("safety") or self._is_of_restore(point)):
                return point
        raise NotFound(f"{name} has no good point", hint="'sendense job backup' makes one")

    def _is_of_restore(self, point: Doc) -> bool:
        """Tell whether a restore made a point, as far as its job is still known.

        What was entered before points said it themselves is known by this alone, until it is listed
        anew.
        """
        if point["job_id"] is None:
            return False
        try:
            return bool(self._client.get(f"/jobs/{point['job_id']}")["kind"] == "restore")
        except NotFound:
            return False

    # --- What the server means

    def cloud_name(self, cloud_id: str | None) -> str:
        """Give the name of a cloud; its id if that cannot be known."""
        return self._name("clouds", cloud_id)

    def host_name(self, host_id: str | None) -> str:
        """Give the name of a host; its id if that cannot be known."""
        return self._name("hosts", host_id)

    def repository_name(self, repository_id: str | None) -> str:
        """Give the name of a repository; its id if that cannot be known."""
        return self._name("repositories", repository_id)

    def instance_name(self, uuid: str | None) -> str:
        """Give the name of an instance; its UUID if that cannot be known."""
        return self._name("instances", uuid)

    def _name(self, kind: str, key: str | None) -> str:
        if not key:
            return ""
        if (kind, key) not in self._known:
            self._known[kind, key] = self._asked_name(kind, key)
        return self._known[kind, key]

    def _asked_name(self, kind: str, key: str) -> str:
        if kind in self._not_ours():
            return _HIDDEN
        if self._asked[kind] >= _MOST_ASKED or not _ID.fullmatch(key):
            return key
        self._asked[kind] += 1
        if kind != "instances" and self._asked[kind] == _FEW:
            self._read_all(kind)
            if (kind, key) in self._known:
                return self._known[kind, key]
        try:
            return _called(self._client.get(f"/{kind}/{quote(key, safe='')}"))
        except NotFound:
            # It is gone.
            return key
        except NotAllowed:
            self._not_ours().add(kind)
            return _HIDDEN

    def _read_all(self, kind: str) -> None:
        for each in islice(self._client.every(f"/{kind}", page_size=_MOST), _MOST):
            self._known[kind, str(each["id"])] = str(each["name"])

    def _not_ours(self) -> set[str]:
        """Name what this user may not see: asking all the same would fill the audit log."""
        if self._hidden is None:
            tenant = self._client.get("/whoami")["role"] == Role.TENANT.value
            self._hidden = {"hosts", "clouds", "repositories"} if tenant else set()
        return self._hidden

    def _find(self, kind: str, word: str, typed: str, key: str) -> Doc:
        if _ID.fullmatch(typed):
            try:
                found = self._client.get(f"/{kind}/{quote(typed, safe='')}")
                self._known[kind, typed] = _called(found)
                return found
            except NotFound:
                pass
        similar = list(islice(self._client.every(f"/{kind}", search=typed), _MOST))
        named = [each for each in similar if each["name"] == typed]
        if len(named) > 1:
            raise _ambiguous(word, typed, [str(each[key]) for each in named])
        if not named:
            raise self._unknown(kind, word, typed, similar)
        # A list has less of it than the thing itself.
        return self._client.get(f"/{kind}/{named[0][key]}")

    def _unknown(self, kind: str, word: str, typed: str, similar: Iterable[Doc]) -> NotFound:
        names = [str(each["name"]) for each in similar]
        if not names and len(typed) > 3:
            begun = self._client.every(f"/{kind}", search=typed[:3])
            names = get_close_matches(typed, [str(each["name"]) for each in islice(begun, _MOST)])
        group = "repository" if kind == "repositories" else word
        hint = f"'sendense {group} list' lists them"
        if names:
            hint = f"did you mean {', '.join(names[:3])}? {hint}"
        return NotFound(f"there is no {word} {typed}", hint=hint)


def _called(found: Doc) -> str:
    """Give what people call something: an instance is called as its owner called it."""
    cloud = found.get("cloud")
    return str(cloud["name"] if isinstance(cloud, dict) else found["name"])


def _ambiguous(word: str, typed: str, keys: list[str]) -> Rejected:
    return Rejected(
        f"{len(keys)} {word}s are called {typed}", hint=f"name one of them: {', '.join(keys[:5])}"
    )


def _id(typed: str, word: str) -> str:
    if not _ID.fullmatch(typed):
        raise NotFound(f"there is no {word} {typed}", hint=f"this is not the id of a {word}")
    return quote(typed, safe="")


def as_user(typed: str) -> str:
    """Give the name of a user, fit for a path; one that came by a cloud has slashes in it."""
    if not _USER.fullmatch(typed):
        raise NotFound(f"there is no user {typed}", hint="'sendense user list' lists them")
    return quote(typed, safe="")


def as_id(typed: str, word: str) -> str:
    """Give an id that a person typed, fit for a path."""
    return _id(typed, word)
