"""Signing in with keys or a password of a cloud: it says who that is, and a token of ours follows.

Keys or a password are used this once, and kept nowhere.  Whatever is wrong, a cloud that is not
known here or keys that it does not take, has one answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field, SecretStr, StringConstraints

from sendense import clock
from sendense.api.access import public
from sendense.api.cloud_shapes import ApiKey, SecretKey
from sendense.api.guard import GuardedRoute
from sendense.api.problems import TooMany
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import Asked, Name
from sendense.api.user_shapes import MadeToken
from sendense.errors import (
    NotFound,
    NotSignedIn,
    SecondStep,
    SendenseError,
    Unavailable,
    Unsupported,
)
from sendense.model.access import AuditNote, Outcome, User
from sendense.model.cloud import Cloud
from sendense.model.cloud_check import CloudIdentity
from sendense.model.cloud_login import CloudLogin
from sendense.model.cloud_user import grant_of, user_name
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)
_BY_KEYS = "sign_in_cloudstack"
_BY_PASSWORD = "sign_in_cloudstack_password"  # noqa: S105 - the name of a route

router = APIRouter(route_class=GuardedRoute, tags=["users and tokens"])

UserOfCloud = Annotated[
    str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")
]
DomainPath = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00-\x1f\x7f]*$")]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1000)]
Ask = Callable[[Cloud], CloudIdentity]
Guess = Callable[[Cloud], AbstractContextManager[None]]
"""What bounds how often it is tried, by how it ends."""


class CloudKeysAsked(Asked):
    """Somebody's own keys of a cloud."""

    cloud: Name = Field(examples=["zone1"])
    """Its name or its id."""
    api_key: ApiKey
    secret_key: SecretKey
    """It is used to ask the cloud who this is, and not kept."""


class CloudPasswordAsked(Asked):
    """Somebody's own name and password of a cloud."""

    cloud: Name = Field(examples=["zone1"])
    """Its name or its id."""
    user: UserOfCloud = Field(examples=["ann"])
    """Name of the user, as for CloudStack's own page."""
    password: Password
    """It is used for one session with the cloud, which ends at once, and not kept."""
    domain: DomainPath = Field(default="", examples=["ROOT/customers/acme"])
    """Path of the user's domain; without one the root of the cloud's tree."""


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
    secret = Secret(asked.secret_key.get_secret_value())

    def ask(cloud: Cloud) -> CloudIdentity:
        return services.clouds.who(cloud.id, asked.api_key, secret)

    keys = Secret(f"{asked.api_key}\n{asked.secret_key.get_secret_value()}")
    return _SignIn(services, request, asked.cloud, _BY_KEYS, "keys").token(ask, keys)


@router.post("/login/cloudstack/password", status_code=201)
@public
def sign_in_cloudstack_password(
    services: ServicesHere, asked: CloudPasswordAsked, request: Request
) -> MadeToken:
    """Sign in with one's own user name and password of a cloud.

    The cloud is logged in to and out of again, and the token that follows is the one that keys of
    the same account give. A user with a second factor signs in with keys. After four wrong
    passwords of one user within five minutes none is tried, the right one neither. It is for
    servers whose administrator turned it on: `cloud_login_passwords`.
    """
    login = CloudLogin(asked.user, Secret(asked.password.get_secret_value()), asked.domain)

    def ask(cloud: Cloud) -> CloudIdentity:
        return services.clouds.who_by_password(cloud.id, login)

    def guess(cloud: Cloud) -> AbstractContextManager[None]:
        return services.logins.guess(f"{cloud.id}\n{login.subject}")

    # No key has a NUL: nobody is heard as keys for having been heard as a user.
    user = Secret(f"\0{asked.cloud}\n{login.subject}")
    return _SignIn(services, request, asked.cloud, _BY_PASSWORD, "password").token(ask, user, guess)


class _SignIn:
    """One attempt."""

    def __init__(
        self, services: Services, request: Request, cloud: str, operation: str, means: str
    ) -> None:
        self._services = services
        self._origin = request.client.host if request.client else ""
        self._asked = cloud
        self._operation = operation
        self._means = means
        self._refusal = (
            f"the cloud is not known here, or does not accept {_REFUSED[means]}",
            f"check the name of the cloud, {_CHECK[means]}",
        )

    def token(
        self, ask: Ask, keys: Secret, guess: Guess = lambda _cloud: nullcontext()
    ) -> MadeToken:
        """Have a cloud asked, and give the token that follows."""
        services, lasts_s = self._services, self._services.logins.lasts_s
        self._require_on()
        try:
            with services.logins.attempt(self._origin, keys):
                cloud = self._cloud()
                with guess(cloud):
                    user = self._user_of(cloud, ask)
        except (TooMany, Unsupported):
            # Not written down: the audit log is not for everybody to fill.
            raise
        except SendenseError as error:
            denied = isinstance(error, NotSignedIn)
            outcome = Outcome.DENIED if denied else Outcome.FAILED
            self._write("", self._asked, outcome, code=error.code)
            raise
        now = clock.now()
        token, text = services.catalog.tokens.issue(
            user.name, f"{self._means} of {cloud.name}"[:100], now,
            expires_at=now + timedelta(seconds=lasts_s),
        )  # fmt: skip
        self._write(user.name, cloud.id, Outcome.DONE, token=token.id, account=user.called)
        return MadeToken(**vars(token), token=text.reveal().decode())

    def _require_on(self) -> None:
        logins = self._services.logins
        if logins.lasts_s <= 0:
            hint = "an administrator gives out tokens, or sets cloud_login_hours"
        elif self._operation == _BY_PASSWORD and not logins.passwords:
            hint = "sign in with API keys, or an administrator sets cloud_login_passwords"
        else:
            return
        raise Unsupported(f"nobody signs in here with the {self._means} of a cloud", hint=hint)

    def _cloud(self) -> Cloud:
        cloud = _cloud(self._services, self._asked)
        if cloud is None or not cloud.enabled:
            raise self._refused()
        return cloud

    def _user_of(self, cloud: Cloud, ask: Ask) -> User:
        users, logins = self._services.catalog.cloud_users, self._services.logins
        try:
            with logins.place(cloud.id):
                identity = ask(cloud)
            return users.sign_in(user_name(identity), grant_of(identity), clock.now())
        except (SecondStep, TooMany, Unsupported):
            raise
        except NotSignedIn as error:
            # Also of who is disabled here: neither that nor the name is for everybody.
            _LOG.info("a login with the %s of cloud %s was refused: %s",
                      self._means, cloud.name, error)  # fmt: skip
            raise self._refused() from None
        except SendenseError as error:
            # Where the cloud is, and what is wrong with it, is nothing for everybody.
            _LOG.warning("nobody can sign in with the %s of cloud %s: %s",
                         self._means, cloud.name, error)  # fmt: skip
            raise Unavailable("the cloud does not answer now", hint="try again later") from None

    def _refused(self) -> NotSignedIn:
        message, hint = self._refusal
        return NotSignedIn(message, hint=hint)

    def _write(self, who: str, subject: str, outcome: Outcome, **detail: str) -> None:
        note = AuditNote(who, self._operation, subject, outcome, self._origin, detail)
        try:
            self._services.catalog.audit.add(note, clock.now())
        except SendenseError as error:
            _LOG.error("not in the audit log: %s: %s", note, error)


_REFUSED = {"keys": "these keys", "password": "this user and password"}
_CHECK = {
    "keys": "the API key and its secret",
    "password": "the path of the domain, the user and the password",
}


def _cloud(services: Services, named: str) -> Cloud | None:
    clouds = services.catalog.clouds
    for find in (clouds.named, clouds.get):
        with suppress(NotFound):
            return find(named)
    return None
