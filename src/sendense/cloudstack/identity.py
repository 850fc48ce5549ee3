"""Whose keys somebody shows, or whose session it is: the cloud is asked with them, and says it.

``listUsers`` without ``listall`` gives the users of the caller's own account, whatever its type.
Where its role does not have that command, ``listAccounts`` gives the account; one of type User sees
no other there.  Any doubt is a refusal: who is taken for somebody else would see what is his.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from sendense.cloudstack.answers import number, rows, text
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.session import NO_SECOND_FACTOR, second_factor
from sendense.errors import NotAllowed, NotSignedIn
from sendense.model.cloud import Owner
from sendense.model.cloud_check import CloudIdentity
from sendense.model.cloud_login import LoggedIn

_LOG = logging.getLogger(__name__)

MOST_PROJECTS: Final = 200
KINDS: Final[Mapping[int, str]] = {0: "User", 1: "Admin", 2: "DomainAdmin", 3: "ResourceAdmin"}
_NO_RIGHT: Final = 432
"""Comes from the check of roles, which is behind the one of keys."""


def who_is(
    client: CloudClient, cloud_id: str, api_key: str, paths: Mapping[str, str]
) -> CloudIdentity:
    """Ask a cloud who its client is; ``paths`` are those of its domains by their ids.

    :class:`~sendense.errors.NotSignedIn` where its keys do not count.
    """
    _prove(client)
    return _identity(client, cloud_id, _own_row(client, api_key), paths)


def who_logged_in(
    client: CloudClient, cloud_id: str, login: LoggedIn, paths: Mapping[str, str]
) -> CloudIdentity:
    """Ask a cloud whose session its client has; it has to be what it said as the session began.

    :class:`~sendense.errors.NotSignedIn` where the session does not count;
    :class:`~sendense.errors.SecondStep` where the cloud wants more before it answers in it.
    """
    _prove_session(client)
    row = _row_of(client, login)
    if (text(row, "domainid"), text(row, "account", "name")) != (login.domain_id, login.account):
        raise _doubt("it names another account than it did at first")
    return _identity(client, cloud_id, row, paths)


def _identity(
    client: CloudClient, cloud_id: str, row: Mapping[str, Any], paths: Mapping[str, str]
) -> CloudIdentity:
    domain_id, account = text(row, "domainid"), text(row, "account", "name")
    if not domain_id or not account or "accounttype" not in row:
        raise _doubt("its answer names no account")
    path = paths.get(domain_id) or text(row, "domainpath", "domain")
    kind = number(row["accounttype"])
    return CloudIdentity(
        cloud_id=cloud_id,
        user=text(row, "username"),
        owner=Owner(domain_id=domain_id, domain=path, account=account),
        account_id=_account_id(row),
        kind=KINDS.get(kind, str(kind)),
        # Power over the root domain is power over the whole cloud, which nobody gets by its keys.
        domain_admin=KINDS.get(kind) == "DomainAdmin" and "/" in path,
        projects=_projects(client),
    )


def _prove(client: CloudClient) -> None:
    """Have the keys checked by a command that every version and every role has."""
    try:
        client.ping()
    except NotAllowed as error:
        if error.data.get("cs_code") != _NO_RIGHT:
            raise NotSignedIn(
                "the cloud does not accept these keys",
                hint="they are mistyped, renewed or withdrawn, or their user is disabled",
            ) from None


def _prove_session(client: CloudClient) -> None:
    """Have the session checked, as keys are: one that waits for a second factor is ended by it."""
    try:
        client.ping()
    except NotAllowed as error:
        if error.data.get("cs_code") == NO_SECOND_FACTOR:
            raise second_factor() from None
        if error.data.get("cs_code") != _NO_RIGHT:
            raise NotSignedIn(
                "the cloud does not accept the session that it began",
                hint="sign in again, or with API keys",
            ) from None


def _row_of(client: CloudClient, login: LoggedIn) -> dict[str, Any]:
    """Give the row of a session's own user, or that of the account where users are not shown."""
    found = _asked(client, "listUsers", "user", id=login.user_id)
    if found:
        found = [row for row in found if text(row, "id") == login.user_id]
    else:
        found = _asked(client, "listAccounts", "account")
    if len(found) != 1:
        raise _doubt("it does not show the one user or account that this is")
    if text(found[0], "state").lower() not in ("", "enabled"):
        raise _doubt(f"its state there is {text(found[0], 'state')}")
    return found[0]


def _own_row(client: CloudClient, api_key: str) -> dict[str, Any]:
    found = _asked(client, "listUsers", "user")
    # Its own key is shown to each user by most versions.
    found = [row for row in found if text(row, "apikey") == api_key] or found
    if not found:
        found = _asked(client, "listAccounts", "account")
        if len(found) != 1:
            raise _doubt("its role lacks listUsers, and listAccounts shows not one account")
    # All of them are users of one account, or something is wrong.
    if len({_account_id(row) for row in found}) != 1:
        raise _doubt("it names several accounts")
    return found[0]


def _account_id(row: Mapping[str, Any]) -> str:
    """Give the account's id: the row is a user's, or the account's itself."""
    return text(row, "accountid") or ("" if "username" in row else text(row, "id"))


def _asked(client: CloudClient, command: str, key: str, **params: str) -> list[dict[str, Any]]:
    try:
        return rows(client.call(command, **params), key)
    except NotAllowed as error:
        _LOG.info("%s: %s", client.name, error)
        return []


def _projects(client: CloudClient) -> tuple[str, ...]:
    """Give the projects that the account is a member of; without ``listall`` there are no others.

    They are so many at most, for each is a condition of all that is read later.
    """
    found: list[str] = []
    try:
        for page in client.every("listProjects", "project"):
            found += [text(row, "id") for row in page if text(row, "id")]
    except NotAllowed as error:
        _LOG.info("%s: %s", client.name, error)
    if len(found) > MOST_PROJECTS:
        _LOG.warning("%s: of %d projects only %d count", client.name, len(found), MOST_PROJECTS)
    return tuple(sorted(found)[:MOST_PROJECTS])


def _doubt(why: str) -> NotSignedIn:
    return NotSignedIn(
        f"the cloud does not tell who this is: {why}",
        hint="the role of the account needs listUsers",
    )
