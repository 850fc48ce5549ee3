"""What clouds send by themselves: hints that something changed, and never the truth about it.

Whoever knows the address can send something, so nothing is taken that is not signed with the secret
of its cloud, and no answer tells whether the cloud exists.  Without hints all is found a minute
later, so a flood may cost them.
"""

from __future__ import annotations

import logging

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from sendense.api.access import public
from sendense.api.guard import LARGEST_BODY, GuardedRoute
from sendense.api.problems import TooLarge, TooMany
from sendense.api.services import ServicesHere
from sendense.api.shapes import IdInPath, Shape
from sendense.errors import NotAllowed
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)
_NOBODY = Secret(b"")

router = APIRouter(route_class=GuardedRoute, tags=["clouds"])


class Taken(Shape):
    """An event was taken."""

    taken: bool = True


@router.post("/hooks/cloudstack/{cloud_id}")
@public
async def take_hint(services: ServicesHere, cloud_id: IdInPath, request: Request) -> Taken:
    """Take an event that a cloud sends, signed as `X-CS-Signature` says; for clouds."""
    origin = request.client.host if request.client else ""
    wait_s = services.hook_attempts.wait_s(origin, _NOBODY)
    if wait_s > 0:
        raise TooMany(
            "too many events without a signature that counts came from this address",
            hint="wait a minute",
            retry_after_s=int(wait_s) + 1,
        )
    body, headers = await _body(request), dict(request.headers)
    if not await run_in_threadpool(services.clouds.hint, cloud_id, body, headers):
        services.hook_attempts.failed(origin)
        _LOG.warning("an event for cloud %s from %s is not signed by it", cloud_id, origin)
        raise NotAllowed(
            "the event is not signed with the secret of this cloud",
            hint="set the webhook again: sendense cloud webhook",
        )
    return Taken()


async def _body(request: Request) -> bytes:
    """Read what was sent, as far as it is not too large, whatever its head said."""
    taken = bytearray()
    async for part in request.stream():
        taken += part
        if len(taken) > LARGEST_BODY:
            raise TooLarge(f"an event is not larger than {LARGEST_BODY} bytes")
    return bytes(taken)
