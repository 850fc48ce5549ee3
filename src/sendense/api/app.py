"""The API as an application: routes, errors, and the document that describes them."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sendense.api import document, problems
from sendense.api.access import public
from sendense.api.guard import GuardedRoute
from sendense.api.routes import (
    ascending,
    cloud_vms,
    clouds,
    enrolment,
    fleet,
    holds,
    hooks,
    jobs,
    policies,
    sign_in,
    state,
    stores,
    tenants,
    users,
)
from sendense.api.services import PREFIX, Services

_HEADERS = {
    # Answers hold names and places of customers; some hold a token.
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_ROUTES = (
    fleet, enrolment, clouds, cloud_vms, hooks, tenants, stores, holds, policies, jobs, ascending,
    users, sign_in, state,
)  # fmt: skip


def create_app(services: Services) -> FastAPI:
    """Make the application; it is served by ``uvicorn`` in the server's process."""
    app = FastAPI(
        title="Sendense",
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.services = services
    for module in _ROUTES:
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(state.beside)
    app.include_router(_describing())
    problems.install(app)
    document.install(app)
    app.add_middleware(_Headers)
    return app


def _describing() -> APIRouter:
    router = APIRouter(route_class=GuardedRoute)

    @router.get(f"{PREFIX}/openapi.json", include_in_schema=False)
    @public
    def show_openapi(request: Request) -> dict[str, object]:
        """Describe the API; for everybody."""
        described: dict[str, object] = request.app.openapi()
        return described

    return router


class _Headers:
    """Adds what every answer has; a plain wrapper, so that streams stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, complete)
