"""A host that an agent speaks for, as a backup sees it.

It is the :class:`~sendense.workflows.sources.SourceHost` of another machine: the same plan is
made here from the agent's survey, the decisions travel in a ticket, and the exports come back as
gates.  The agent holds the machine, begins and ends the capture, and takes it back where nobody
asks for it any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from sendense import clock
from sendense.capture.session import CaptureSession, Moment
from sendense.errors import (
    Cancelled,
    NotFound,
    Rejected,
    SendenseError,
    SourceChanged,
    Stalled,
    Unavailable,
)
from sendense.fleet.address import AgentAddress
from sendense.fleet.agent_client import AgentClient, CaptureWork
from sendense.fleet.problems import raised
from sendense.model.agent_status import CaptureStatus, GateExport, WorkState
from sendense.model.expectation import expected_disk, first_change, named_disk
from sendense.model.export import DiskExport, Gate
from sendense.model.machine import Machine
from sendense.model.plan import CapturePlan
from sendense.model.secret import Secret
from sendense.model.survey import Survey
from sendense.model.ticket import NO_LIMITS, CaptureOrder, Limits

log = logging.getLogger(__name__)

_POLL_S = 1.0
_MOST_COMMITTED = 50
"""Points that a ticket names: an agent that was away longer knows of none of the older ones."""
_PATIENCE_S = 60.0
"""For an agent or a tunnel that is being restarted while a capture runs or ends."""


class Purpose(Protocol):
    """What of a capture's purpose an agent is told; see ``sendense.workflows.sources``."""

    @property
    def committed(self) -> tuple[str, ...]:
        """Give the machine's points that are stored, oldest first."""


@dataclass(frozen=True)
class CaptureTerms:
    """What a run tells the agent of itself."""

    id: str
    """Of the work on the agent: the same for every try to settle it."""
    job: str = ""
    limits: Limits = NO_LIMITS
    planned: Callable[[CapturePlan], None] = lambda plan: None
    """Told of the plan right before the agent is: what a later try settles this one by."""
    waiting: Callable[[str | None], None] = lambda reason: None
    """Told why the capture is queued; may raise to give up."""
    check: Callable[[], None] = lambda: None
    """Asked often while the capture is read, and right before its point; raises to give up."""
    confirm: Callable[[], None] = lambda: None
    """Asked once, when all is read and right before the point; raises to give up."""


class RemoteHost:
    """One agent's host; a ``SourceHost``."""

    def __init__(
        self, client: AgentClient, terms: CaptureTerms, *, domain_xml: str | None = None
    ) -> None:
        """Speak through ``client``.

        ``domain_xml`` is of a machine that is off, which libvirt may have forgotten; where it has
        not, what libvirt knows counts.
        """
        self._client = client
        self._terms = terms
        self._domain_xml = domain_xml
        self.versions = ""

    @property
    def name(self) -> str:
        """Give the host's name."""
        return self._client.address.name

    def machine(self, uuid: str) -> Machine:
        """Give one machine of the host, or the one that is brought."""
        try:
            return self._client.machine(uuid)
        except NotFound:
            if self._domain_xml is None:
                raise
            given = self._client.survey_of(self._domain_xml).machine
        if given.uuid != uuid:
            raise Rejected(f"the domain XML is of {given.name} ({given.uuid}), and not of {uuid}")
        return given

    def survey(self, machine: Machine) -> Survey:
        """Look at a machine's disks."""
        try:
            return self._client.survey(machine.uuid)
        except NotFound:
            if self._domain_xml is None:
                raise
            return self._client.survey_of(self._domain_xml)

    @contextmanager
    def held(self, machine: Machine, operation: str) -> Iterator[RemoteMachine]:
        """Hold nothing: the agent holds the machine from the capture's beginning to its end."""
        log.debug("%s of %s on %s", operation, machine.name, self.name)
        yield RemoteMachine(self, self._client, self._terms, self._domain_xml)


class RemoteMachine:
    """A machine on an agent's host."""

    def __init__(
        self, host: RemoteHost, client: AgentClient, terms: CaptureTerms, domain_xml: str | None
    ) -> None:
        """Begin nothing yet."""
        self._host = host
        self._client = client
        self._terms = terms
        self._domain_xml = domain_xml
        self.repaired: tuple[str, ...] = ()

    def capture(self, plan: CapturePlan, purpose: Purpose) -> CaptureSession:
        """Give the capture that carries out a plan."""
        self._terms.planned(plan)
        order = order_of(plan, purpose.committed, self._terms.limits)
        order = replace(order, domain_xml=self._domain_xml)
        work = self._client.capture(order, id=self._terms.id, job=self._terms.job)
        return RemoteCapture(work, self._client.address, self._terms, plan, begun=self._begun)

    def _begun(self, status: CaptureStatus) -> None:
        self.repaired = status.repaired
        self._host.versions = status.versions


def order_of(plan: CapturePlan, committed: Sequence[str], limits: Limits) -> CaptureOrder:
    """Give a plan as an agent gets it: the decisions, not what they were made from."""
    return CaptureOrder(
        machine=plan.survey.machine.uuid,
        point_id=plan.point_id,
        disks=tuple(item.decision for item in plan.disks),
        consistency=plan.consistency,
        strict=plan.strict,
        granularity=plan.granularity,
        mountpoints=plan.mountpoints,
        committed=tuple(committed[-_MOST_COMMITTED:]),
        limits=limits,
        expected=tuple(expected_disk(item) for item in plan.survey.disks),
    )


class RemoteCapture:
    """A :class:`~sendense.capture.session.CaptureSession` on an agent's host."""

    moment: Moment
    exports: tuple[DiskExport, ...]
    domain_xml: str
    nvram: bytes | None

    def __init__(
        self,
        work: CaptureWork,
        address: AgentAddress,
        terms: CaptureTerms,
        plan: CapturePlan,
        *,
        begun: Callable[[CaptureStatus], None],
    ) -> None:
        """Begin when the block is entered."""
        self._work = work
        self._address = address
        self._terms = terms
        self._plan = plan
        self._begun = begun
        self._committed = False
        self._asked_at = 0.0
        self._answered_at = 0.0

    def __enter__(self) -> Self:
        """Begin, and wait until the exports are there: the host's limits may queue it."""
        try:
            self._take(self._await_ready())
        except BaseException:
            self._give_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Have it taken back, unless it was committed."""
        if not self._committed:
            self._give_up()

    def check(self) -> None:
        """Ask the agent about each second; raise what it found, or that it is gone for good."""
        self._terms.check()
        now = clock.monotonic()
        if now - self._asked_at < _POLL_S:
            return
        self._asked_at = now
        try:
            status = self._work.status()
        except Unavailable as error:
            # A tunnel that is being restored is no reason to read everything again.
            if now - self._answered_at >= _PATIENCE_S:
                raise
            log.warning("the agent on %s does not answer: %s", self._address.name, error)
            return
        self._answered_at = now
        if status.state is not WorkState.READY:
            raise _ended(status)

    def confirm(self) -> None:
        """Have the agent look once more; silence confirms nothing.

        A :meth:`check` may lean on an answer from before the last bytes were read: a machine that
        was started since would be stored torn.  The agent looks at its source anew for each
        status, so one that says *ready* now covers all that was read.
        """
        self._terms.check()
        status = self._patiently(self._work.status)
        self._asked_at = self._answered_at = clock.monotonic()
        if status.state is not WorkState.READY:
            raise _ended(status)
        self._terms.confirm()

    def commit(self, *, drop: Sequence[str]) -> tuple[str, ...]:
        """Tell the agent that the point is stored; what fails now is a warning."""
        self._committed = True
        try:
            status = self._patiently(lambda: self._work.commit(tuple(drop)))
            status = self._settled(status)
        except SendenseError as error:
            return (
                f"the agent on {self._address.name} was not told that the point is stored, and "
                f"learns it with the next capture: {error}",
            )
        return status.warnings[len(self.moment.warnings) :]

    # --- inside ---

    def _await_ready(self) -> CaptureStatus:
        status = self._patiently(self._work.begin)
        while status.state in (WorkState.QUEUED, WorkState.STARTING):
            self._terms.waiting(status.waiting_for)
            clock.sleep(_POLL_S if status.state is WorkState.QUEUED else 0.2)
            status = self._patiently(self._work.status)
        if status.state is not WorkState.READY:
            raise _ended(status)
        return status

    def _take(self, status: CaptureStatus) -> None:
        """Take what was captured, if it is what was planned."""
        if status.taken_at is None or status.consistency is None or status.machine is None:
            raise Unavailable(
                f"the agent on {self._address.name} does not say what it captured, and when"
            )
        self._ensure_planned(status.machine, status.exports)
        self._begun(status)
        self.moment = Moment(status.taken_at, status.consistency, status.frozen_s, status.warnings)
        self.exports = tuple(export_of(item, self._address) for item in status.exports)
        self.domain_xml = status.domain_xml
        self.nvram = status.nvram
        self._answered_at = self._asked_at = clock.monotonic()

    def _ensure_planned(self, found: Machine, exports: Sequence[GateExport]) -> None:
        """Refuse disks that were swapped or added while the capture was queued.

        The agent does so too, by ``CaptureOrder.expected``, and before it touches the guest; one
        that is older than that field does not.
        """
        planned = self._plan.survey.machine.disks
        change = first_change(map(named_disk, planned), map(named_disk, found.disks))
        if change is not None:
            raise SourceChanged(
                f"since the capture of {found.name} was planned, {change}",
                hint="run the backup again; it plans anew",
            )
        # They are read side by side, each as the disk that was planned at its place.
        if [item.target for item in exports] != [item.target for item in self._plan.disks]:
            raise Unavailable(
                f"the agent on {self._address.name} serves other disks than it was asked for"
            )

    def _settled(self, status: CaptureStatus) -> CaptureStatus:
        deadline = clock.monotonic() + _PATIENCE_S
        while status.state in (WorkState.READY, WorkState.ENDING, WorkState.PARKED):
            if clock.monotonic() >= deadline:
                raise Stalled(f"the agent on {self._address.name} does not end the capture")
            clock.sleep(0.2)
            status = self._patiently(self._work.status)
        if status.error is not None:
            raise raised(status.error, self._address.name)
        return status

    def _give_up(self) -> None:
        """Have it taken back; where the agent cannot be told, it does so by itself."""
        try:
            self._work.abort()
        except SendenseError as error:
            log.warning(
                "the agent on %s was not told to take the capture back, and does so when nobody "
                "asks for it: %s",
                self._address.name,
                error,
            )

    def _patiently(self, call: Callable[[], CaptureStatus]) -> CaptureStatus:
        deadline = clock.monotonic() + _PATIENCE_S
        while True:
            try:
                return call()
            except Unavailable as error:
                if clock.monotonic() >= deadline:
                    raise
                log.warning("the agent on %s does not answer: %s", self._address.name, error)
                self._terms.waiting(f"the agent does not answer: {error}")
                clock.sleep(_POLL_S)


def export_of(item: GateExport, address: AgentAddress) -> DiskExport:
    """Give an export of an agent as the transfer engine takes it."""
    if item.socket is not None:
        return DiskExport(item.target, item.socket, item.export, item.size, item.dirty_context)
    ways = address.data
    if item.port is not None:
        ways = ((address.direct or address.name, item.port),)
    gate = Gate(
        addresses=ways,
        name=item.name,
        secret=Secret(item.secret),
        certificates=address.certificates if item.port is not None else None,
        hostname=address.direct if item.port is not None else None,
    )
    return DiskExport(
        target=item.target,
        socket="",
        name=item.export,
        size=item.size,
        dirty_context=item.dirty_context,
        gate=gate,
    )


def _ended(status: CaptureStatus) -> SendenseError:
    """Say why a capture is not there any more."""
    if status.error is not None:
        return raised(status.error, status.host)
    if status.state is WorkState.ABORTED:
        return Cancelled("the capture was aborted on its host")
    if status.state is WorkState.PARKED:
        return SourceChanged(
            "the agent gave the guest free: nobody had asked for the capture for too long",
            hint="run the backup again; look at the tunnel of the host",
        )
    return Unavailable(f"the capture is {status.state.value} and cannot be read")
