"""The first run: one administrator, and one token that is shown once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.errors import AlreadyExists, NotFound
from sendense.model.access import AuditNote, Role, User
from sendense.model.secret import Secret

ADMIN = "admin"
_DONE = "first-run-done"


def first_run(catalog: Catalog, show: Callable[[Secret], None]) -> None:
    """Make the first administrator and show its token, once; nothing where that was done before.

    Nobody keeps it.  A server that dies before it was shown gives another one at its next start.
    """
    try:
        catalog.settings.get(_DONE)
    except NotFound:
        show(administrator_token(catalog, "first run"))
        catalog.settings.put(_DONE, True, clock.now())


def administrator_token(catalog: Catalog, name: str) -> Secret:
    """Give a new token of the user ``admin``: for whoever has the server's machine, and no token.

    The user is made if there is none, and an administrator again if it was less.
    """
    now = clock.now()
    with suppress(AlreadyExists):
        catalog.users.add(User(ADMIN, Role.ADMIN, now))
    catalog.users.edit(ADMIN, role=Role.ADMIN, disabled=False)
    token, text = catalog.tokens.issue(ADMIN, name, now)
    catalog.audit.add(AuditNote("server", "administrator_token", token.id), now)
    return text
