"""A capture that a ticket ordered, from the claim on the machine to its verdict.

The order that never loses data is the one of solo mode, with the repository on another
machine::

    claim -> settle what a dead run left -> look -> do the decisions hold? -> begin (frozen) -> thaw
    -> ready: the worker reads and stores -> commit(drop) | abort | nobody asks: parked

Whatever goes wrong before the commit takes everything back, and the older checkpoint stays.
Each state is in the ledger before it can be acted on: *ready* before the first byte can be
read, the verdict before it is carried out.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Optional

from sendense import steps
from sendense.agent.admission import Claim
from sendense.agent.exports import OpenExports
from sendense.agent.given import ensure_in_pools
from sendense.agent.ledger import Intent, Record
from sendense.agent.leftovers import settle_before
from sendense.agent.marks import half_restored
from sendense.agent.orders import ensure_capture_order, plan_of
from sendense.agent.work import Means, Verdict, Work, agent_error
from sendense.capture.journal import JournalEntry, claim
from sendense.capture.session import HostCapture
from sendense.errors import NotFound, Rejected, SendenseError
from sendense.model.agent_status import CaptureStatus, GateExport, WorkState
from sendense.model.machine import Machine
from sendense.model.plan import CapturePlan
from sendense.model.ticket import CaptureOrder, Ticket

log = logging.getLogger(__name__)


class _GivenUp(Exception):
    """The capture is taken back on request."""


def capture_claim(ticket: Ticket, order: CaptureOrder) -> Claim:
    """Give what a capture takes of the host."""
    return Claim(ticket.id, exports=len(order.disks), machine=order.machine)


class CaptureWork(Work):
    """One capture."""

    kind = "capture"

    def __init__(self, ticket: Ticket, order: CaptureOrder, means: Means) -> None:
        """Refuse an order that makes no sense; begin nothing yet."""
        ensure_capture_order(order)
        super().__init__(ticket, capture_claim(ticket, order), means)
        self._order = order
        self._status = CaptureStatus(ticket.id, WorkState.QUEUED)

    @property
    def state(self) -> WorkState:
        """Give the state."""
        return self._status.state

    def status(self) -> CaptureStatus:
        """Give all that is known of it."""
        with self._turn:
            return self._status

    def record(self) -> Record:
        """Give what the ledger keeps of it."""
        with self._turn:
            return self._record(self._status)

    def hold(self, reason: str) -> None:
        """Say why it waits."""
        with self._turn:
            self._status = replace(self._status, waiting_for=reason)

    # -- inside ----------------------------------------------------------------------

    def _watched(self) -> bool:
        """Stay watched after a verdict too, until the state tells of it.

        Nobody looks any more from the verdict on, so a status must not say *ready* then: it may
        be the one that a point is committed on.
        """
        return self.state is WorkState.READY and not self.over

    def _carry_out(self) -> None:
        self._change(state=WorkState.STARTING, waiting_for=None)
        settings = self._means.host.settings
        order = self._order
        entry = claim(
            Path(settings.state_dir),
            order.machine,
            operation=f"capture of {order.machine}",
            wait_s=settings.lock_wait_s,
        )
        try:
            self._capture(entry)
        except _GivenUp:
            self._ended(self._given_up_as, self._reason)
        finally:
            self._means.host.forget(order.machine)
            entry.release()

    @property
    def _given_up_as(self) -> WorkState:
        return WorkState.ABORTED if self._reason is None else WorkState.FAILED

    def _capture(self, entry: JournalEntry) -> None:
        means, order = self._means, self._order
        repaired = settle_before(entry, order.committed, means)
        machine = self._find()
        survey = means.host.survey(machine)
        plan = plan_of(order, survey, granularity=means.settings().dirty_bitmap.granularity)
        self._change(repaired=repaired)
        self._obey()
        entry.about(work=self.id, point=plan.point_id, machine=machine.uuid, name=machine.name)
        log.info("capturing %s: %d disks", machine.name, len(plan.disks))
        with means.host.capture(plan, entry) as session:
            verdict = self._serve(plan, session)
            steps.reached("verdict-come")
            if verdict is Verdict.ABORT:
                self._change(state=WorkState.ENDING, intent=Intent.ABORT, exports=())
                raise _GivenUp
            self._close_well(session, verdict)

    def _find(self) -> Machine:
        """Give the machine; one that libvirt does not keep comes with the order."""
        host, order = self._means.host, self._order
        try:
            return host.find(order.machine)
        except NotFound:
            if order.domain_xml is None:
                raise
        machine = host.from_text(order.domain_xml, source="the ticket's domain XML")
        if machine.uuid != order.machine:
            raise Rejected("the ticket's domain XML is of another machine")
        wanted = [decision.target for decision in order.disks]
        settings = self._means.settings()
        ensure_in_pools(machine, settings, source="the ticket's domain XML", only=wanted)
        return machine

    def _serve(self, plan: CapturePlan, session: HostCapture) -> Verdict:
        """Let workers read until somebody decides."""
        status = self._described(plan, session)
        # Durable first: once a byte can be read, a restarted agent must keep the checkpoint.
        self._means.ledger.put(self._record(status))
        steps.reached("capture-recorded")
        with OpenExports(self.id, self._means, self._order.limits) as exports:
            opened = exports.open(session.exports)
            self._show(status, opened)
            self.touch()
            log.info("ready")
            steps.reached("capture-ready")
            return self._await_verdict(session.check)

    def _described(self, plan: CapturePlan, session: HostCapture) -> CaptureStatus:
        machine, moment, host = plan.survey.machine, session.moment, self._means.host
        if moment.frozen_s is not None:
            self._means.metrics.count("sendense_agent_freezes_total")
            self._means.metrics.count("sendense_agent_frozen_seconds_total", moment.frozen_s)
        warnings = [*moment.warnings]
        if machine.tpm:
            warnings.append("the state of its TPM is not part of the point")
        targets = {disk.path: disk.target for disk in machine.disks}
        warnings.extend(
            f"disk {targets[path]} was being restored, which did not complete: this point holds "
            "what was left"
            for path in half_restored(self._means.settings().state_dir)
            if path in targets
        )
        return replace(
            self._status,
            state=WorkState.READY,
            machine=machine,
            taken_at=moment.taken_at,
            consistency=moment.consistency,
            frozen_s=moment.frozen_s,
            warnings=tuple(warnings),
            domain_xml=session.domain_xml,
            nvram=session.nvram,
            host=host.name,
            versions=host.versions,
        )

    def _show(self, status: CaptureStatus, exports: tuple[GateExport, ...]) -> None:
        with self._turn:
            self._status = replace(status, exports=exports)
            self._turn.notify_all()

    def _close_well(self, session: HostCapture, verdict: Verdict) -> None:
        if verdict is Verdict.PARK:
            self._change(state=WorkState.ENDING, exports=())
            warnings = session.park()
            self._change(state=WorkState.PARKED, more=warnings)
            log.info(
                "parked: both checkpoints stay until somebody says whether its point is stored"
            )
            return
        # Before anything is done: a restarted agent goes on with it.
        intent = replace(self.record(), intent=Intent.COMMIT, drop=self._drop)
        self._means.ledger.put(intent)
        steps.reached("commit-intended")
        self._change(state=WorkState.ENDING, intent=Intent.COMMIT, exports=())
        warnings = session.commit(drop=self._drop)
        self._change(state=WorkState.COMMITTED, intent=Intent.COMMIT, more=warnings)
        log.info("committed")

    def _obey(self) -> None:
        """End before the guest was touched, if that was decided meanwhile."""
        with self._turn:
            if self._verdict is not None:
                raise _GivenUp

    def _failed(self, error: SendenseError) -> None:
        if self._verdict is Verdict.COMMIT and self.state is WorkState.ENDING:
            # The point is stored: what failed is only the clearing up, which may be repeated.
            self._change(state=WorkState.PARKED, more=(str(error),), intent=Intent.COMMIT)
            return
        super()._failed(error)

    def _ended(self, state: WorkState, error: Optional[SendenseError]) -> None:
        with self._turn:
            self._status = replace(
                self._status, state=state, waiting_for=None, exports=(), error=agent_error(error)
            )
            record = self._record(self._status)
        self._remember(record)
        log.info("capture %s is %s", self.id, state.value)

    def _change(
        self, *, intent: Intent = Intent.NONE, more: tuple[str, ...] = (), **changes: object
    ) -> None:
        with self._turn:
            warnings = (*self._status.warnings, *more)
            self._status = replace(self._status, warnings=warnings, **changes)  # type: ignore[arg-type]
            record = replace(self._record(self._status), intent=intent, drop=self._drop)
            self._turn.notify_all()
        self._remember(record)

    def _remember(self, record: Record) -> None:
        try:
            self._means.ledger.put(record)
        except OSError as error:
            # What is on the host is in the journal as well; the work must go on to its end.
            log.error("the ledger cannot be written: %s", error)  # noqa: TRY400

    def _record(self, status: CaptureStatus) -> Record:
        return Record(
            id=self.id,
            action=self.ticket.action,
            expires_at=self.ticket.expires_at,
            state=status.state,
            machine=self._order.machine,
            capture=status,
        )
