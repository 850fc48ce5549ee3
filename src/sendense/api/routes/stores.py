"""Repositories, and the points in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import SecretStr

from sendense import clock
from sendense.api.access import ADMIN, EVERYBODY, caller_of, reads, writes
from sendense.api.guard import GuardedRoute
from sendense.api.repository_places import require_own_place
from sendense.api.services import ServicesHere
from sendense.api.shapes import IdAsked, IdInPath, Moment, PageOf, Search, TextAsked, paging
from sendense.api.store_shapes import (
    Listed,
    NewRepository,
    PointInFull,
    PointShape,
    RepositoryChange,
    RepositoryInFull,
    RepositoryLook,
    RepositoryShape,
)
from sendense.catalog.points import PointFilter
from sendense.catalog.repositories import RepositorySecrets
from sendense.errors import NotFound
from sendense.model.access import Area
from sendense.model.decision import Mode
from sendense.model.holdings import PointEntry, RepositoryEntry
from sendense.model.identity import new_id
from sendense.model.page import Page, Paging
from sendense.model.point import PointState
from sendense.model.secret import Secret

router = APIRouter(route_class=GuardedRoute, tags=["repositories and points"])

At = Annotated[Paging, Depends(paging)]


def _point_filter(
    repository_id: IdAsked = None,
    machine: Annotated[IdAsked, Query(description="UUID of the instance.")] = None,
    machine_name: Annotated[TextAsked, Query(description="Its whole name.")] = None,
    mode: Annotated[Mode | None, Query()] = None,
    state: Annotated[PointState | None, Query()] = None,
    pinned: Annotated[bool | None, Query()] = None,
    after: Annotated[Moment, Query(description="Taken then or later.")] = None,
    before: Annotated[Moment, Query(description="Taken earlier.")] = None,
) -> PointFilter:
    return PointFilter(repository_id, machine, machine_name, mode, state, pinned, after, before)


@router.get("/repositories", response_model=PageOf[RepositoryShape])
@reads(Area.REPOSITORIES)
def list_repositories(
    services: ServicesHere, at: At, search: Search = None
) -> Page[RepositoryEntry]:
    """List repositories by name."""
    return services.catalog.repositories.page(at, search=search)


@router.post("/repositories", status_code=201, response_model=RepositoryShape)
@writes(Area.REPOSITORIES, ADMIN)
def create_repository(
    services: ServicesHere, asked: NewRepository, request: Request
) -> RepositoryEntry:
    """Use a repository: one that is there, whose points are listed, or a new one (`create`)."""
    now = clock.now()
    repositories = services.catalog.repositories
    require_own_place(asked.url, repositories.every())
    entry = RepositoryEntry(new_id(now), asked.name, asked.url, now)
    entry = repositories.add(entry, _secrets(asked.passphrase, asked.credentials or None))
    request.state.subject = entry.id
    try:
        if asked.create:
            services.repositories.make(entry)
        else:
            services.repositories.look(entry.id)
            services.repositories.list_again(entry.id)
    except BaseException:
        repositories.remove(entry.id)
        raise
    return entry


@router.get("/repositories/{repository_id}")
@reads(Area.REPOSITORIES)
def show_repository(services: ServicesHere, repository_id: IdInPath) -> RepositoryInFull:
    """Show a repository, and what the catalogue knows of its content."""
    entry = services.catalog.repositories.get(repository_id)
    holding = services.catalog.points.holding(repository_id)
    return RepositoryInFull(**vars(entry), **vars(holding))


@router.patch("/repositories/{repository_id}", response_model=RepositoryShape)
@writes(Area.REPOSITORIES, ADMIN)
def change_repository(
    services: ServicesHere, repository_id: IdInPath, asked: RepositoryChange
) -> RepositoryEntry:
    """Change a repository's name, place or secrets. What is stored is not moved."""
    repositories = services.catalog.repositories
    if asked.url is not None:
        others = (entry for entry in repositories.every() if entry.id != repository_id)
        require_own_place(asked.url, others)
    return repositories.edit(
        repository_id,
        name=asked.name,
        url=asked.url,
        secrets=_secrets(asked.passphrase, asked.credentials),
    )


@router.delete("/repositories/{repository_id}", status_code=204)
@writes(Area.REPOSITORIES, ADMIN)
def remove_repository(services: ServicesHere, repository_id: IdInPath) -> Response:
    """Forget a repository; in it nothing is changed. Not while a policy uses it."""
    services.catalog.repositories.remove(repository_id)
    return Response(status_code=204)


@router.get("/repositories/{repository_id}/info", response_model=RepositoryLook)
@reads(Area.REPOSITORIES)
def look_at_repository(services: ServicesHere, repository_id: IdInPath) -> object:
    """Open a repository, and show what it says itself. Slower than what the catalogue knows."""
    services.catalog.repositories.get(repository_id)
    return services.repositories.look(repository_id)


@router.post("/repositories/{repository_id}/list")
@writes(Area.REPOSITORIES)
def list_repository_again(services: ServicesHere, repository_id: IdInPath) -> Listed:
    """Make the list of its points again from what is stored."""
    services.catalog.repositories.get(repository_id)
    return Listed(points=services.repositories.list_again(repository_id))


@router.get("/points", response_model=PageOf[PointShape])
@reads(Area.POINTS, EVERYBODY)
def list_points(
    services: ServicesHere,
    at: At,
    request: Request,
    wanted: Annotated[PointFilter, Depends(_point_filter)],
) -> Page[PointEntry]:
    """List points, newest first; a tenant sees its own."""
    wanted = replace(wanted, grant=caller_of(request).grant)
    return services.catalog.points.page(at, wanted)


@router.get("/points/{point_id}")
@reads(Area.POINTS, EVERYBODY)
def show_point(
    services: ServicesHere, point_id: IdInPath, request: Request, repository_id: IdAsked = None
) -> PointInFull:
    """Show a point, as `repository_id` has it, or the first repository that does."""
    copies = services.catalog.points.copies(point_id, caller_of(request).grant)
    found = [copy for copy in copies if repository_id in (None, copy.repository_id)]
    if not found:
        raise NotFound(f"there is no point {point_id}")
    return PointInFull(**vars(found[0]), repositories=[copy.repository_id for copy in copies])


def _secrets(
    passphrase: SecretStr | None, credentials: dict[str, SecretStr] | None
) -> RepositorySecrets:
    return RepositorySecrets(
        None if passphrase is None else Secret(passphrase.get_secret_value()),
        None
        if credentials is None
        else {name: Secret(each.get_secret_value()) for name, each in credentials.items()},
    )
