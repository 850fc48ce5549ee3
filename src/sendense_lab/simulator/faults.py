"""What can go wrong between a client and the API, on demand.

Each fault is armed for a number of requests, for all commands or for one, and counts down as
requests come in; `hits` tells how many a fault caught. `hooks` are called before a command, under
no lock, for what happens while somebody pages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

FOREVER = 1 << 30

HTML = b"""<html><head><title>502 Bad Gateway</title></head>
<body><center><h1>502 Bad Gateway</h1></center></body></html>
"""


@dataclass
class Fault:
    """One thing that goes wrong."""

    kind: str
    """`slow`, `throttle`, `half`, `html`, `reset`, `error`, `silent`."""
    times: int = 1
    command: str = ""
    after: int = 0
    """Requests that go well before it begins."""
    seconds: float = 0.0
    status: int = 502
    body: bytes = HTML
    hits: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    """Set when it is mended: nobody has to sleep on."""

    def takes(self, command: str) -> bool:
        """Tell whether it catches a request, and count it."""
        if self.times <= 0 or (self.command and self.command.lower() != command.lower()):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1
        self.hits += 1
        return True


@dataclass
class _Hook:
    command: str
    after: int
    times: int
    act: Callable[[], None]


@dataclass
class Faults:
    """All that is armed."""

    armed: list[Fault] = field(default_factory=list)
    hooks: list[_Hook] = field(default_factory=list)
    lose_webhooks: int = 0
    duplicate_webhooks: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def slow(self, seconds: float, *, times: int = FOREVER, command: str = "") -> Fault:
        """Answer late."""
        return self._arm(Fault("slow", times, command, seconds=seconds))

    def throttle(self, times: int = 1, *, command: str = "", after: int = 0) -> Fault:
        """Answer 429."""
        return self._arm(Fault("throttle", times, command, after))

    def half_written(self, times: int = 1, *, command: str = "", after: int = 0) -> Fault:
        """Break off in the middle of an answer."""
        return self._arm(Fault("half", times, command, after))

    def html(
        self, times: int = 1, *, command: str = "", after: int = 0, status: int = 502,
        body: bytes = HTML,
    ) -> Fault:  # fmt: skip
        """Answer as a reverse proxy does that has no server behind it."""
        return self._arm(Fault("html", times, command, after, status=status, body=body))

    def reset(self, times: int = 1, *, command: str = "", after: int = 0) -> Fault:
        """Do the work and close the connection with no answer."""
        return self._arm(Fault("reset", times, command, after))

    def error(
        self, code: int, text: str, *, times: int = 1, command: str = "", after: int = 0
    ) -> Fault:
        """Answer with an error of the API."""
        return self._arm(Fault("error", times, command, after, status=code, body=text.encode()))

    def before(
        self, command: str, act: Callable[[], None], *, after: int = 0, times: int = 1
    ) -> None:
        """Do something when a command comes in: change rows while somebody pages."""
        with self.lock:
            self.hooks.append(_Hook(command.lower(), after, times, act))

    def clear(self) -> None:
        """Let everything go well again."""
        with self.lock:
            for fault in self.armed:
                fault.over.set()
            self.armed.clear()
            self.hooks.clear()
            self.lose_webhooks = self.duplicate_webhooks = 0

    def _arm(self, fault: Fault) -> Fault:
        with self.lock:
            self.armed.append(fault)
        return fault

    def caught(self, command: str) -> list[Fault]:
        """Give what a request runs into."""
        with self.lock:
            return [fault for fault in self.armed if fault.takes(command)]

    def run_hooks(self, command: str) -> None:
        """Do what is to happen before a command."""
        due = []
        with self.lock:
            for hook in self.hooks:
                if hook.command != command.lower() or hook.times <= 0:
                    continue
                if hook.after > 0:
                    hook.after -= 1
                    continue
                hook.times -= 1
                due.append(hook.act)
        for act in due:
            act()

    def webhook_copies(self) -> int:
        """Give how often a delivery is to be sent: never, once or twice."""
        with self.lock:
            if self.lose_webhooks > 0:
                self.lose_webhooks -= 1
                return 0
            if self.duplicate_webhooks > 0:
                self.duplicate_webhooks -= 1
                return 2
            return 1
