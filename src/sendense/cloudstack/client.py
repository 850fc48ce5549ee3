"""A CloudStack as it is asked: one command, one answer, or an error that says what to do.

What the API does that a client has to stand, each measured or read in its source: it refuses a
wrong clock, a wrong key and a command that it does not know with the same sentence; its error
codes are HTTP statuses that proxies rewrite; a reply that is lost may have been carried out.

A command that only reads is repeated while the cloud is away or busy, for as long as our patience
lasts.  One that changes something is repeated only where nothing can have been done.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from sendense import clock
from sendense.cloudstack import answers, jobs, refusals, signing
from sendense.cloudstack.answers import Nonsense, Refused
from sendense.cloudstack.features import PAGE_SIZE, Features, read_features
from sendense.cloudstack.jobs import AsyncJob
from sendense.cloudstack.paging import Pages
from sendense.cloudstack.transport import BrokenOff, Limits, NotSent, TooLarge, Untrusted, Wire
from sendense.errors import NotFound, SendenseError, Unavailable
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)

SKEW_S: Final = 60.0
"""A clock that is off by more is worth a warning."""
ABSURD_S: Final = 86_400.0
"""A clock that is off by more is none: what is signed by it would not be taken, or be no time."""
_POLL_SILENT_S: Final = 20.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_LOOKS: Final = 4


class CloudClient:
    """One cloud with one key; may be used by many threads."""

    def __init__(
        self,
        endpoint: str,
        api_key: str,
        secret: Secret,
        *,
        name: str = "",
        ca_pem: str = "",
        limits: Limits | None = None,
    ) -> None:
        """Connect to nothing yet."""
        self.name = name
        self.skew_s = 0.0
        """Seconds that the cloud's clock is ahead of ours."""
        self._wire = Wire(endpoint, ca_pem=ca_pem, limits=limits)
        self._api_key = api_key
        self._secret = secret
        self._patience_s = self._wire.limits.patience_s
        self._lock = threading.Lock()
        self._features: Features | None = None
        self._page_size = PAGE_SIZE
        self._keeps_job_ids: bool | None = None
        """Whether a job gets the id that we choose; none while it was not tried."""
        self._noting = threading.Lock()
        self._moved: set[str] = set()
        self._odd: dict[str, int] = {}
        self._no_clock = False
        """The date of its last answer was none that a clock shows."""

    def __repr__(self) -> str:
        return f"<cloud {self.name or self.endpoint}>"

    @property
    def endpoint(self) -> str:
        """The address that is asked."""
        return self._wire.endpoint

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should look at, as of the last answers."""
        found = []
        if self._wire.exposed:
            found.append("its endpoint is http://: answers cross the network unencrypted")
        if abs(self.skew_s) > SKEW_S:
            way = "ahead of" if self.skew_s > 0 else "behind"
            found.append(f"its clock is {abs(self.skew_s):.0f} s {way} ours")
        if self._no_clock:
            found.append("its answers are dated more than a day off ours: that is not believed")
        with self._noting:
            moved = sorted(self._moved)
            odd = sorted(self._odd.items())
        found += [f"{what} changed while it was read" for what in moved]
        found += [f"{count} {what} have no id that counts, and are left out" for what, count in odd]
        return tuple(found)

    def close(self) -> None:
        """Close its connections."""
        self._wire.close()

    # --- Asking

    def call(self, command: str, /, **params: Any) -> dict[str, Any]:
        """Give what is in the envelope of an answer."""
        return self._ask(command, params, patience_s=self._patience_s)

    def every(
        self, command: str, key: str | None = None, /, *, size: int | None = None, **params: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """Give a list page by page, each row once; ``key`` is that of the list in its answers."""
        pages = Pages(
            command,
            lambda page, most: self.call(command, page=page, pagesize=most, **params),
            size=min(size or self._page_size, self._page_size),
            key=key,
        )
        yield from pages
        if size is None:
            self._page_size = min(self._page_size, pages.size)
        with self._noting:
            if pages.moved:
                self._moved.add(command)
            else:
                self._moved.discard(command)

    def left_out(self, what: str, count: int) -> None:
        """Remember that so many of something that was read could not be taken."""
        with self._noting:
            if count:
                self._odd[what] = count
            else:
                self._odd.pop(what, None)

    def ping(self) -> str:
        """Ask for as little as possible; give the cloud's version."""
        return answers.text(answers.only(self.call("listCapabilities")), "cloudstackversion")

    def features(self, *, again: bool = False) -> Features:
        """Give what the cloud can do for this key; asked once."""
        with self._lock:
            if self._features is None or again:
                self._features = read_features(self)
                self._page_size = min(self._page_size, self._features.page_size)
                if self._features.per_second:
                    self._wire.pace.slow_to(self._features.per_second)
            return self._features

    # --- Jobs

    def start(self, command: str, /, *, job_id: str = "", **params: Any) -> AsyncJob:
        """Begin a job, once: where the reply is lost, the job is looked for by its id.

        ``job_id`` is a new UUID that the caller has chosen, and remembers: where the cloud keeps
        such ids, :meth:`job` finds the job even for another process.
        """
        ours = job_id or str(uuid4())
        known = self._keeps_job_ids is not False
        wanted = {**params, "customjobid": ours} if known else params
        try:
            answer = self._ask(command, wanted, patience_s=self._patience_s)
        except refusals.Lost as lost:
            if not known:
                raise _unknown_fate(lost) from None
            answer = self._found(command, wanted, ours, lost)
        job_id = answers.text(answer, "jobid")
        if not job_id:
            return AsyncJob("", answers.text(answer, "id"), command, answer)
        if known:
            self._keeps_job_ids = job_id == ours
        return AsyncJob(job_id, answers.text(answer, "id"), command)

    def job(self, job_id: str, command: str) -> AsyncJob | None:
        """Give the job that has an id of ours; none where the cloud knows none."""
        try:
            self._ask("queryAsyncJobResult", {"jobid": job_id}, patience_s=self._patience_s)
        except NotFound:
            return None
        return AsyncJob(job_id, "", command)

    def wait(
        self,
        job: AsyncJob,
        *,
        check: Callable[[], None] = jobs.nothing,
        stall_s: float = jobs.STALL_S,
    ) -> dict[str, Any]:
        """Wait for the end of a job and give its result; ``check`` may raise to leave it."""
        if not job.job_id:
            return dict(job.result or {})
        return jobs.wait(
            lambda: self._poll(job.job_id), job, check=check, stall_s=stall_s, cloud=self.name
        )

    def run(
        self,
        command: str,
        /,
        *,
        check: Callable[[], None] = jobs.nothing,
        stall_s: float = jobs.STALL_S,
        job_id: str = "",
        **params: Any,
    ) -> dict[str, Any]:
        """Begin a job, wait for its end and give its result."""
        job = self.start(command, job_id=job_id, **params)
        return self.wait(job, check=check, stall_s=stall_s)

    def _poll(self, job_id: str) -> dict[str, Any]:
        return self._ask(
            "queryAsyncJobResult", {"jobid": job_id}, patience_s=0.0, silent_s=_POLL_SILENT_S
        )

    def _found(
        self, command: str, params: dict[str, Any], ours: str, lost: refusals.Lost
    ) -> dict[str, Any]:
        """Find what became of a request whose reply was lost, by the id that we gave its job."""
        for attempt in range(_LOOKS):
            try:
                self._ask("queryAsyncJobResult", {"jobid": ours}, patience_s=self._patience_s)
            except NotFound:
                clock.sleep(0.3 * 2**attempt)
            else:
                _LOG.info("%s: the reply to %s was lost, its job was found", self.name, command)
                return {"jobid": ours}
        if not self._keeps_job_ids:
            # Either it was not carried out, or its job has another id.
            raise _unknown_fate(lost) from None
        return self._sent_again(command, params, ours)

    def _sent_again(self, command: str, params: dict[str, Any], ours: str) -> dict[str, Any]:
        """Send what never arrived.  If it does after all, its job's id is taken, and refused."""
        try:
            return self._ask(command, params, patience_s=self._patience_s)
        except SendenseError as error:
            try:
                self._ask("queryAsyncJobResult", {"jobid": ours}, patience_s=self._patience_s)
            except NotFound:
                raise error from None
            return {"jobid": ours}

    # --- One request

    def _ask(
        self,
        command: str,
        params: dict[str, Any],
        *,
        patience_s: float,
        silent_s: float | None = None,
    ) -> dict[str, Any]:
        """Ask until there is an answer, an error that stays, or no patience left."""
        end = clock.monotonic() + patience_s
        pause, inner = _FIRST_PAUSE_S, 0
        while True:
            try:
                found = self._once(command, params, silent_s)
            except Unavailable as error:
                problem: SendenseError = error
                again = reads(command) or not isinstance(error, refusals.Lost)
                again = again and not (error.data.get("too_large") or error.data.get("untrusted"))
            else:
                if not isinstance(found, Refused):
                    return found
                problem = self._refusal(command, found)
                inner += found.code == 530
                again = found.code in refusals.AGAIN or (
                    found.code == 530 and inner == 1 and reads(command)
                )
            if not again or clock.monotonic() + pause > end:
                raise problem from None
            _LOG.info("%s; again in %.1f s", problem.message, pause)
            clock.sleep(pause * random.uniform(0.75, 1.0))  # noqa: S311 - spreads callers
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def _once(
        self, command: str, params: dict[str, Any], silent_s: float | None = None
    ) -> dict[str, Any] | Refused:
        """Ask once; or twice, where the first answer shows that our clock was wrong for it."""
        before = self.skew_s
        found = self._send(command, params, silent_s)
        off = abs(self.skew_s - before) > SKEW_S
        if isinstance(found, Refused) and found.code == 401 and off:
            found = self._send(command, params, silent_s)
        return found

    def _send(
        self, command: str, params: dict[str, Any], silent_s: float | None
    ) -> dict[str, Any] | Refused:
        try:
            reply = self._wire.post(self._form(command, params), silent_s=silent_s)
        except NotSent as error:
            away = refusals.no_answer(command, str(error), cloud=self.name, sent=False)
            if isinstance(error, Untrusted):
                away.hint = "give the certificate of its authority with the cloud"
                away.data["untrusted"] = True
            raise away from None
        except BrokenOff as error:
            lost = refusals.no_answer(command, str(error), cloud=self.name)
            lost.data["too_large"] = isinstance(error, TooLarge)
            raise lost from None
        self._believe(reply.skew_s)
        try:
            return answers.read(reply.status, reply.body, reply.description)
        except Nonsense as error:
            raise refusals.no_answer(command, str(error), cloud=self.name) from None

    def _form(self, command: str, params: dict[str, Any]) -> dict[str, str]:
        """Give what is sent, with what proves who asks."""
        now = clock.now() + timedelta(seconds=self.skew_s)
        return signing.signed(command, params, self._api_key, self._secret, now=now)

    def _believe(self, skew_s: float | None) -> None:
        """Take the cloud's clock over, unless it is no clock: a proxy wrote any date."""
        if skew_s is None:
            return
        self._no_clock = abs(skew_s) > ABSURD_S
        if not self._no_clock:
            self.skew_s = skew_s

    def _refusal(self, command: str, refused: Refused) -> SendenseError:
        if refused.code == 401:
            return self._explained(command, refused)
        return refusals.refusal(command, refused, cloud=self.name)

    def _explained(self, command: str, refused: Refused) -> SendenseError:
        """Tell why a 401 came, by asking with the same key for what every version has."""
        probe: dict[str, Any] | Refused = refused
        if command != "listCapabilities":
            try:
                probe = self._once("listCapabilities", {})
            except Unavailable as error:
                return error
        if not isinstance(probe, Refused) or probe.code == 432:
            # 432 comes from the check of roles, which is behind the one of keys.
            return refusals.unknown_command(command, cloud=self.name)
        return refusals.not_known_to_it(command, refused.text, skew_s=self.skew_s, cloud=self.name)


def reads(command: str) -> bool:
    """Tell whether a command changes nothing.  Not ``get``: some of those make something."""
    return command.startswith(("list", "query"))


def _unknown_fate(lost: refusals.Lost) -> refusals.Lost:
    lost.hint = "look in CloudStack whether it was carried out before you do it again"
    return lost
