"""Errors as answers: ``application/problem+json``, with the codes that every edge of Sendense has.

Here alone an error becomes an HTTP status.  What nobody foresaw is an answer of status 500 without
a word of what it was; the log has it.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from sendense.errors import (
    AlreadyExists,
    Busy,
    Cancelled,
    Conflict,
    Held,
    NotAllowed,
    NotFound,
    NotSignedIn,
    OutOfSpace,
    Rejected,
    SendenseError,
    Stalled,
    Unavailable,
)

_LOG = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class TooMany(Busy):
    """Somebody asks too often."""


class TooLarge(Rejected):
    """The body is larger than any that is taken."""


class WrongMethod(Rejected):
    """The place is there, and this cannot be done to it."""


_STATUSES: tuple[tuple[type[SendenseError], HTTPStatus], ...] = (
    # Subclasses stand before the class that they refine.
    (NotFound, HTTPStatus.NOT_FOUND),
    (AlreadyExists, HTTPStatus.CONFLICT),
    (Conflict, HTTPStatus.CONFLICT),
    (NotSignedIn, HTTPStatus.UNAUTHORIZED),
    (Held, HTTPStatus.CONFLICT),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (TooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (WrongMethod, HTTPStatus.METHOD_NOT_ALLOWED),
    (Rejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (TooMany, HTTPStatus.TOO_MANY_REQUESTS),
    (Busy, HTTPStatus.SERVICE_UNAVAILABLE),
    (Stalled, HTTPStatus.GATEWAY_TIMEOUT),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (OutOfSpace, HTTPStatus.INSUFFICIENT_STORAGE),
    (Cancelled, HTTPStatus.CONFLICT),
)
_RETRY_AFTER_S = 1


def status_of(error: SendenseError) -> HTTPStatus:
    """Give the status of an error."""
    found = (status for kind, status in _STATUSES if isinstance(error, kind))
    return next(found, HTTPStatus.INTERNAL_SERVER_ERROR)


def answer(error: SendenseError) -> Response:
    """Give an error as an answer."""
    status = status_of(error)
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
        headers["Retry-After"] = str(error.data.get("retry_after_s", _RETRY_AFTER_S))
    if "allow" in error.data:
        headers["Allow"] = str(error.data["allow"])
    body = {
        "type": f"urn:sendense:problem:{error.code}",
        "title": status.phrase,
        "status": status.value,
        **error.to_dict(),
    }
    return Response(json.dumps(body), status.value, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Have every error of an application answered so."""

    def known(_request: Request, error: Exception) -> Response:
        return answer(error if isinstance(error, SendenseError) else unforeseen(error))

    def invalid(_request: Request, error: Exception) -> Response:
        faults = error.errors() if isinstance(error, RequestValidationError) else ()
        return answer(_invalid(list(faults)))

    def of_http(_request: Request, error: Exception) -> Response:
        return answer(_of_http(error) if isinstance(error, HTTPException) else unforeseen(error))

    app.add_exception_handler(SendenseError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, known)


def unforeseen(error: Exception) -> SendenseError:
    """Log what nobody foresaw, and say nothing of it."""
    _LOG.error("a request failed for a reason that nobody foresaw", exc_info=error)
    return SendenseError("the server failed", hint="its log says why")


def _invalid(faults: list[Any]) -> Rejected:
    """Name what does not fit, and never what was sent: it may be a secret."""
    places = [
        (".".join(str(part) for part in fault["loc"]), str(fault["msg"])) for fault in faults[:20]
    ]
    said = "; ".join(f"{place}: {message}" for place, message in places)
    return Rejected(
        f"the request does not fit: {said}",
        hint="see /api/v1/openapi.json for what is taken",
        **{place: message for place, message in places if place.isprintable()},
    )


def _of_http(error: HTTPException) -> SendenseError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound("there is nothing here", hint="see /api/v1/openapi.json")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("Allow", "")
        return WrongMethod("this cannot be done here", allow=allow)
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TooLarge("the body is too large")
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Rejected(str(error.detail))
    return SendenseError(str(error.detail))
