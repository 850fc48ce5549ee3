"""Somebody of a cloud as a user of ours: its name, and what it may see.

A user of this kind is an account of the cloud, whichever of the account's users shows the keys: it
is the account that owns instances.

Its name is made of ids alone.  Names of clouds, domains and accounts change hands: one who is
called as somebody else was must never become that user, nor get what its tokens open.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from sendense.model.access import CLOUD_USER, Grant, TenantScope
from sendense.model.cloud_check import CloudIdentity

_LONGEST = 255


def user_name(identity: CloudIdentity) -> str:
    """Give its name, ``cloud:<cloud>:<domain>:<account>``; nobody else's has a colon in it.

    All three are ids.  Where that of the account is not told, its name in the domain stands behind
    a ``/``, which no id has.
    """
    owner = identity.owner
    account = f":{quote(identity.account_id, safe='')}"
    if not identity.account_id:
        account = f"/{quote(owner.account, safe='@')}"
    place = f"{quote(identity.cloud_id, safe='')}:{quote(owner.domain_id, safe='')}"
    name = f"{CLOUD_USER}{place}{account}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return f"{name[: _LONGEST - 1 - len(digest)]}~{digest}"


def grant_of(identity: CloudIdentity) -> Grant:
    """Give what it sees: what its account owns, first of all; its projects; and its domain.

    The domain only if it is that domain's administrator.  What CloudStack lets a root administrator
    do is no power here: those get a user of ours.
    """
    owner, cloud_id = identity.owner, identity.cloud_id
    home = TenantScope(
        cloud_id, owner.domain, owner.domain_id, owner.account, account_id=identity.account_id
    )
    domain = (
        (TenantScope(cloud_id, owner.domain, owner.domain_id),) if identity.domain_admin else ()
    )
    projects = tuple(TenantScope(cloud_id, project_id=each) for each in identity.projects)
    return Grant(tenants=(home, *domain, *projects))


def same_account(one: TenantScope, other: TenantScope) -> bool:
    """Tell whether two homes are one account: by its id, or by its name where one has no id."""
    if (one.cloud_id, one.domain_id) != (other.cloud_id, other.domain_id):
        return False
    if one.account_id and other.account_id:
        return one.account_id == other.account_id
    return one.account == other.account
