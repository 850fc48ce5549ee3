"""A session of somebody in a cloud: begun with a name and a password, and always ended again.

``login`` answers with a cookie and with a key that every later request carries as well; nothing is
signed.  The password is in one request, which goes out once, encrypted or to this machine only.
Whoever has a second factor gets a session too, in which nothing may be asked: that is no proof.

A session that nobody ends stays open for half an hour, so it is logged out whatever happens, also
where the answer to ``login`` was lost behind its cookie.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sendense.cloudstack import answers, signing
from sendense.cloudstack.answers import Refused
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.transport import Limits
from sendense.errors import (
    NotAllowed,
    NotFound,
    NotSignedIn,
    SecondStep,
    SendenseError,
    Unsupported,
)
from sendense.model.cloud_login import CloudLogin, LoggedIn
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)

NO_SECOND_FACTOR: Final = 511
_COOKIE: Final = "JSESSIONID"
_KEY: Final = "sessionkey"
_KEYS_INSTEAD: Final = "sign in with API keys, for which CloudStack asks no second factor"


class SessionClient(CloudClient):
    """A cloud that is asked in a session instead of with a key."""

    def __init__(
        self, endpoint: str, *, name: str = "", ca_pem: str = "", limits: Limits | None = None
    ) -> None:
        """Connect to nothing yet."""
        super().__init__(endpoint, "", Secret(b""), name=name, ca_pem=ca_pem, limits=limits)
        self._key = Secret(b"")

    def log_in(self, login: CloudLogin) -> LoggedIn:
        """Begin the session; gives whose it is.

        :class:`~sendense.errors.NotSignedIn` where the cloud does not take name and password;
        :class:`~sendense.errors.SecondStep` where it takes them, and wants more.
        """
        if self._wire.exposed:
            raise Unsupported(
                "no password is sent to this cloud, as the way to it is not encrypted",
                hint="sign in with API keys, whose secret stays here; or an administrator gives "
                "the cloud an endpoint with https://",
            )
        if not login.password:
            # Without one, CloudStack takes it for another way of signing in.
            raise _refused()
        place = {} if login.path == "/" else {"domain": login.path}
        try:
            answer = self.call("login", username=login.user, password=login.password, **place)
        except NotAllowed as error:
            raise second_factor() if _code(error) == NO_SECOND_FACTOR else _refused() from None
        self._key = Secret(answers.text(answer, _KEY) or self._wire.cookie(_KEY))
        return _logged_in(answer)

    def log_out(self) -> None:
        """End the session, if one has begun; that it could not be ended is a warning."""
        if not self._wire.cookie(_COOKIE):
            return
        self._key = self._key or Secret(self._wire.cookie(_KEY))
        try:
            try:
                self.call("logout")
            except SendenseError as error:
                if not error.retryable:
                    raise
                self.call("logout")
        except NotFound:
            _LOG.debug("%s: the session had ended by itself", self.name)
        except SendenseError as error:
            _LOG.warning("%s: a session could not be ended, and ends by itself: %s", self.name,
                         error)  # fmt: skip

    def _refusal(self, command: str, refused: Refused) -> SendenseError:
        error = super()._refusal(command, refused)
        return _without_words(error, self.name, refused.code) if command == "login" else error

    def _form(self, command: str, params: dict[str, Any]) -> dict[str, str]:
        fields = signing.form(params)
        fields["command"] = command
        fields["response"] = "json"
        if self._key:
            fields[_KEY] = self._key.reveal().decode()
        return fields


@contextmanager
def session(
    endpoint: str,
    login: CloudLogin,
    *,
    name: str = "",
    ca_pem: str = "",
    limits: Limits | None = None,
) -> Iterator[tuple[SessionClient, LoggedIn]]:
    """Log in for a block, and out again however it ends."""
    client = SessionClient(endpoint, name=name, ca_pem=ca_pem, limits=limits)
    try:
        try:
            yield client, client.log_in(login)
        finally:
            client.log_out()
    finally:
        client.close()


def second_factor() -> SecondStep:
    """Make the error for somebody whose second factor we cannot ask for."""
    return SecondStep(
        "this user has a second factor in the cloud, or has to set one up, and cannot sign in here "
        "with a password",
        hint=_KEYS_INSTEAD,
    )


def _logged_in(answer: dict[str, Any]) -> LoggedIn:
    if answers.flag(answer.get("is2faenabled")) and not answers.flag(answer.get("is2faverified")):
        raise second_factor()
    if answers.flag(answer.get("passwordchangerequired")):
        raise SecondStep(
            "the cloud wants a new password of this user first",
            hint="change it in CloudStack, then sign in here",
        )
    found = LoggedIn(
        answers.text(answer, "userid"), answers.text(answer, "domainid"),
        answers.text(answer, "account"),
    )  # fmt: skip
    if not (found.user_id and found.domain_id and found.account):
        raise NotSignedIn(
            "the cloud does not tell whose session it began",
            hint="sign in with API keys",
        )
    return found


def _without_words(error: SendenseError, cloud: str, code: int) -> SendenseError:
    """Give a refusal of ``login`` without the cloud's own words, before anything logs them.

    They may hold the name, where people type passwords by mistake.
    """
    said = f"{cloud or 'CloudStack'} refuses login ({code})"
    return type(error)(said, hint=error.hint, **error.data)


def _code(error: NotAllowed) -> int:
    return answers.number(error.data.get("cs_code"))


def _refused() -> NotSignedIn:
    return NotSignedIn(
        "the cloud does not accept this user and password",
        hint="they are mistyped, the user is of another domain, or it is disabled or locked",
    )
