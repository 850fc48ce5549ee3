"""Users and tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from sendense import clock
from sendense.api.access import ADMIN, EVERYBODY, Caller, caller_of, reads, writes
from sendense.api.guard import GuardedRoute
from sendense.api.services import Services, ServicesHere
from sendense.api.shapes import IdInPath, KnownUser, PageOf, Search, UserInPath, paging
from sendense.api.user_shapes import (
    GrantShape,
    MadeToken,
    NewToken,
    NewUser,
    TokenShape,
    UserChange,
    UserShape,
    WhoShape,
)
from sendense.errors import NotAllowed, NotFound, Rejected
from sendense.model.access import (
    Area,
    Grant,
    Role,
    TenantScope,
    Token,
    User,
    roles_below,
    scopes_within,
)
from sendense.model.page import Page, Paging

router = APIRouter(route_class=GuardedRoute, tags=["users and tokens"])

At = Annotated[Paging, Depends(paging)]
UserAsked = Annotated[KnownUser | None, Query()]


@router.get("/whoami")
@reads(None, EVERYBODY)
def show_caller(request: Request) -> WhoShape:
    """Show who asks, and what counts for this token."""
    caller = caller_of(request)
    return WhoShape(
        user=caller.name,
        called=caller.user.called,
        role=caller.role,
        scopes=list(caller.token.scopes),
        token_id=caller.token.id,
    )


@router.get("/users", response_model=PageOf[UserShape])
@reads(Area.USERS, ADMIN)
def list_users(
    services: ServicesHere,
    at: At,
    search: Search = None,
    role: Annotated[Role | None, Query()] = None,
) -> Page[User]:
    """List users by name."""
    return services.catalog.users.page(at, search=search, role=role)


@router.post("/users", status_code=201, response_model=UserShape)
@writes(Area.USERS, ADMIN)
def create_user(services: ServicesHere, asked: NewUser, request: Request) -> User:
    """Add a user. It asks with tokens: make it one."""
    _require_tenant(asked.role, asked.grant)
    user = User(asked.name, asked.role, clock.now(), grant=_grant(asked.grant))
    services.catalog.users.add(user)
    request.state.subject = user.name
    return user


@router.get("/users/{name:path}", response_model=UserShape)
@reads(Area.USERS, ADMIN)
def show_user(services: ServicesHere, name: UserInPath) -> User:
    """Show a user."""
    return services.catalog.users.get(name)


@router.patch("/users/{name:path}", response_model=UserShape)
@writes(Area.USERS, ADMIN)
def change_user(services: ServicesHere, name: UserInPath, asked: UserChange) -> User:
    """Change a user; it counts for its tokens at once. The last administrator stays one."""
    grant = None
    if asked.grant is not None:
        _require_tenant(asked.role or services.catalog.users.get(name).role, asked.grant)
        grant = _grant(asked.grant)
    return services.catalog.users.edit(name, role=asked.role, disabled=asked.disabled, grant=grant)


@router.delete("/users/{name:path}", status_code=204)
@writes(Area.USERS, ADMIN)
def remove_user(services: ServicesHere, name: UserInPath) -> Response:
    """Remove a user with its tokens. The last administrator stays."""
    services.catalog.users.remove(name)
    return Response(status_code=204)


@router.get("/tokens", response_model=PageOf[TokenShape])
@reads(Area.TOKENS, EVERYBODY)
def list_tokens(
    services: ServicesHere, at: At, request: Request, user: UserAsked = None
) -> Page[Token]:
    """List tokens, newest first: one's own, or for administrators all."""
    caller = caller_of(request)
    if caller.role is not Role.ADMIN:
        if user not in (None, caller.name):
            raise NotAllowed("the tokens of others are for administrators")
        user = caller.name
    return services.catalog.tokens.page(at, user=user)


@router.post("/tokens", status_code=201)
@writes(Area.TOKENS, EVERYBODY, repeatable=False)
def create_token(services: ServicesHere, asked: NewToken, request: Request) -> MadeToken:
    """Make a token. It is shown this once, and may never do more than the one that asks for it."""
    caller, now = caller_of(request), clock.now()
    owner = _owner(services, asked, caller)
    _require_no_more(asked, caller, owner)
    expires_at = None if asked.expires_in_s is None else now + timedelta(seconds=asked.expires_in_s)
    if caller.token.expires_at is not None and owner.name == caller.name:
        expires_at = min(expires_at or caller.token.expires_at, caller.token.expires_at)
    token, text = services.catalog.tokens.issue(
        owner.name, asked.name, now,
        role=asked.role, scopes=tuple(asked.scopes), expires_at=expires_at,
    )  # fmt: skip
    request.state.subject = token.id
    return MadeToken(**vars(token), token=text.reveal().decode())


@router.delete("/tokens/{token_id}", status_code=204)
@writes(Area.TOKENS, EVERYBODY)
def revoke_token(services: ServicesHere, token_id: IdInPath, request: Request) -> Response:
    """Withdraw a token: it counts no longer. Those of others are for administrators."""
    caller = caller_of(request)
    token = services.catalog.tokens.get(token_id)
    if caller.role is not Role.ADMIN and token.user != caller.name:
        raise NotFound(f"there is no token {token_id}")
    services.catalog.tokens.revoke(token_id)
    return Response(status_code=204)


def _owner(services: Services, asked: NewToken, caller: Caller) -> User:
    if asked.user in (None, caller.name):
        return caller.user
    if caller.role is not Role.ADMIN:
        raise NotAllowed("tokens for others are for administrators")
    return services.catalog.users.get(asked.user or "")


def _require_no_more(asked: NewToken, caller: Caller, owner: User) -> None:
    """Refuse a token that may do more than the one with which it is asked for."""
    if asked.role is not None and asked.role not in roles_below(owner.role):
        raise Rejected(f"a token of a user who is {owner.role.value} is never {asked.role.value}")
    role = asked.role or owner.role
    if owner.name == caller.name and role not in roles_below(caller.role):
        raise NotAllowed(
            f"the token may be {caller.role.value} at most, as the one that asks",
            hint="give a lower role",
        )
    if not scopes_within(asked.scopes, caller.token.scopes):
        raise NotAllowed(
            "the token would have scopes that the one that asks has not",
            hint="give some of its scopes",
        )


def _require_tenant(role: Role, grant: GrantShape) -> None:
    """Refuse a grant that would not narrow what its user sees."""
    if role is not Role.TENANT and (grant.instances or grant.names or grant.tenants):
        raise Rejected(
            f"a user who is {role.value} sees all instances, so a grant would mean nothing",
            hint="leave the grant out, or give the role tenant",
        )


def _grant(shape: GrantShape) -> Grant:
    tenants = tuple(TenantScope(**each.model_dump()) for each in shape.tenants)
    return Grant(tuple(shape.instances), tuple(shape.names), tenants)
