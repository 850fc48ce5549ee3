"""Backup: one machine, one moment, into a repository.

The order never loses data::

    claim the machine -> take back what a dead run left -> look -> decide -> plan
    -> begin (frozen) -> thaw -> read and store -> commit the point -> drop the old checkpoint

and a failure anywhere leaves the older checkpoint, so that the next run is
incremental from it, and complete.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from sendense import clock, steps
from sendense.capture.host import Host
from sendense.capture.journal import Facts, JournalEntry, claim
from sendense.capture.reaper import reap
from sendense.capture.session import CaptureSession
from sendense.errors import NotFound, StrictWarning
from sendense.model.decision import Mode
from sendense.model.machine import Machine
from sendense.model.plan import CapturePlan
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.repository.opening import open_repository
from sendense.repository.protocol import PointDraft, PointWriter, Repository
from sendense.settings import Settings
from sendense.workflows.copying import CopyRun
from sendense.workflows.planning import BackupRequest, plan_backup, superseded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackupResult:
    """What a backup did."""

    plan: CapturePlan
    point: RecoveryPoint | None
    """None where the run was skipped."""
    skipped: str | None
    warnings: tuple[str, ...]
    repaired: tuple[str, ...]
    """What a dead run had left, and was taken back first."""


class Backup:
    """One backup of one machine; :meth:`plan` looks, :meth:`run` does."""

    def __init__(
        self, host: Host, repository: Repository, settings: Settings, request: BackupRequest
    ) -> None:
        """Bring the parts together; nothing happens yet."""
        self._host = host
        self._repository = repository
        self._settings = settings
        self._request = request

    def plan(self, machine: Machine) -> CapturePlan:
        """Look at the machine and decide; changes nothing."""
        points = self._repository.points(machine.uuid)
        return plan_backup(self._host.survey(machine), points, self._request)

    def run(self, machine: Machine, *, listener: ProgressListener = silent) -> BackupResult:
        """Back the machine up; raises where no point was made, and takes everything back."""
        began = clock.monotonic()
        entry = claim(
            self._settings.state_dir,
            machine.uuid,
            operation=f"backup of {machine.name}",
            wait_s=self._host.settings.lock_wait_s,
        )
        try:
            repaired = reap_entry(entry, agent_timeout_s=self._settings.agent_timeout)
            plan = self.plan(machine)
            skip = self._reason_to_skip(plan)
            if skip is not None:
                return BackupResult(plan, None, skip, (), repaired)
            point, late = self._capture(plan, entry, listener, began=began)
        finally:
            entry.release()
        warnings = (*point.warnings, *late)
        for warning in warnings:
            log.info("warning: %s", warning)
        if warnings and self._request.strict:
            raise StrictWarning(
                f"point {point.id} was made, with warnings: {'; '.join(warnings)}",
                hint="the point is kept; leave --strict out to accept warnings",
                point=point.id,
            )
        return BackupResult(plan, point, None, warnings, repaired)

    def _reason_to_skip(self, plan: CapturePlan) -> str | None:
        least = self._request.least_bytes
        if plan.mode is Mode.INCREMENTAL and plan.estimated_bytes < least:
            return f"about {plan.estimated_bytes} bytes changed, fewer than the {least} asked for"
        return None

    def _capture(
        self,
        plan: CapturePlan,
        entry: JournalEntry,
        listener: ProgressListener,
        *,
        began: float,
    ) -> tuple[RecoveryPoint, tuple[str, ...]]:
        """Capture, store and commit; in that order, or not at all."""
        entry.about(
            repository=self._repository.location,
            point=plan.point_id,
            machine=plan.survey.machine.uuid,
            name=plan.survey.machine.name,
        )
        with (
            self._repository.begin(plan.survey.machine, plan.point_id) as writer,
            self._host.capture(plan, entry) as session,
        ):
            copies = CopyRun(plan, session, self._repository, self._settings, listener)
            images, alarms = copies.run(writer)
            steps.reached("disks-stored")
            self._attach(writer, session)
            session.check()
            draft = self._draft(plan, session, images, alarms, began=began)
            point = writer.commit(draft)
            steps.reached("point-committed")
            drop = superseded((*self._repository.points(plan.survey.machine.uuid),))
            late = session.commit(drop=drop)
        return point, late

    def _attach(self, writer: PointWriter, session: CaptureSession) -> None:
        writer.attach("domain.xml", session.domain_xml.encode())
        if session.nvram is not None:
            writer.attach("nvram.fd", session.nvram)

    def _draft(
        self,
        plan: CapturePlan,
        session: CaptureSession,
        images: tuple[DiskImage, ...],
        alarms: tuple[str, ...],
        *,
        began: float,
    ) -> PointDraft:
        machine = plan.survey.machine
        warnings = [*session.moment.warnings, *alarms]
        if machine.tpm:
            warnings.append("the state of its TPM is not part of the point")
        modes = {image.decision.mode for image in images}
        return PointDraft(
            machine=machine,
            taken_at=session.moment.taken_at,
            mode=Mode.INCREMENTAL if Mode.INCREMENTAL in modes else Mode.FULL,
            consistency=session.moment.consistency,
            checkpoint=plan.checkpoint if plan.tracked else None,
            frozen_s=session.moment.frozen_s,
            seconds=clock.monotonic() - began,
            warnings=tuple(warnings),
            host=self._host.name,
            versions=self._host.versions,
        )


def is_committed(facts: Facts) -> bool:
    """Tell whether the point of a dead run is in its repository."""
    location = facts.get("repository")
    if not location or not Path(location).exists():
        return False
    try:
        open_repository(location).point(facts["point"])
    except NotFound:
        return False
    return True


def reap_entry(entry: JournalEntry, *, agent_timeout_s: int) -> tuple[str, ...]:
    """Take back what a dead run left, as far as the claimed ``entry`` tells."""
    return reap(entry, is_committed=is_committed, agent_timeout_s=agent_timeout_s)
