"""The requests that the agent answers, one function each, and the ticket that each needs.

``docs/agent-api.md`` is the contract.  Nothing here knows of sockets: a request is a value, an
answer is one.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from sendense.agent.captures import CaptureWork
from sendense.agent.events import EventLog
from sendense.agent.given import survey_given
from sendense.agent.heartbeat import HeartbeatSource
from sendense.agent.ledger import Record
from sendense.agent.leftovers import abort_parked, commit_parked
from sendense.agent.orders import ensure_uuid
from sendense.agent.releases import Releases
from sendense.agent.restores import RestoreWork
from sendense.agent.tickets import TicketDesk
from sendense.agent.work import Means, Verdict, Work
from sendense.agent.works import Works
from sendense.errors import Busy, NotFound, Rejected, SendenseError
from sendense.model.agent_status import CaptureStatus, RestoreStatus, WorkState
from sendense.model.survey import is_own
from sendense.model.ticket import Action, Ticket

EVENTS_WAIT_MOST_S = 30.0
_DROP_MOST = 1000


@dataclass(frozen=True)
class Request:
    """One request, as far as it is read."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    ticket: Optional[str] = None
    """The header ``Authorization``."""
    date: Optional[str] = None
    """The header ``Date``: what time it is where the request comes from."""
    body: Any = None


@dataclass(frozen=True)
class Answer:
    """What is sent back: a value of the domain, JSON values, or a text."""

    content: Any
    status: int = 200


Handler = Callable[[Request, str], Answer]


@dataclass(frozen=True)
class Route:
    """One line of the contract."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler


class AgentApi:
    """The API of one agent."""

    def __init__(
        self,
        desk: TicketDesk,
        works: Works,
        means: Means,
        heartbeat: HeartbeatSource,
        events: EventLog,
    ) -> None:
        """Bring the parts together."""
        self._desk = desk
        self._works = works
        self._means = means
        self._heartbeat = heartbeat
        self._events = events
        self._releases = Releases(means)
        self._beginning = threading.Lock()
        one = "/([A-Za-z0-9_-]{1,64})"
        self._routes = tuple(
            Route(method, re.compile(pattern), handler)
            for method, pattern, handler in (
                ("GET", "/v1/heartbeat", self._get_heartbeat),
                ("GET", "/v1/machines", self._get_machines),
                ("GET", f"/v1/machines{one}", self._get_machine),
                ("GET", f"/v1/machines{one}/survey", self._get_survey),
                ("POST", "/v1/surveys", self._survey_given),
                ("GET", "/v1/events", self._get_events),
                ("GET", "/metrics", self._get_metrics),
                ("POST", "/v1/captures", self._begin_capture),
                ("GET", f"/v1/captures{one}", self._get_capture),
                ("POST", f"/v1/captures{one}/commit", self._commit_capture),
                ("DELETE", f"/v1/captures{one}", self._abort_capture),
                ("POST", "/v1/restores", self._begin_restore),
                ("GET", f"/v1/restores{one}", self._get_restore),
                ("POST", f"/v1/restores{one}/finish", self._finish_restore),
                ("DELETE", f"/v1/restores{one}", self._abort_restore),
                ("POST", "/v1/releases", self._release),
            )
        )

    def answer(self, request: Request) -> Answer:
        """Answer a request, or raise why not."""
        allowed = []
        for route in self._routes:
            match = route.pattern.fullmatch(request.path)
            if match is None:
                continue
            if route.method == request.method:
                name = match.group(1) if match.groups() else ""
                return route.handler(request, name)
            allowed.append(route.method)
        if allowed:
            raise MethodNotKnown(allowed)
        raise NotFound(f"there is no {request.path[:200]} here")

    # -- looking ---------------------------------------------------------------------

    def _get_heartbeat(self, request: Request, _name: str) -> Answer:
        self._desk.to_look(request.ticket)
        self._heartbeat.clock.told(request.date)
        return Answer(self._heartbeat.beat())

    def _get_machines(self, request: Request, _name: str) -> Answer:
        self._desk.to_look(request.ticket)
        return Answer(self._means.host.machines())

    def _get_machine(self, request: Request, name: str) -> Answer:
        self._desk.to_look(request.ticket)
        ensure_uuid(name)
        return Answer(self._means.host.find(name))

    def _get_survey(self, request: Request, name: str) -> Answer:
        self._desk.to_look(request.ticket)
        ensure_uuid(name)
        host = self._means.host
        return Answer(host.survey(host.find(name)))

    def _survey_given(self, request: Request, _name: str) -> Answer:
        self._desk.to_look(request.ticket)
        means = self._means
        return Answer(survey_given(means.host, _xml_of(request.body), means.settings()))

    def _get_events(self, request: Request, _name: str) -> Answer:
        self._desk.to_look(request.ticket)
        after = int(_number(request, "after", 0))
        wait_s = min(_number(request, "wait_s", 0), EVENTS_WAIT_MOST_S)
        return Answer(self._events.after(after, wait_s=wait_s))

    def _get_metrics(self, request: Request, _name: str) -> Answer:
        self._desk.to_look(request.ticket)
        self._heartbeat.measure()
        return Answer(self._means.metrics.render())

    # -- captures --------------------------------------------------------------------

    def _begin_capture(self, request: Request, _name: str) -> Answer:
        ticket = self._desk.to_act(request.ticket, Action.CAPTURE)
        order = ticket.capture
        assert order is not None  # noqa: S101 - a ticket without one does not pass the check
        return self._begin(ticket, lambda: CaptureWork(ticket, order, self._means))

    def _get_capture(self, request: Request, name: str) -> Answer:
        self._desk.to_follow(request.ticket, Action.CAPTURE, name)
        return Answer(self._status(name))

    def _commit_capture(self, request: Request, name: str) -> Answer:
        self._desk.to_follow(request.ticket, Action.CAPTURE, name)
        drop = _drop_of(request.body)
        work = self._works.get(name)
        if work is not None:
            _ensure_begun(work)
            work.touch()
            work.decide(Verdict.COMMIT, drop=drop)
        record = self._settled(name)
        if record is not None and record.state is WorkState.PARKED:
            commit_parked(record, drop, self._means)
        return Answer(self._status(name))

    def _abort_capture(self, request: Request, name: str) -> Answer:
        self._desk.to_follow(request.ticket, Action.CAPTURE, name)
        work = self._works.get(name)
        if work is not None:
            self._works.abort(work)
        record = self._settled(name)
        if record is not None and record.state is WorkState.PARKED:
            abort_parked(record, self._means)
        return Answer(self._status(name))

    # -- restores --------------------------------------------------------------------

    def _begin_restore(self, request: Request, _name: str) -> Answer:
        ticket = self._desk.to_act(request.ticket, Action.RESTORE)
        order = ticket.restore
        assert order is not None  # noqa: S101 - a ticket without one does not pass the check
        return self._begin(ticket, lambda: RestoreWork(ticket, order, self._means))

    def _get_restore(self, request: Request, name: str) -> Answer:
        self._desk.to_follow(request.ticket, Action.RESTORE, name)
        return Answer(self._status(name))

    def _finish_restore(self, request: Request, name: str) -> Answer:
        self._desk.to_follow(request.ticket, Action.RESTORE, name)
        work = self._works.get(name)
        if work is not None:
            _ensure_begun(work)
            work.touch()
            work.decide(Verdict.COMMIT)
        return Answer(self._status(name))

    def _abort_restore(self, request: Request, name: str) -> Answer:
        self._desk.to_follow(request.ticket, Action.RESTORE, name)
        work = self._works.get(name)
        if work is not None:
            self._works.abort(work)
        return Answer(self._status(name))

    # -- releases --------------------------------------------------------------------

    def _release(self, request: Request, _name: str) -> Answer:
        ticket = self._desk.to_act(request.ticket, Action.RELEASE)
        with self._beginning:
            known = self._means.ledger.get(ticket.id)
            if known is None:
                self._desk.ensure_fresh(ticket)
        removed = self._releases.release(ticket, known)
        return Answer({"removed": list(removed)})

    # -- all work --------------------------------------------------------------------

    def _begin(self, ticket: Ticket, make: Callable[[], Any]) -> Answer:
        """Begin the work of a ticket once; give its status whenever it is sent again."""
        with self._beginning:
            if self._works.get(ticket.id) is None and self._means.ledger.get(ticket.id) is None:
                self._desk.ensure_fresh(ticket)
                work = make()
                if not self._means.ledger.use(work.record()):
                    raise Rejected("the ticket was used, and its record cannot be read any more")
                try:
                    self._works.submit(work)
                except SendenseError as error:
                    work.give_up_waiting(error)
                    raise
        return Answer(self._status(ticket.id), status=202)

    def _status(self, name: str) -> Any:
        work = self._works.get(name)
        if isinstance(work, (CaptureWork, RestoreWork)):
            work.touch()
            work.look()
            return work.status()
        record = self._means.ledger.get(name)
        if record is None:
            raise NotFound("the ticket began nothing here")
        if record.action is Action.CAPTURE:
            return record.capture or CaptureStatus(record.id, record.state)
        return record.restore or RestoreStatus(record.id, record.state)

    def _settled(self, name: str) -> Optional[Record]:
        """Give the record of a work that is over."""
        return self._means.ledger.get(name) if self._works.get(name) is None else None


class MethodNotKnown(Rejected):
    """The path is known, and not with this method."""

    def __init__(self, allowed: list[str]) -> None:
        """Name the methods that are."""
        super().__init__(f"this method is not known here, but {', '.join(sorted(set(allowed)))}")
        self.allowed = tuple(sorted(set(allowed)))


def _ensure_begun(work: Work) -> None:
    if work.state in (WorkState.QUEUED, WorkState.STARTING):
        raise Busy(f"the work is {work.state.value}: there is nothing to complete yet")


def _drop_of(body: Any) -> tuple[str, ...]:
    found = body.get("drop", []) if isinstance(body, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise Rejected('the body is not {"drop": [checkpoint, ...]}')
    if len(found) > _DROP_MOST:
        raise Rejected(f"more than {_DROP_MOST} checkpoints to drop")
    foreign = [item for item in found if not is_own(item)]
    if foreign:
        raise Rejected(f"the checkpoint {foreign[0][:80]!r} is not ours to drop")
    return tuple(found)


def _xml_of(body: Any) -> str:
    found = body.get("domain_xml") if isinstance(body, dict) else None
    if not isinstance(found, str) or not found:
        raise Rejected('the body is not {"domain_xml": "<domain ..."}')
    return found


def _number(request: Request, name: str, default: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 2**53:
        raise Rejected(f"{name}={text[:40]!r} is no number")
    return found
