"""Signing in with the keys of a cloud: the cloud says who that is, and a token of ours follows.

The keys are used this once, and kept nowhere.  Whatever is wrong, a cloud that is not known here or
keys that it does not take, has one answer.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta

from fastapi import APIRouter, Request
from pydantic import Field

from sendense import clock
from sendense.api.access import public
from sendense.api.cloud_shapes import ApiKey, SecretKey
from sendense.api.guard import GuardedRoute
from sendense.api.problems import TooMany
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import Asked, Name
from sendense.api.user_shapes import MadeToken
from sendense.errors import NotFound, NotSignedIn, SendenseError, Unavailable, Unsupported
from sendense.model.access import AuditNote, Outcome, User
from sendense.model.cloud import Cloud
from sendense.model.cloud_user import grant_of, user_name
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)
_OPERATION = "sign_in_cloudstack"

router = APIRouter(route_class=GuardedRoute, tags=["users and tokens"])


class CloudKeysAsked(Asked):
    """Somebody's own keys of a cloud."""

    cloud: Name = Field(examples=["zone1"])
    """Its name or its id."""
    api_key: ApiKey
    secret_key: SecretKey
    """It is used to ask the cloud who this is, and not kept."""


@router.post("/login/cloudstack", status_code=201)
@public
def sign_in_cloudstack(
    services: ServicesHere, asked: CloudKeysAsked, request: Request
) -> MadeToken:
    """Sign in with one's own keys of a cloud, for everybody who has some.

    Gives a token that ends by itself. Its user is a tenant, who sees what the account owns in the
    cloud and the projects that it is a member of; for the administrator of a domain what is in the
    domain and below it.
    """
    origin = request.client.host if request.client else ""
    keys = Secret(f"{asked.api_key}\n{asked.secret_key.get_secret_value()}")
    lasts_s = services.logins.lasts_s
    if lasts_s <= 0:
        raise Unsupported(
            "nobody signs in here with the keys of a cloud",
            hint="an administrator gives out tokens, or sets cloud_login_hours",
        )
    try:
        with services.logins.attempt(origin, keys):
            user, cloud = _user_of(services, asked)
    except TooMany:
        # Not written down: the audit log is not for everybody to fill.
        raise
    except SendenseError as error:
        denied = isinstance(error, NotSignedIn)
        _write(services, "", asked.cloud, Outcome.DENIED if denied else Outcome.FAILED, origin,
               code=error.code)  # fmt: skip
        raise
    now = clock.now()
    ends = now + timedelta(seconds=lasts_s)
    token, text = services.catalog.tokens.issue(
        user.name, f"keys of {cloud.name}"[:100], now, expires_at=ends
    )
    _write(services, user.name, cloud.id, Outcome.DONE, origin, token=token.id, account=user.called)
    return MadeToken(**vars(token), token=text.reveal().decode())


def _user_of(services: Services, asked: CloudKeysAsked) -> tuple[User, Cloud]:
    cloud = _cloud(services, asked.cloud)
    if cloud is None or not cloud.enabled:
        raise NotSignedIn(
            "the cloud is not known here, or does not accept these keys",
            hint="check the name of the cloud, the API key and its secret",
        )
    secret = Secret(asked.secret_key.get_secret_value())
    try:
        identity = services.clouds.who(cloud.id, asked.api_key, secret)
    except NotSignedIn as error:
        _LOG.info("a login with keys of cloud %s was refused: %s", cloud.name, error)
        raise NotSignedIn(
            "the cloud is not known here, or does not accept these keys",
            hint="check the name of the cloud, the API key and its secret",
        ) from None
    except Unsupported:
        raise
    except SendenseError as error:
        # Where the cloud is, and what is wrong with it, is nothing for everybody.
        _LOG.warning("nobody can sign in with keys of cloud %s: %s", cloud.name, error)
        raise Unavailable("the cloud does not answer now", hint="try again later") from None
    name = user_name(identity)
    return services.catalog.cloud_users.sign_in(name, grant_of(identity), clock.now()), cloud


def _cloud(services: Services, named: str) -> Cloud | None:
    clouds = services.catalog.clouds
    for find in (clouds.named, clouds.get):
        with suppress(NotFound):
            return find(named)
    return None


def _write(
    services: Services, who: str, subject: str, outcome: Outcome, origin: str, **detail: str
) -> None:
    note = AuditNote(who, _OPERATION, subject, outcome, origin, detail)
    try:
        services.catalog.audit.add(note, clock.now())
    except SendenseError as error:
        _LOG.error("not in the audit log: %s: %s", note, error)
