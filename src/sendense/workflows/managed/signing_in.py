"""Asking a cloud who somebody is, by keys or a password, used this once; and when it ends again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from sendense.catalog.catalog import Catalog
from sendense.cloudstack.answers import rows, text
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.identity import who_is, who_logged_in
from sendense.cloudstack.session import session
from sendense.cloudstack.transport import Limits
from sendense.errors import NotFound
from sendense.model.access import TenantScope
from sendense.model.cloud import CloudAccount, CloudDomain, CloudKind, CloudObject
from sendense.model.cloud_check import CloudIdentity
from sendense.model.cloud_login import CloudLogin
from sendense.model.secret import Secret

log = logging.getLogger(__name__)

_QUICK: Final = Limits(
    silent_s=15.0, whole_s=30.0, patience_s=3.0, max_bytes=4 * 1024 * 1024, per_second=100.0
)
"""Somebody waits for it, and may be anybody."""


def who(catalog: Catalog, cloud_id: str, api_key: str, secret: Secret) -> CloudIdentity:
    """Ask a cloud whose keys these are; never with a client that is kept.

    :class:`~sendense.errors.NotSignedIn` where they do not count.
    """
    cloud = catalog.clouds.get(cloud_id)
    client = CloudClient(
        cloud.endpoint, api_key, secret, name=cloud.name, ca_pem=cloud.ca_pem, limits=_QUICK
    )
    try:
        return who_is(client, cloud_id, api_key, _paths(catalog, cloud_id))
    finally:
        client.close()


def who_by_password(catalog: Catalog, cloud_id: str, login: CloudLogin) -> CloudIdentity:
    """Log in to a cloud, ask it who that is, and log out again.

    :class:`~sendense.errors.NotSignedIn` where it does not take them, and its kind
    :class:`~sendense.errors.SecondStep` where it wants more than a password.
    """
    cloud = catalog.clouds.get(cloud_id)
    begun = session(
        cloud.endpoint, login, name=cloud.name, ca_pem=cloud.ca_pem, limits=_QUICK
    )  # fmt: skip
    with begun as (client, found):
        return who_logged_in(client, cloud_id, found, _paths(catalog, cloud_id))


def _paths(catalog: Catalog, cloud_id: str) -> dict[str, str]:
    domains = catalog.inventory.present(cloud_id, CloudKind.DOMAIN)
    return {each.id: each.path for each in domains if isinstance(each, CloudDomain)}


def end_users(catalog: Catalog, cloud_id: str, client: CloudClient) -> None:
    """End users whose account is gone, and tokens of those whose account is barred.

    An account that was never seen is no reason: a key that is no administrator's sees few of them.
    One that whole looks missed is asked for by its id before, and its user is there again when the
    account is: lists slip, and keys are given less.
    """
    users = catalog.cloud_users.of_cloud(cloud_id)
    if not users:
        return
    here = catalog.inventory.present(cloud_id, CloudKind.ACCOUNT)
    present, doubtful = _accounts(here), _namesakes(here)
    absent = _accounts(catalog.inventory.absent(cloud_id, CloudKind.ACCOUNT))
    ids = {each.id for each in present.values()} - doubtful.keys()
    for name in catalog.cloud_users.resume(cloud_id, ids):
        log.info("the user %s is there again, as its account is", name)
    gone, barred = {}, []
    for user in users:
        key = _key(user.home)
        account, was = present.get(key), absent.get(key)
        asked = _to_ask_for(user.home, account, was, present, doubtful)
        if asked and not user.disabled and not _is_there(client, asked):
            gone[user.name] = asked
        elif account is not None and account.state and account.state.lower() != "enabled":
            barred.append(user.name)
    for name in catalog.cloud_users.end(cloud_id, gone, barred):
        log.warning("the user %s is ended: its account is gone from the cloud, or barred", name)


_Key = tuple[str, ...]
"""Of an account: its id, or its domain and name, by which users are known whose id was not told."""


def _accounts(found: Iterable[CloudObject]) -> dict[_Key, CloudAccount]:
    accounts = [each for each in found if isinstance(each, CloudAccount)]
    named: dict[_Key, CloudAccount] = {(each.domain_id, each.name): each for each in accounts}
    return {**named, **{(each.id,): each for each in accounts}}


def _namesakes(found: Iterable[CloudObject]) -> dict[str, _Key]:
    """Give the ids of accounts that share a name: all but one are gone, and not swept yet."""
    accounts = [each for each in found if isinstance(each, CloudAccount)]
    count = Counter((each.domain_id, each.name) for each in accounts)
    names = {each.id: (each.domain_id, each.name) for each in accounts}
    return {key: name for key, name in names.items() if count[name] > 1}


def _to_ask_for(
    home: TenantScope | None,
    account: CloudAccount | None,
    was: CloudAccount | None,
    present: Mapping[_Key, CloudAccount],
    doubtful: Mapping[str, _Key],
) -> str:
    """Give the id of an account that may be gone; empty where there is no doubt.

    One that was never seen is in doubt once another account has its name.
    """
    if account is not None:
        return account.id if account.id in doubtful else ""
    if was is not None:
        return was.id
    if home is not None and home.account_id and (home.domain_id, home.account) in present:
        return home.account_id
    return ""


def _key(home: TenantScope | None) -> _Key:
    if home is None:
        return ()
    return (home.account_id,) if home.account_id else (home.domain_id, home.account)


def _is_there(client: CloudClient, account_id: str) -> bool:
    """Ask for an account by its id."""
    try:
        found = rows(client.call("listAccounts", id=account_id, listall=True), "account")
    except NotFound:
        return False
    return any(text(row, "id") == account_id for row in found)
