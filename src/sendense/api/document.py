"""The OpenAPI document: what the routes say of themselves, and what is true of all of them.

Whom a route is for, and which errors it may answer with, follows from its mark
(:mod:`sendense.api.access`), so the document cannot say something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

import sendense
from sendense.api.access import Needs, needs_of
from sendense.api.problems import MEDIA_TYPE

_ABOUT = """
The control plane of Sendense: hosts, instances, backups, restores.

Every request but `/healthz` and those of clouds carries `Authorization: Bearer <token>`.
`x-sendense-roles` and `x-sendense-scope` say whom an operation is for. Errors are
`application/problem+json` with a stable `code`. Lists come in parts: `limit` and `cursor`.
A `POST` with an `Idempotency-Key` is carried out once, however often it is sent.
"""
_PROBLEM = {
    "type": "object",
    "description": "An error.",
    "required": ["type", "title", "status", "code", "message", "retryable"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:sendense:problem:not-found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable.", "examples": ["not-found"]},
        "message": {"type": "string", "description": "For people."},
        "hint": {"type": ["string", "null"], "description": "What to do."},
        "retryable": {"type": "boolean", "description": "The same request may succeed later."},
        "data": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
_ALWAYS = {
    "422": "The request does not fit, or cannot be carried out as it stands.",
    "500": "The server failed; its log says why.",
    "503": "The database or a repository does not answer, or is busy.",
}
_WITH_TOKEN = {
    "401": "There is no token, or it does not count.",
    "403": "The role or the token may not do this.",
    "429": "Too many tokens that do not count, or too many streams.",
}
_UNSIGNED = {
    "401": "The keys that were sent do not count.",
    "403": "What was sent is not signed as it has to be.",
    "429": "Too much that is not signed came from this address.",
}
_OF_CHANGES = {
    "409": "The state of what it works on does not allow it, or it is there already.",
    "413": "The body is too large.",
    "507": "There is no room left.",
}
_OF_THINGS = {"404": "What is named does not exist, or is not for the caller to see."}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes it safe to repeat: for a day the same key gives the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_PARAMETERS = {
    "action": "What was done: the operation's id.",
    "after": "At that moment or later.",
    "before": "Earlier than that moment.",
    "enabled": "Only those that are on, or off.",
    "host_id": "Only of this host.",
    "key": "The setting's name.",
    "kind": "Only of this kind.",
    "mode": "Only of this mode.",
    "outcome": "How it ended.",
    "pinned": "Only those that are pinned, or not.",
    "policy_id": "Only of this policy.",
    "power": "Only those in this state of power.",
    "repository_id": "Only of this repository.",
    "requested_by": "Only what this user, or `policy:<name>`, asked for.",
    "revoked": "Only those that are revoked, or not.",
    "role": "Only those of this role.",
    "protection": "Only those that are protected so.",
    "state": "Only those in this state; may be given more than once for jobs.",
    "subject": "Only about this: an instance, a repository, a host or another subject.",
    "transport": "Only those of this transport.",
    "user": "Only of this user.",
    "who": "Only what this user did.",
}
"""What a parameter of a query means wherever it occurs; a route may say it in its own words."""


def install(app: FastAPI) -> None:
    """Have an application describe itself so."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title="Sendense", version=sendense.__version__, description=_ABOUT, routes=app.routes
    )
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token: see docs/api.md."}
    }
    for method, path, needs in _routes(app):
        _complete(made["paths"][path][method], method, path, needs)
    return made


def _routes(app: FastAPI) -> Iterator[tuple[str, str, Needs]]:
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in sorted(route.methods or ()):
                # What kind of parameter it is (``{name:path}``) is for the router alone.
                path = re.sub(r":\w+}", "}", str(context.path))
                yield method.lower(), path, needs_of(route.endpoint)


def _complete(operation: dict[str, Any], method: str, path: str, needs: Needs) -> None:
    """Say of one operation whom it is for, and how it fails."""
    operation["security"] = [] if needs.public else [{"token": []}]
    operation["x-sendense-roles"] = sorted(role.value for role in needs.roles)
    if needs.scope is not None:
        operation["x-sendense-scope"] = needs.scope
    if method == "post" and needs.repeatable and needs.access == "write":
        operation.setdefault("parameters", []).append(_KEY)
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in _PARAMETERS:
            parameter.setdefault("description", _PARAMETERS[parameter["name"]])
    failures = dict(_ALWAYS)
    if not needs.public:
        failures |= _WITH_TOKEN
    elif method != "get":
        failures |= _UNSIGNED
    if method != "get":
        failures |= _OF_CHANGES | _OF_THINGS
    if "{" in path:
        failures |= _OF_THINGS
    for status, said in failures.items():
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        operation["responses"][status] = {"description": said, "content": content}
