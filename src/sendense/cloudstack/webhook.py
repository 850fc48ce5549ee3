"""Messages that CloudStack sends when something happens: checked, and taken as hints.

A message may come twice, late, or never, and whoever knows our address can send one.  So the
signature is checked first, over the bytes as they came; and all that is taken from a message is
what to look at: what is true is asked of the API.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sendense.cloudstack.answers import text
from sendense.errors import Rejected
from sendense.model.secret import Secret

SIGNATURE: Final = "X-CS-Signature"
EVENT: Final = "X-CS-Event"
EVENT_ID: Final = "X-CS-Event-ID"
MAX_BODY: Final = 1024 * 1024

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_OF_INSTANCES: Final = ("VM.", "VMSNAPSHOT.", "NIC.", "VIRTUALMACHINE.")
_OF_DISKS: Final = ("VOLUME.", "SNAPSHOT.")
_OF_HOSTS: Final = ("HOST.", "MAINT.")


@dataclass(frozen=True)
class WebhookHint:
    """What a message says that it would be worth to look at."""

    event: str
    """Its type: ``VM.START``."""
    event_id: str = ""
    """Given by CloudStack to each delivery's event; a repeated one has it again."""
    instance_ids: tuple[str, ...] = ()
    """UUIDs of instances that it names; an event of an instance may name none."""
    object_id: str = ""
    """UUID of what it is about."""
    state: str = ""
    """``Scheduled``, ``Started``, ``Completed``; or empty."""

    @property
    def of_instances(self) -> bool:
        """Tell whether it is about instances or what they have."""
        return self.event.startswith((*_OF_INSTANCES, *_OF_DISKS))

    @property
    def of_hosts(self) -> bool:
        """Tell whether it is about hosts."""
        return self.event.startswith(_OF_HOSTS)


def check_signature(body: bytes, header: str, secret: Secret) -> bool:
    """Tell whether a message was signed with a secret; no secret, no."""
    if not secret:
        return False
    right = base64.b64encode(hmac.new(secret.reveal(), body, hashlib.sha256).digest())
    return hmac.compare_digest(right, header.strip().encode(errors="replace"))


def parse(body: bytes, headers: Mapping[str, str]) -> WebhookHint:
    """Read a message; its signature was checked before."""
    given = {name.lower(): value for name, value in headers.items()}
    told = _told(body)
    lower = {str(key).lower(): value for key, value in told.items()}
    event = given.get(EVENT.lower(), "") or text(lower, "event", "eventtype")
    if not event:
        raise Rejected("the message names no event", hint="only CloudStack's webhooks go here")
    about = text(lower, "entityuuid", "resourceid")
    named = [text(lower, "virtualmachine", "virtualmachineid", "vmid")]
    if event.startswith("VM.") or text(lower, "entity").endswith("VirtualMachine"):
        named.append(about)
    ids = tuple(dict.fromkeys(one.lower() for one in named if _UUID.fullmatch(one)))
    return WebhookHint(
        event=event[:100],
        event_id=given.get(EVENT_ID.lower(), "")[:100],
        instance_ids=ids,
        object_id=about.lower() if _UUID.fullmatch(about) else "",
        state=text(lower, "status", "state")[:100],
    )


def _told(body: bytes) -> dict[str, Any]:
    """Read a body; one that is no JSON object tells nothing, and its headers may be enough."""
    if len(body) > MAX_BODY:
        raise Rejected(f"the message is larger than {MAX_BODY} bytes")
    try:
        found = json.loads(body.decode(errors="replace"), strict=False)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
