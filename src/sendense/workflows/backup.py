"""Backup: one machine, one moment, into a repository.

The order never loses data::

    claim the machine -> take back what a dead run left -> look -> decide -> plan
    -> begin (frozen) -> thaw -> read and store -> commit the point -> drop the old checkpoint

and a failure anywhere leaves the older checkpoint, so that the next run is
incremental from it, and complete.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sendense import clock, steps
from sendense.capture.session import CaptureSession
from sendense.errors import Rejected, SendenseError, StrictWarning
from sendense.model.decision import Mode
from sendense.model.machine import Machine, PowerState
from sendense.model.plan import CapturePlan
from sendense.model.point import DiskImage, RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.repository.protocol import PointDraft, PointWriter, Repository
from sendense.settings import Settings
from sendense.shield import shielded
from sendense.targets.marks import half_restored
from sendense.units import format_size
from sendense.workflows.copying import CopyRun
from sendense.workflows.planning import BackupRequest, plan_backup, superseded
from sendense.workflows.sources import HeldMachine, Purpose, SourceHost

log = logging.getLogger(__name__)


DOMAIN_XML = "domain.xml"
NVRAM = "nvram.fd"
"""Attachments that a capture brings."""


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
        self,
        source: SourceHost,
        repository: Repository,
        settings: Settings,
        request: BackupRequest,
        *,
        attachments: Mapping[str, bytes] = MappingProxyType({}),
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Bring the parts together; nothing happens yet.

        ``attachments`` and ``warnings`` are stored with the point, beside those of the capture.
        """
        ensure_free_names(attachments)
        self._source = source
        self._repository = repository
        self._settings = settings
        self._request = request
        self._attachments = attachments
        self._warnings = warnings

    def plan(self, machine: Machine) -> CapturePlan:
        """Look at the machine and decide; changes nothing."""
        return self._plan(machine, self._repository.points(machine.uuid))

    def run(self, machine: Machine, *, listener: ProgressListener = silent) -> BackupResult:
        """Back the machine up; raises where no point was made, and takes everything back."""
        began = clock.monotonic()
        with self._source.held(machine, "backup") as held:
            points = self._repository.points(machine.uuid)
            plan = self._plan(machine, points)
            skip = self._reason_to_skip(plan)
            if skip is not None:
                return BackupResult(plan, None, skip, (), held.repaired)
            known = sorted(points, key=lambda point: point.sequence)
            purpose = Purpose(self._repository.location, tuple(point.id for point in known))
            point, late = self._capture(plan, held, purpose, listener=listener, began=began)
        warnings = (*point.warnings, *late)
        for warning in warnings:
            log.info("warning: %s", warning)
        if warnings and self._request.strict:
            raise StrictWarning(
                f"point {point.id} was made, with warnings: {'; '.join(warnings)}",
                hint="the point is kept; leave --strict out to accept warnings",
                point=point.id,
            )
        return BackupResult(plan, point, None, warnings, held.repaired)

    def _plan(self, machine: Machine, points: tuple[RecoveryPoint, ...]) -> CapturePlan:
        return plan_backup(self._source.survey(machine), points, self._request)

    def _reason_to_skip(self, plan: CapturePlan) -> str | None:
        least = self._request.least_bytes
        if plan.survey.machine.power is PowerState.STOPPED:
            return None  # nobody counts what the bitmap of an image that is off marks
        if plan.mode is Mode.INCREMENTAL and plan.estimated_bytes < least:
            changed = format_size(plan.estimated_bytes)
            return f"about {changed} changed, less than the {format_size(least)} asked for"
        return None

    def _capture(
        self,
        plan: CapturePlan,
        held: HeldMachine,
        purpose: Purpose,
        *,
        listener: ProgressListener,
        began: float,
    ) -> tuple[RecoveryPoint, tuple[str, ...]]:
        """Capture, store and commit; in that order, or not at all."""
        with (
            self._repository.begin(plan.survey.machine, plan.point_id) as writer,
            held.capture(plan, purpose) as session,
        ):
            copies = CopyRun(plan, session, self._repository, self._settings, listener)
            images, alarms = copies.run(writer)
            steps.reached("disks-stored")
            self._attach(writer, session)
            session.confirm()
            draft = self._draft(plan, session, images, alarms, began=began)
            # From here on the run only ends well: a signal must not part the point from its
            # checkpoint, which the next incremental starts from.
            with shielded():
                point = writer.commit(draft)
                steps.reached("point-committed")
                late = self._end(session, plan)
        return point, late

    def _end(self, session: CaptureSession, plan: CapturePlan) -> tuple[str, ...]:
        """End the capture of a point that is committed: what fails now is a warning."""
        try:
            drop = superseded(self._repository.points(plan.survey.machine.uuid))
        except (SendenseError, OSError) as error:
            late = f"superseded checkpoints stay for now: the points cannot be listed: {error}"
            return (late, *session.commit(drop=()))
        return session.commit(drop=drop)

    def _attach(self, writer: PointWriter, session: CaptureSession) -> None:
        if session.domain_xml:
            writer.attach(DOMAIN_XML, session.domain_xml.encode())
        if session.nvram is not None:
            writer.attach(NVRAM, session.nvram)
        for name, content in self._attachments.items():
            writer.attach(name, content)

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
        warnings = [*self._warnings, *session.moment.warnings, *alarms]
        if machine.tpm:
            warnings.append("the state of its TPM is not part of the point")
        warnings.extend(self._half_restored(machine))
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
            host=self._source.name,
            versions=self._source.versions,
        )

    def _half_restored(self, machine: Machine) -> list[str]:
        """Name the disks that an interrupted restore left neither old nor new."""
        paths = {disk.path: disk.target for disk in machine.disks}
        return [
            f"disk {paths[mark.path]} was being restored from {mark.point}, which did not "
            "complete: this point holds what was left"
            for mark in half_restored(self._settings.state_dir)
            if mark.path in paths
        ]


def ensure_free_names(names: Iterable[str]) -> None:
    """Refuse further attachments under names that a capture's own have, before anything begins."""
    for name in names:
        if name in (DOMAIN_XML, NVRAM):
            raise Rejected(f"the attachment {name} comes from the machine, and from nobody else")
