"""Parameters as CloudStack wants them, and the signature that proves whose they are.

The server sorts the parameters by their names as sent, encodes each value the way Java's
``URLEncoder`` does, joins them, lower-cases the whole, and takes an HMAC-SHA1 of it.  Java leaves
``*`` bare and encodes ``~``; Python's ``quote`` does the opposite of both, and one character that
differs is a refusal that says nothing about its cause.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from cs.client import transform

from sendense.model.secret import Secret

VALID_FOR: Final = timedelta(minutes=10)
"""How long a request counts.  A cloud that demands time stamps takes at most 15 minutes."""


def form(params: Mapping[str, Any]) -> dict[str, str]:
    """Give the parameters as texts: ``{"details": {"k": "v"}}`` becomes ``details[0].k=v``."""
    plain = {key: _bare(value) for key, value in params.items() if value is not None}
    transform(plain)
    return {key: str(value) for key, value in plain.items()}


def signed(
    command: str, params: Mapping[str, Any], api_key: str, secret: Secret, *, now: datetime
) -> dict[str, str]:
    """Give the whole form of a request; ``now`` is what the server's clock shows."""
    fields = form(params)
    fields["command"] = command
    fields["response"] = "json"
    fields["apiKey"] = api_key
    fields["signatureVersion"] = "3"
    fields["expires"] = expires(now)
    fields["signature"] = signature(fields, secret)
    return fields


def signature(fields: Mapping[str, str], secret: Secret) -> str:
    """Sign what will be sent."""
    told = "&".join(f"{name}={_encode(fields[name])}" for name in sorted(fields))
    digest = hmac.new(secret.reveal(), told.lower().encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def expires(now: datetime) -> str:
    """Write until when a request counts: with a numeric offset, which all versions read."""
    return (now + VALID_FOR).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def _encode(value: str) -> str:
    return quote(value, safe="*").replace("~", "%7E")


def _bare(value: Any) -> Any:  # noqa: ANN401 - whatever a caller gives
    """Take secrets out of their wrapping, and what is not set out of maps."""
    if isinstance(value, Secret):
        return value.reveal().decode(errors="replace")
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return {key: _word(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple, set, frozenset)):
        # Sets have no order of their own, and the same call should be the same request.
        ordered = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [_bare(inner) for inner in ordered]
    return value


def _word(value: Any) -> str:  # noqa: ANN401
    plain = _bare(value)
    return str(plain).lower() if isinstance(plain, bool) else str(plain)
