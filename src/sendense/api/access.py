"""What each route needs of whoever calls it, written at the route itself.

``@needs(...)`` stands under the decorator of a route.  A route without it does not come into being
(:class:`sendense.api.guard.GuardedRoute`), so nobody forgets it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from sendense.errors import NotAllowed
from sendense.model.access import (
    READ,
    WRITE,
    Area,
    Grant,
    Role,
    Token,
    User,
    effective_role,
    scopes_cover,
)

Route = TypeVar("Route", bound=Callable[..., Any])

_MARK = "__sendense_needs__"


@dataclass(frozen=True)
class Needs:
    """What a route needs."""

    roles: frozenset[Role]
    """Any of them; none: it is for everybody, without a token."""
    area: Area | None
    access: str
    repeatable: bool = True
    """Whether its answer may be kept for an ``Idempotency-Key``: not where it holds a secret."""

    @property
    def public(self) -> bool:
        """Tell whether no token is asked for."""
        return not self.roles

    @property
    def scope(self) -> str | None:
        """Give the scope that a token with scopes must have."""
        return None if self.area is None else f"{self.area.value}:{self.access}"

    def require(self, caller: Caller) -> None:
        """Refuse a caller whose role or whose token is not enough."""
        reason = ""
        if caller.role not in self.roles:
            reason = f"the role {caller.role.value} may not do this"
        elif self.area and not scopes_cover(caller.token.scopes, self.area, self.access):
            reason = f"the token lacks the scope {self.scope}"
        if reason:
            raise NotAllowed(reason, hint="ask an administrator")


PUBLIC = Needs(frozenset(), None, READ)
ADMIN = frozenset({Role.ADMIN})
OPERATORS = frozenset({Role.ADMIN, Role.OPERATOR})
READERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})
EVERYBODY = frozenset(Role)
TENANTS = frozenset({Role.TENANT})
RUNNERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.TENANT})


def reads(area: Area | None, roles: frozenset[Role] = READERS) -> Callable[[Route], Route]:
    """Mark a route that changes nothing."""
    return _marked(Needs(roles, area, READ))


def writes(
    area: Area | None, roles: frozenset[Role] = OPERATORS, *, repeatable: bool = True
) -> Callable[[Route], Route]:
    """Mark a route that changes or begins something."""
    return _marked(Needs(roles, area, WRITE, repeatable))


def public(route: Route) -> Route:
    """Mark a route that is for everybody."""
    return _marked(PUBLIC)(route)


def needs_of(endpoint: Callable[..., Any]) -> Needs:
    """Give what a route needs."""
    found = getattr(endpoint, _MARK, None)
    if not isinstance(found, Needs):
        raise TypeError(f"the route {endpoint.__name__} does not say whom it is for")
    return found


def _marked(needs: Needs) -> Callable[[Route], Route]:
    def mark(route: Route) -> Route:
        setattr(route, _MARK, needs)
        return route

    return mark


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    user: User
    token: Token
    origin: str

    @property
    def name(self) -> str:
        """Give the user's name."""
        return self.user.name

    @property
    def role(self) -> Role:
        """Give the role that counts."""
        return effective_role(self.user.role, self.token.role)

    @property
    def grant(self) -> Grant | None:
        """Give what a tenant's sight is limited to; none: it is not limited."""
        return self.user.grant if self.role is Role.TENANT else None


def caller_of(request: Request) -> Caller:
    """Give who calls, as the guard found out."""
    return _a_caller(request.state.caller)


def caller_now(request: Request) -> Caller:
    """Find out anew who calls, and whether he still may; to be done in a thread.

    For an answer that goes on for long: meanwhile the token may have been withdrawn, its user
    disabled, his grant changed.  Then this refuses, or gives the caller with what he has now.
    """
    return _a_caller(request.state.caller_now())


def _a_caller(found: object) -> Caller:
    if not isinstance(found, Caller):
        raise TypeError("the guard was passed by")
    return found
