"""Sessions of people: `login`, what a session lets through, and `logout`.

As in the server's sources: `login` takes a form only, counts wrong passwords and locks out whom it
counted too many of. A session is told by its cookie, whose value ends with the name of a node;
each request carries the session's key too, as a cookie and as a parameter, and one that does not
ends the session. So does one of somebody whose second factor was not shown.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from sendense_lab.simulator.call import Caller
from sendense_lab.simulator.errors import (
    BAD_PARAMETER,
    NO_METHOD,
    NOT_ALLOWED,
    SECOND_FACTOR,
    UNAUTHORIZED,
    ApiError,
)
from sendense_lab.simulator.records import Account, Domain, User
from sendense_lab.simulator.world import World

COOKIE = "JSESSIONID"
KEY = "sessionkey"
COMMANDS = frozenset({"login", "logout"})
LASTS_S = 1800
_NODE = ".node0"


@dataclass(frozen=True)
class Session:
    """Somebody who logged in."""

    user_id: str
    verified: bool
    """Whether nothing is missing any more: a second factor was shown, or there is none."""
    id: str = field(default_factory=lambda: f"node0{secrets.token_hex(12)}")
    key: str = field(default_factory=lambda: secrets.token_urlsafe(20), repr=False)

    secure: bool = False
    """Whether its cookie goes back over TLS only."""

    @property
    def cookies(self) -> tuple[str, ...]:
        """Give what the browser is told to keep."""
        secure = ";Secure" if self.secure else ""
        return (
            f"{COOKIE}={self.id}{_NODE}{secure};HttpOnly;Path=/client",
            f"{KEY}={self.key};HttpOnly",
        )


class Sessions:
    """All sessions of one management server."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begun = 0
        """How many there have been."""
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    @property
    def open(self) -> int:
        """Give how many are not ended."""
        return len(self._open)

    def forget(self) -> None:
        """End all: a server that restarts remembers none."""
        with self._lock:
            self._open.clear()

    def of(self, cookies: Mapping[str, str]) -> Session | None:
        """Give the session that a request is of."""
        return self._open.get(cookies.get(COOKIE, "").removesuffix(_NODE))

    def login(
        self, params: Mapping[str, str], cookies: Mapping[str, str], method: str
    ) -> tuple[Session, dict[str, object]]:
        """Begin a session; gives it with the answer."""
        if method != "POST":
            raise ApiError(NO_METHOD, "Please use HTTP POST to authenticate using this API")
        before = self.of(cookies)
        if before is not None:
            self._end(before)
        world = self.world
        with world.lock:
            user = _authenticated(world, params)
            demanded = user.two_factor or world.is_set("mandate.user.2fa")
            secure = world.is_set("enable.secure.session.cookie")
            session = Session(user.id, verified=not demanded, secure=secure)
            body = _body(world, user, session)
        with self._lock:
            self.begun += 1
            self._open[session.id] = session
        return session, body

    def logout(self, params: Mapping[str, str], cookies: Mapping[str, str]) -> dict[str, object]:
        """End a session."""
        session = self.of(cookies)
        if session is None:
            raise ApiError(BAD_PARAMETER, "Session not found for the logout process.")
        self._end(session)
        if not _has_key(session, params, cookies):
            raise _unverified()
        return {"description": "success"}

    def caller(
        self, session: Session, params: Mapping[str, str], cookies: Mapping[str, str]
    ) -> Caller:
        """Give who asks in a session; whatever is wrong ends it."""
        world = self.world
        user = world.find(User, session.user_id)
        if not session.verified:
            self._end(session)
            raise ApiError(
                SECOND_FACTOR,
                "Unable to process the API request due to :Two factor authentication 2FA is enabled"
                " but not verified, please verify 2FA using validateUserTwoFactorAuthenticationCode"
                " API before calling other APIs. Existing session is invalidated.",
            )
        if user is None or not _has_key(session, params, cookies):
            self._end(session)
            raise _unverified()
        account = world.get(Account, user.account_id)
        if {user.state, account.state} != {"enabled"}:
            self._end(session)
            raise _unverified()
        return Caller(user, account)

    def _end(self, session: Session) -> None:
        with self._lock:
            self._open.pop(session.id, None)


def _authenticated(world: World, params: Mapping[str, str]) -> User:
    """Give whose name and password these are."""
    path = _path(params.get("domain", ""))
    place = next((one for one in world.all(Domain) if _path_of(one) == path), None)
    if place is None:
        raise _failed(f"Unable to find the domain from the path {path}")
    name, password = params.get("username", ""), params.get("password", "")
    no_user = _failed(
        f"Failed to authenticate user {name} in domain {place.db_id}; please provide valid "
        "credentials"
    )
    user = _user(world, name, place)
    # Without a password it is another way of signing in, which is off unless it was set up.
    if user is None or not user.password or not password:
        raise no_user
    account = world.get(Account, user.account_id)
    if not hmac.compare_digest(user.password.encode(), password.encode()):
        _count(world, user, account)
        raise no_user
    if {user.state, account.state} != {"enabled"}:
        raise _failed(
            f"User {name} (or their account) in domain {place.name} is disabled/locked. Please "
            "contact the administrator."
        )
    user.wrong_passwords = 0
    return user


def _user(world: World, name: str, place: Domain) -> User | None:
    """Find a user by name in a domain: the database compares without case."""
    for user in world.all(User):
        account = world.get(Account, user.account_id)
        here = account.domain_id == place.id and account.state != "removed"
        if here and user.name.casefold() == name.casefold():
            return user
    return None


def _count(world: World, user: User, account: Account) -> None:
    """Count a wrong password; administrators of the whole cloud are never locked out."""
    most = int(world.settings["incorrect.login.attempts.allowed"])
    if user.state != "enabled" or account.kind == 1 or most <= 0:
        return
    user.wrong_passwords += 1
    if user.wrong_passwords >= most:
        user.state = "disabled"


def _path(given: str) -> str:
    """Give a path as the database has it: `/customers/acme/`, and `/` for the root domain."""
    path = given if given.endswith("/") else f"{given}/"
    return (path if path.startswith("/") else f"/{path}").casefold()


def _path_of(domain: Domain) -> str:
    return _path(domain.path.removeprefix("ROOT"))


def _has_key(session: Session, params: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
    """Tell whether a request shows the session's key at both places."""
    return all(
        hmac.compare_digest(given.get(KEY, "").encode(), session.key.encode())
        for given in (params, cookies)
    )


def _body(world: World, user: User, session: Session) -> dict[str, object]:
    account = world.get(Account, user.account_id)
    return {
        "username": user.name,
        "userid": user.id,
        "domainid": account.domain_id,
        "timeout": LASTS_S,
        "account": account.name,
        "firstname": user.first_name,
        "lastname": user.last_name,
        "type": str(account.kind),
        "registered": "false",
        "sessionkey": session.key,
        "is2faenabled": "false" if session.verified else "true",
        "is2faverified": "true" if session.verified else "false",
        "issuerfor2fa": "CloudStack",
        **({"passwordchangerequired": True} if user.must_change_password else {}),
    }


def _failed(text: str) -> ApiError:
    return ApiError(NOT_ALLOWED, text)


def _unverified() -> ApiError:
    return ApiError(UNAUTHORIZED, "unable to verify user credentials")
