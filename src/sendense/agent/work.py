"""One piece of work that a ticket began: its state, its lease, and what is decided about it.

A work has a thread of its own from the moment it may begin.  Requests come on other threads:
they look at the state, renew the lease, and leave a *verdict* that the work's thread carries
out.  The first verdict counts; whatever a request finds later is the state it led to.
"""

from __future__ import annotations

import contextvars
import errno
import logging
import threading
from dataclasses import dataclass
from enum import Enum
from typing import Callable, Optional

from sendense import clock, log
from sendense.agent.admission import Claim
from sendense.agent.faces import GateFace, Metrics
from sendense.agent.ledger import Ledger
from sendense.agent.settings import AgentSettings
from sendense.capture.host import Host
from sendense.errors import OutOfSpace, SendenseError, Stalled
from sendense.model.agent_status import AgentError, WorkState
from sendense.model.ticket import Ticket

logger = logging.getLogger(__name__)

PATIENCE_S = 25.0
"""For how long a request waits for its verdict to be carried out, before it tells the state."""

_LOOK_S = 10.0
"""For a look at the source that a status asks for."""


class Verdict(Enum):
    """What is to become of a work."""

    COMMIT = "commit"
    """Of a restore: finish."""
    ABORT = "abort"
    PARK = "park"
    """Of a restore: give up."""


@dataclass
class Means:
    """What works need to work with."""

    settings: Callable[[], AgentSettings]
    """The settings in force, which may change at any time."""
    host: Host
    ledger: Ledger
    gate: GateFace
    metrics: Metrics


class Work:
    """What captures and restores have in common; subclasses do it in :meth:`_carry_out`."""

    kind = "work"

    def __init__(self, ticket: Ticket, claim: Claim, means: Means) -> None:
        """Begin nothing yet."""
        self.ticket = ticket
        self.id = ticket.id
        self.claim = claim
        self.over = False
        """Nothing of it is under way any more; the ledger knows the rest."""
        self._means = means
        self._turn = threading.Condition()
        self._verdict: Optional[Verdict] = None
        self._drop: tuple[str, ...] = ()
        self._reason: Optional[SendenseError] = None
        self._asked = clock.boottime()
        self._looks_wanted = 0
        self._looks_done = 0
        self.on_over: Callable[[], None] = lambda: None
        """Called when it is over: others may begin."""

    # -- for requests ----------------------------------------------------------------

    @property
    def state(self) -> WorkState:
        """Give the state."""
        raise NotImplementedError

    def touch(self) -> None:
        """Note that somebody wants it."""
        self._asked = clock.boottime()

    def lapsed(self) -> bool:
        """Tell whether nobody asked for it during the lease."""
        return clock.boottime() - self._asked > self._means.settings().lease_s

    def look(self) -> None:
        """Have the source looked at before this returns: what a status says is then true now.

        A worker commits its point on that word (``RemoteCapture.confirm``), so it is never one
        that was looked at before it asked.
        """
        with self._turn:
            self._looks_wanted += 1
            wanted = self._looks_wanted
            self._turn.notify_all()
            done = self._turn.wait_for(
                lambda: not self._watched() or self._looks_done >= wanted, _LOOK_S
            )
        if not done:
            raise Stalled("the source could not be looked at", hint="its storage may hang")

    def decide(
        self,
        verdict: Verdict,
        *,
        drop: tuple[str, ...] = (),
        reason: Optional[SendenseError] = None,
        wait_s: float = PATIENCE_S,
    ) -> None:
        """Leave a verdict, and wait a while until it is carried out."""
        with self._turn:
            if self._verdict is None and not self.over:
                self._verdict, self._drop, self._reason = verdict, drop, reason
                self._turn.notify_all()
            self._turn.wait_for(lambda: self.over, wait_s)

    def wait_over(self, within_s: float) -> bool:
        """Wait until nothing of it is under way any more; gives whether that came."""
        with self._turn:
            return self._turn.wait_for(lambda: self.over, within_s)

    # -- for the queue ---------------------------------------------------------------

    def hold(self, reason: str) -> None:
        """Say why it waits."""
        raise NotImplementedError

    def give_up_waiting(self, reason: Optional[SendenseError]) -> None:
        """End a work that never began; without a reason somebody wished it."""
        self._ended(WorkState.ABORTED if reason is None else WorkState.FAILED, reason)
        self._finish()

    def start(self) -> None:
        """Begin it in a thread of its own."""
        context = contextvars.copy_context()
        thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"{self.kind}-{self.id[:8]}", daemon=True
        )
        thread.start()

    # -- inside ----------------------------------------------------------------------

    def _watched(self) -> bool:
        """Tell whether there is a source to look at."""
        return self.state is WorkState.READY and not self.over and self._verdict is None

    def _run(self) -> None:
        with log.context(f"{self.kind} {self.claim.machine or self.id}"):
            began = clock.monotonic()
            try:
                self._carry_out()
            except SendenseError as error:
                logger.warning("%s failed: %s", self.kind, error)
                self._failed(error)
            except Exception as error:
                logger.exception("%s failed in a way that was not expected", self.kind)
                self._failed(unexpected(error))
            finally:
                self._count(clock.monotonic() - began)
                self._finish()

    def _failed(self, error: SendenseError) -> None:
        self._ended(WorkState.FAILED, error)

    def _finish(self) -> None:
        with self._turn:
            self.over = True
            self._turn.notify_all()
        self.on_over()

    def _count(self, seconds: float) -> None:
        outcome = self.state.value
        self._means.metrics.count("sendense_agent_works_total", kind=self.kind, outcome=outcome)
        self._means.metrics.count("sendense_agent_work_seconds_total", seconds, kind=self.kind)

    def _await_verdict(self, look: Callable[[], None]) -> Verdict:
        """Stay open until somebody decides, looking at the source about every second."""
        while True:
            with self._turn:
                if self._verdict is None and self._looks_wanted == self._looks_done:
                    self._turn.wait(1.0)
                wanted = self._looks_wanted
                if self._verdict is not None:
                    return self._verdict
            look()
            with self._turn:
                self._looks_done = wanted
                self._turn.notify_all()
            if self.lapsed():
                logger.info("nobody asked for it during the lease")
                self.decide(Verdict.PARK, wait_s=0)

    def _carry_out(self) -> None:
        raise NotImplementedError

    def _ended(self, state: WorkState, error: Optional[SendenseError]) -> None:
        raise NotImplementedError


def agent_error(error: Optional[SendenseError]) -> Optional[AgentError]:
    """Give an error as a status tells it."""
    if error is None:
        return None
    return AgentError(error.code, error.message, error.hint, error.retryable)


def unexpected(error: Exception) -> SendenseError:
    """Give an error that nobody foresaw as one that can be told: its text stays in the log."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace(
            "a file system of the host is full", hint=f"free space at {error.filename}"
        )
    return SendenseError(
        "the agent met an error that it does not know",
        hint="the log of the agent on the host tells more",
    )
