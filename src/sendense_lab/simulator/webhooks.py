"""Webhooks (4.20+): every event is posted to who asked, signed, tried three times.

Only an answer of 200 counts as a success. Deliveries of one webhook are made one after the other by
a thread of its own, so order holds until something is tried again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import queue
import ssl
import threading
from dataclasses import dataclass
from urllib.parse import urlsplit

from sendense_lab.simulator.events import description
from sendense_lab.simulator.faults import Faults
from sendense_lab.simulator.records import Account, Event, Webhook, new_id
from sendense_lab.simulator.world import World


@dataclass(frozen=True)
class Delivery:
    """One try to deliver."""

    webhook_id: str
    event: str
    body: bytes
    status: int
    """What was answered; 0: nothing."""


def signature(body: bytes, secret: str) -> str:
    """Sign a body: Base64 of HMAC-SHA256 over it as it is sent."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


class Deliveries:
    """What sends events to webhooks."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.world = world
        self.faults = faults
        self.sent: list[Delivery] = []
        self._queue: queue.Queue[tuple[Webhook, Event] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._closing = False

    def tell(self, event: Event) -> None:
        """Take an event for all webhooks that it is for."""
        with self.world.lock:
            hooks = [hook for hook in self.world.all(Webhook) if self._is_for(hook, event)]
            if hooks and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)
                self._thread.start()
        for hook in hooks:
            self._queue.put((hook, event))

    def _is_for(self, hook: Webhook, event: Event) -> bool:
        if hook.state != "Enabled":
            return False
        if hook.scope == "Global":
            return True
        if hook.scope == "Domain":
            account = self.world.get(Account, event.account_id)
            top = self.world.get(Account, hook.account_id)
            return account.domain_id == top.domain_id
        return hook.account_id == event.account_id

    def _work(self) -> None:
        while (item := self._queue.get()) is not None and not self._closing:
            hook, event = item
            body = json.dumps(description(event)).encode()
            for _ in range(self.faults.webhook_copies()):
                self._deliver(hook, event, body)

    def _deliver(self, hook: Webhook, event: Event, body: bytes) -> None:
        for _ in range(int(self.world.settings["webhook.delivery.retries"])):
            status = self.post(hook, event, body)
            self._note(Delivery(hook.id, event.kind, body, status))
            if status == 200 or self._closing:
                return

    def _note(self, delivery: Delivery) -> None:
        kept = int(self.world.settings["webhook.deliveries.limit"])
        with self.world.changed:
            self.sent.append(delivery)
            del self.sent[:-kept]
            self.world.changed.notify_all()

    def post(self, hook: Webhook, event: Event, body: bytes, *, secret: str | None = None) -> int:
        """Post a body; another secret than the webhook's makes a forgery."""
        # Not urllib: it writes `X-cs-event`, and what a receiver makes of that is part of the test.
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "User-Agent": f"CS-Hookshot/{event.account_id}",
            "X-CS-Event-ID": event.id,
            "X-CS-Event": event.kind,
        }
        used = hook.secret if secret is None else secret
        if used:
            headers["X-CS-Signature"] = signature(body, used)
        connection = self._connection(hook)
        try:
            parts = urlsplit(hook.url)
            target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
            connection.request("POST", target, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def _connection(self, hook: Webhook) -> http.client.HTTPConnection:
        parts = urlsplit(hook.url)
        wait = float(self.world.settings["webhook.delivery.timeout"])
        if parts.scheme.lower() == "http":
            return http.client.HTTPConnection(parts.netloc, timeout=wait)
        context = ssl.create_default_context()
        if not hook.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(parts.netloc, timeout=wait, context=context)

    def forge(self, hook: Webhook, body: bytes) -> int:
        """Post what no server would: a body signed with another secret."""
        event = Event(kind="VM.STOP", account_id=hook.account_id)
        return self.post(hook, event, body, secret=new_id())

    def close(self) -> None:
        """End, after the delivery that is on its way; what waits is dropped."""
        self._closing = True
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(30)
            self._thread = None
