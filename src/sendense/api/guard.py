"""What happens around every route: who calls, may he, was it done already, and the audit log.

The order matters.  Nothing of a body is read before it is known who sent it; a parameter of the
query that a route does not have is refused, because a misspelt filter would be none; a request
that is repeated is answered from memory, and not carried out again; what was changed, and what was
denied, is written down in the end.

Asynchronous, because the framework's requests are; whatever takes time is done in threads.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

from sendense import clock
from sendense.api import problems
from sendense.api.access import Caller, Needs, caller_of, needs_of
from sendense.api.problems import TooMany, status_of
from sendense.api.services import Services
from sendense.catalog.replies import Reply
from sendense.errors import NotAllowed, NotSignedIn, Rejected, SendenseError
from sendense.model.access import READ, AuditNote, Outcome
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)
LARGEST_BODY = 1 << 20
_LONGEST_KEY = 255
_LONGEST_NAME = 100
_UNPROCESSABLE = 422
_SERVER_FAILED = 500

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route of the API; it has to say what it needs."""

    def get_route_handler(self) -> Handle:
        """Give what answers a request."""
        carry_out = super().get_route_handler()
        needs = needs_of(self.endpoint)
        name, known = self.name, sorted(_query_names(self.dependant))

        async def inner(request: Request) -> Response:
            _refuse_unknown(request, known)
            return await carry_out(request)

        async def handle(request: Request) -> Response:
            return await _Guarded(request, name, needs).answer(inner)

        return handle


class _Guarded:
    """One request."""

    def __init__(self, request: Request, operation: str, needs: Needs) -> None:
        self._request = request
        self._operation = operation
        self._needs = needs
        services = request.app.state.services
        if not isinstance(services, Services):
            raise TypeError("the application has no services")
        self._services = services

    async def answer(self, inner: Handle) -> Response:
        began, status = clock.monotonic(), _SERVER_FAILED
        try:
            response = await self._guarded(inner)
            status = response.status_code
            return response
        except SendenseError as error:
            status = status_of(error).value
            raise
        except (RequestValidationError, HTTPException) as error:
            status = getattr(error, "status_code", _UNPROCESSABLE)
            raise
        except Exception as error:  # noqa: BLE001 - the edge: nothing is behind it but the server
            return problems.answer(problems.unforeseen(error))
        finally:
            self._services.gauges.request(self._operation, status, clock.monotonic() - began)

    async def _guarded(self, inner: Handle) -> Response:
        self._request = Request(self._request.scope, _limited(self._request))
        if self._needs.public:
            return await inner(self._request)
        self._request.state.caller = await run_in_threadpool(self._let_in)
        self._request.state.caller_now = self._still
        self._request.state.subject = ""
        if self._needs.access == READ:
            return await inner(self._request)
        try:
            response = await self._once(inner)
        except Exception as error:
            code = error.code if isinstance(error, SendenseError) else type(error).__name__
            denied = isinstance(error, NotAllowed)
            outcome = Outcome.DENIED if denied else Outcome.FAILED
            await run_in_threadpool(self._note, outcome, {"code": code})
            raise
        await run_in_threadpool(self._note, Outcome.DONE, {"status": response.status_code})
        return response

    # --- Who calls, and may he

    def _let_in(self) -> Caller:
        origin = self._request.client.host if self._request.client else ""
        token = _bearer(self._request)
        attempts = self._services.attempts
        wait_s = attempts.wait_s(origin, token)
        if wait_s > 0:
            raise TooMany(
                "too many requests without a token that counts came from this address",
                hint="wait a minute",
                retry_after_s=int(wait_s) + 1,
            )
        try:
            caller = self._known(token, origin)
        except NotSignedIn:
            attempts.failed(origin)
            self._write(AuditNote("", self._operation, self._place, Outcome.DENIED, origin))
            raise
        attempts.succeeded(token)
        self._require(caller)
        return caller

    def _still(self) -> Caller:
        """Find out anew who calls.

        It is no request: refused, it is neither written down nor held against the address.
        """
        caller = self._known(_bearer(self._request), caller_of(self._request).origin)
        self._needs.require(caller)
        return caller

    def _known(self, token: Secret, origin: str) -> Caller:
        user, known = self._services.catalog.tokens.check(token, clock.now())
        return Caller(user, known, origin)

    def _require(self, caller: Caller) -> None:
        try:
            self._needs.require(caller)
        except NotAllowed as error:
            self._write(
                AuditNote(
                    caller.name, self._operation, self._place, Outcome.DENIED, caller.origin,
                    {"reason": error.message},
                )
            )  # fmt: skip
            raise

    # --- Once

    async def _once(self, inner: Handle) -> Response:
        """Carry a request out, unless it was carried out under its key before."""
        key = self._request.headers.get("idempotency-key")
        if key is None or self._request.method != "POST":
            return await inner(self._request)
        if not 0 < len(key) <= _LONGEST_KEY or not (key.isascii() and key.isprintable()):
            raise Rejected(f"an Idempotency-Key has 1 to {_LONGEST_KEY} printable ASCII letters")
        if not self._needs.repeatable:
            raise Rejected(
                "this answer is given once, and not kept for an Idempotency-Key",
                hint="leave the key out; look at the list before you ask again",
            )
        user, replies = caller_of(self._request).name, self._services.catalog.replies
        digest = await self._digest()
        kept = await run_in_threadpool(replies.begin, user, key, digest, clock.now())
        if kept is not None:
            headers = {"Idempotency-Replayed": "true"}
            if kept.location is not None:
                headers["Location"] = kept.location
            return Response(json.dumps(kept.body), kept.status, headers, "application/json")
        try:
            response = await inner(self._request)
            body = json.loads(bytes(response.body))
            reply = Reply(response.status_code, body, response.headers.get("location"))
        except BaseException:
            await run_in_threadpool(replies.abandon, user, key)
            raise
        await run_in_threadpool(replies.finish, user, key, reply, clock.now())
        return response

    async def _digest(self) -> str:
        url = self._request.url
        head = f"{self._request.method} {url.path}?{url.query}\n".encode()
        return hashlib.sha256(head + await self._request.body()).hexdigest()

    # --- The audit log

    @property
    def _place(self) -> str:
        return ",".join(str(value) for value in self._request.path_params.values())

    def _note(self, outcome: Outcome, detail: dict[str, Any]) -> None:
        caller = caller_of(self._request)
        subject = self._request.state.subject or self._place
        self._write(
            AuditNote(caller.name, self._operation, subject, outcome, caller.origin, detail)
        )

    def _write(self, note: AuditNote) -> None:
        try:
            self._services.catalog.audit.add(note, clock.now())
        except SendenseError as error:
            # What was done is done: the caller is told so, and the log has what the table lacks.
            _LOG.error("not in the audit log: %s: %s", note, error)


def _query_names(dependant: Dependant) -> set[str]:
    """Name the parameters of the query that a route takes, itself or by what it depends on."""
    names = {field.alias for field in dependant.query_params}
    return names.union(*map(_query_names, dependant.dependencies))


def _refuse_unknown(request: Request, known: list[str]) -> None:
    """Refuse a parameter of the query that a route does not have."""
    taken = f"taken are {', '.join(known)}" if known else "none is taken"
    faults = [
        {"loc": ("query", name[:_LONGEST_NAME]), "msg": f"there is no such parameter; {taken}"}
        for name in request.query_params
        if name not in known
    ]
    if faults:
        raise RequestValidationError(faults)


def _limited(request: Request) -> Receive:
    """Give the body of a request as far as it is not too large, whatever its head said."""
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > LARGEST_BODY:
            # Anything else that is raised here becomes "cannot be read" in the framework.
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return receive


def _bearer(request: Request) -> Secret:
    """Give the token of a request; empty where there is none."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    return Secret(text.strip() if scheme.lower() == "bearer" else "")
