"""Freezing a guest's file systems for the instant a capture begins, and thawing them.

The danger is a guest left frozen: it hangs until somebody thaws it.  Measured
(libvirt.md F8.3): a freeze that *timed out* is still queued in the agent's
channel and takes effect when the agent wakes, after the caller gave up.  So

* the agent's time-out is set first (libvirt's default waits without limit);
* after any attempt, also a failed one, we thaw until the agent itself says
  ``thawed``: commands are answered in order, so that one answer given after
  the attempt settles it;
* where the agent does not answer, a thread goes on trying, and the journal
  remembers, across a crash of ours too, that the guest may be frozen.

A refusal that comes before the command reaches the agent (no channel, nobody
connected, guest paused), or from the agent itself, froze nothing and needs no thaw.
The agent refuses while *somebody else* has the guest frozen: that freeze guards their
snapshot, so it is left alone.  Only where our journal says that it may be ours is a
guest thawed that this run did not freeze.

A freeze can end before the moment: another program thaws, or Windows does after its
10 s.  The thaw then has nothing to undo, which is how it shows.  And it must end before
the moment where that does not come: a begin that blocks would hold the guest with it, so
that a timer thaws after :data:`FROZEN_MOST_S`, beside the call that blocks.  libvirt lets
it: the agent's commands have a lock of their own, which no job on the domain holds.  QEMU
does not where its main loop hangs in a call to dead storage: it carries the agent's bytes.
Either way :attr:`Freezer.lapsed` tells that the freeze is not worth its name.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import libvirt
import libvirt_qemu

from sendense import clock
from sendense.capture.journal import JournalEntry
from sendense.capture.link import DomainLink, GuestOff
from sendense.errors import SendenseError, Unavailable

log = logging.getLogger(__name__)

FROZEN_MOST_S = 10.0
"""For how long a guest is kept frozen at most while its capture begins.

A begin takes 0.1 to 0.3 s.  One that waits for another job's lock takes 30 s, one that waits for
storage as long as that takes, and all of it every writer in the guest stands still.  After 10 s
Windows gives up by itself; databases and cluster heartbeats bear about as much.
"""

_RETRY_S = 1.0

_AGENT_UNRESPONSIVE = 86
_NEVER_SENT = (
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,  # "QEMU guest agent is not configured"
    libvirt.VIR_ERR_OPERATION_INVALID,  # "domain is not running": paused, for one
    libvirt.VIR_ERR_NO_DOMAIN,
)


@dataclass(frozen=True)
class Thaw:
    """A thaw that the agent confirmed."""

    at: float
    undone: Optional[int] = None
    """How many file systems it thawed; none where there was no agent to say."""


class Freezer:
    """Freezes one guest, and does not rest before it is thawed."""

    def __init__(self, link: DomainLink, entry: JournalEntry, *, timeout_s: int) -> None:
        """Work through ``link``; ``entry`` remembers a guest that may be frozen."""
        self._link = link
        self._aside = link.another()
        """For thaws beside what goes on in ``link``."""
        self._entry = entry
        self._timeout_s = timeout_s
        self._began: Optional[float] = None
        self._thawed = threading.Event()
        if not entry.facts.get("may_be_frozen"):
            self._thawed.set()
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._turn = threading.Lock()
        """For a thaw: of two at once, one finds nothing to undo, as if somebody else had thawed."""
        self._timing = threading.Lock()
        self._timer: Optional[threading.Timer] = None
        self._tries = 0
        self._held = True
        """Whether the freeze lasted until our thaw, as far as the agent told."""
        self._given_up = False
        """Whether the timer came first."""
        self.frozen_s: Optional[float] = None
        """Seconds from the freeze command to the end of the thaw command."""

    @property
    def thawed(self) -> bool:
        """Tell whether the guest is known to be thawed."""
        return self._thawed.is_set()

    @property
    def lapsed(self) -> Optional[str]:
        """Tell why the freeze may have ended before the moment, where it may have."""
        if self._given_up:
            return (
                f"the capture took longer than {FROZEN_MOST_S:g} s to begin, so that "
                "the guest was thawed before the moment"
            )
        if not self._held:
            return (
                "the guest was thawed before the moment, by another program or its own time limit"
            )
        return None

    def freeze(self, mountpoints: Sequence[str]) -> int:
        """Freeze; gives how many file systems, and raises where none was.

        Whatever happens here, :meth:`thaw` must be called next, within :data:`FROZEN_MOST_S`:
        later the guest is thawed already.
        """
        if not self._thawed.is_set():
            # The thaw going on behind the scenes would undo the freeze before the moment.
            raise Unavailable("the guest may still be frozen by an earlier run")
        self._entry.update(may_be_frozen=True)
        self._thawed.clear()
        self._began = clock.monotonic()
        self._tries = 0
        self._given_up = False
        count = self._link.call(
            "freezing the guest", lambda domain: self._freeze(domain, mountpoints)
        )
        self._tries = 0
        if count < 1:
            raise Unavailable(
                "the guest agent froze no file system",
                hint="check the mount points asked for and the agent's block list",
            )
        # Not before: the agent has a time-out of its own for the freeze, and hooks may need it.
        self._timer = threading.Timer(FROZEN_MOST_S, self._give_up)
        self._timer.name, self._timer.daemon = "freeze-limit", True
        self._timer.start()
        return count

    def _freeze(self, domain: Any, mountpoints: Sequence[str]) -> int:
        self._tries += 1
        try:
            domain.agentSetResponseTimeout(self._timeout_s, 0)
            return int(domain.fsFreeze(list(mountpoints) or None, 0))
        except libvirt.libvirtError as error:
            # Of a second try, after libvirtd went away, a refusal says nothing about the first.
            if self._tries == 1 and _froze_nothing(error):
                self._settle()
            raise

    def thaw(self) -> bool:
        """Thaw now; where the agent does not answer, keep trying behind the scenes."""
        with self._timing:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return self._thaw(self._link)

    def _give_up(self) -> None:
        """Thaw before the moment, which did not come."""
        with self._timing:
            if self._timer is None:
                return  # it came
            self._given_up = True
        log.warning("the capture does not begin: the guest is thawed after %g s", FROZEN_MOST_S)
        self._thaw(self._aside)

    def _thaw(self, link: DomainLink) -> bool:
        with self._turn:
            if self._thawed.is_set() or self._try_thaw(link):
                return True
            if self._thread is None or not self._thread.is_alive():
                log.warning("the guest agent did not confirm the thaw; trying on in the background")
                self._thread = threading.Thread(target=self._keep_trying, name="thaw", daemon=True)
                self._thread.start()
            return False

    def close(self, *, wait_s: float) -> bool:
        """Wait for the thaw up to ``wait_s``, then give up; the journal keeps the flag."""
        done = self._thawed.wait(wait_s)
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._timeout_s * 3)
        self._aside.close()
        return done or self._thawed.is_set()

    def _keep_trying(self) -> None:
        while not self._stop.is_set() and not self._try_thaw(self._aside):
            self._stop.wait(_RETRY_S)

    def _try_thaw(self, link: DomainLink) -> bool:
        self._tries += 1
        try:
            thaw = thaw_once(link, timeout_s=self._timeout_s)
        except SendenseError as error:
            log.debug("thaw attempt failed: %s", error)
            return False
        except Exception:
            # The one who tries again must outlive whatever goes wrong in a try.
            log.exception("thaw attempt failed")
            return False
        if thaw is None:
            return False
        if self._began is not None:
            self.frozen_s = thaw.at - self._began
            # Of a later try, 0 may only mean that an earlier one was carried out late.
            self._held = thaw.undone != 0 or self._tries > 1
        self._settle()
        return True

    def _settle(self) -> None:
        """Note that the guest is not frozen."""
        self._thawed.set()
        if self._stop.is_set():
            return  # whoever closed this has the journal now
        try:
            self._entry.update(may_be_frozen=False)
        except OSError as error:
            log.warning("the journal cannot be written: %s", error)


def thaw_once(link: DomainLink, *, timeout_s: int) -> Optional[Thaw]:
    """Thaw, then ask the agent; gives the thaw once the agent says so, else none.

    A domain that is gone, or that has no agent channel, has nothing frozen.
    """

    def act(domain: Any) -> Optional[Thaw]:
        try:
            domain.agentSetResponseTimeout(timeout_s, 0)
            undone = int(domain.fsThaw(None, 0))
            thaw = Thaw(clock.monotonic(), undone)
            return thaw if _status(domain, timeout_s) == "thawed" else None
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED:
                return Thaw(clock.monotonic())
            raise

    try:
        return link.call("thawing the guest", act)
    except GuestOff:
        return Thaw(clock.monotonic())


def _froze_nothing(error: libvirt.libvirtError) -> bool:
    """Tell a freeze that was refused from one that may still be in the agent's channel."""
    code = error.get_error_code()
    if code == _AGENT_UNRESPONSIVE:
        return "is not connected" in str(error)
    # The agent itself: it is frozen by somebody else, or its administrator forbids the command.
    return code in _NEVER_SENT or "has been disabled" in str(error)


def _status(domain: Any, timeout_s: int) -> str:
    answer = libvirt_qemu.qemuAgentCommand(
        domain, json.dumps({"execute": "guest-fsfreeze-status"}), timeout_s, 0
    )
    return str(json.loads(answer)["return"])
