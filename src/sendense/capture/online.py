"""Captures a running machine: one libvirt call freezes one moment of all its disks.

``virDomainBackupBegin`` in pull mode starts an NBD server inside QEMU that shows
the disks as they are *now*, and in the same transaction starts new bitmaps for
the next incremental (libvirt.md F1.1).  What the guest overwrites from then on
is first copied to a scratch file.  The capture ends by aborting the job, for a
good end as for a bad one; the difference is which checkpoint is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional

import libvirt

from sendense import clock, shield, steps
from sendense.capture import backupxml, bitmaps, checkpoints
from sendense.capture.connection import translate
from sendense.capture.domains import machine_of
from sendense.capture.freeze import Freezer
from sendense.capture.journal import JournalEntry
from sendense.capture.link import DomainLink, GuestOff
from sendense.capture.session import HostSettings, Moment
from sendense.capture.survey import active_job
from sendense.capture.undo import FROZEN_WARNING, end_job, remove_files, undo_online
from sendense.capture.watchdog import Watchdog, free_bytes
from sendense.errors import (
    Busy,
    NotAllowed,
    OutOfSpace,
    Rejected,
    SendenseError,
    SourceChanged,
    Unavailable,
    Unsupported,
)
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.model.plan import CapturePlan
from sendense.model.point import Consistency
from sendense.shield import shielded
from sendense.units import KIB, format_size

log = logging.getLogger(__name__)

_SOCKET_PATH_MOST = 107

_PATIENCE_S = 60.0
"""For a libvirtd that is being restarted while a capture ends."""

JOB_WARNING = (
    "THE BACKUP JOB MAY STILL RUN and its scratch file grow, until 'sendense doctor --repair' "
    "or the next run ends it"
)


class OnlineCapture:
    """A :class:`~sendense.capture.session.HostCapture` of a running domain."""

    moment: Moment
    exports: tuple[DiskExport, ...]
    domain_xml: str
    nvram: Optional[bytes]

    def __init__(self, plan: CapturePlan, settings: HostSettings, entry: JournalEntry) -> None:
        """Prepare; nothing happens on the host before the ``with`` block is entered."""
        self._plan = plan
        self._settings = settings
        self._entry = entry
        self._link = DomainLink(settings.uri, plan.survey.machine.uuid)
        self._freezer = Freezer(self._link, entry, timeout_s=settings.agent_timeout_s)
        self._socket = Path(settings.socket_dir) / f"{plan.point_id}.sock"
        self._scratch = {
            item.target: Path(settings.scratch_dir) / f"{plan.point_id}-{item.target}.qcow2"
            for item in plan.disks
        }
        self._watchdog = Watchdog(
            self._link,
            scratch_dir=Path(settings.scratch_dir),
            reserve_bytes=settings.scratch_reserve_bytes,
            abort=self._abort_job,
        )
        self._settled = False
        """Committed or parked: nothing is taken back any more."""

    def __enter__(self) -> OnlineCapture:
        """Begin: prepare bitmaps, freeze, begin, thaw; taken back where any of it fails."""
        self._check_room()
        self._entry.update(**self._facts())
        try:
            self._begin()
        except GuestOff as error:
            self._roll_back()
            raise SourceChanged(
                "the guest stopped while the capture began",
                hint="run it again: a stopped machine can be captured too",
            ) from error
        except BaseException:
            self._roll_back()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Take everything back, unless it was committed."""
        if not self._settled:
            self._roll_back()
        self._link.close()

    def check(self) -> None:
        """Raise what the watchdog found."""
        self._watchdog.check()

    def confirm(self) -> None:
        """Do the same as a check: QEMU serves the frozen moment, or no bytes at all."""
        self.check()

    @shielded()
    def commit(self, *, drop: Sequence[str]) -> tuple[str, ...]:
        """End the job and drop the superseded checkpoints; see the protocol."""
        self._settled = True
        try:
            self._entry.update(committed=True)
        except OSError as error:
            # The repository knows as well; the job must be ended whatever happens here.
            log.warning("the journal cannot be written: %s", error)
        steps.reached("capture-committed")
        warnings = self._end_job()
        ended = not warnings
        steps.reached("job-ended")
        try:
            self._link.call("dropping superseded checkpoints", lambda d: self._drop(d, drop))
        except SendenseError as error:
            warnings.append(f"superseded checkpoints stay for now: {error}")
        steps.reached("superseded-dropped")
        warnings.extend(self._finish(ended=ended))
        return tuple(warnings)

    @shielded()
    def park(self) -> tuple[str, ...]:
        """End the job and keep both checkpoints; see the protocol."""
        self._entry.update(parked=True)
        self._settled = True
        steps.reached("capture-parked")
        warnings = self._end_job()
        if not warnings:
            self._entry.update(begun=False)
        if not self._settle_freeze():
            warnings.append(FROZEN_WARNING)
        return tuple(warnings)

    # -- beginning -------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        """Give what the reaper needs to take this capture back."""
        plan = self._plan
        return {
            "kind": "online",
            "uri": self._settings.uri,
            "machine": plan.survey.machine.uuid,
            "name": plan.survey.machine.name,
            "point": plan.point_id,
            "checkpoint": plan.checkpoint,
            "images": {item.target: item.survey.disk.path for item in plan.tracked},
            "socket": str(self._socket),
            "scratch": [str(path) for path in self._scratch.values()],
        }

    def _check_room(self) -> None:
        """Refuse before anything starts what could only end badly."""
        if len(str(self._socket).encode()) > _SOCKET_PATH_MOST:
            raise Rejected(
                f"the socket path {self._socket} is longer than {_SOCKET_PATH_MOST} bytes",
                hint="set socket_dir to a shorter path",
            )
        for folder in {self._socket.parent, *(path.parent for path in self._scratch.values())}:
            if not folder.is_dir():
                raise NotAllowed(
                    f"the folder {folder} does not exist",
                    hint="'sendense doctor --repair' makes it: owner QEMU's user, mode 0770",
                )
        free = free_bytes(Path(self._settings.scratch_dir))
        if free < self._settings.scratch_reserve_bytes:
            raise OutOfSpace(
                f"only {format_size(free)} are free for scratch in {self._settings.scratch_dir}",
                hint="free space there, or set scratch_dir to another local disk; "
                f"at least {format_size(self._settings.scratch_reserve_bytes)} are wanted "
                "(scratch_reserve)",
            )

    def _begin(self) -> None:
        self._link.call("looking for other jobs", _refuse_other_job)
        self._freezer.thaw()  # a run before this one may have left a freeze behind
        self._link.call("preparing checkpoints", self._prepare_checkpoints)
        steps.reached("checkpoints-prepared")
        precreated = self._link.call("preparing bitmaps", self._precreate_bitmaps)
        steps.reached("bitmaps-prepared")
        # Again, right before the freeze: behind a job that came meanwhile the guest would wait.
        self._link.call("looking for other jobs", _refuse_other_job)
        warnings: list[str] = []
        taken_at, reached = self._freeze_and_begin(warnings, with_checkpoint=not precreated)
        shield.obey()
        steps.reached("thawed")
        if precreated:
            self._link.call(
                "defining the checkpoint",
                lambda domain: checkpoints.ensure_defined(
                    domain, self._plan.checkpoint, [item.target for item in self._plan.tracked]
                ),
            )
        self.moment = Moment(taken_at, reached, self._freezer.frozen_s, tuple(warnings))
        self._describe()

    @shielded()
    def _freeze_and_begin(
        self, warnings: list[str], *, with_checkpoint: bool
    ) -> tuple[datetime, Consistency]:
        """Freeze, begin, thaw at once; gives the moment, and the consistency reached."""
        reached = self._freeze(warnings)
        try:
            steps.reached("frozen")
            taken_at = clock.now()
            self._begin_job(with_checkpoint=with_checkpoint)
            steps.reached("job-begun")
        finally:
            self._thaw(warnings)
        lapsed = self._freezer.lapsed
        if reached is Consistency.CRASH or lapsed is None:
            return taken_at, reached
        if self._plan.strict:
            raise Unavailable(
                lapsed, hint="run it again when nothing else freezes the guest or works on it"
            )
        warnings.append(f"{lapsed}; the point is crash-consistent")
        return taken_at, Consistency.CRASH

    def _prepare_checkpoints(self, domain: Any) -> None:
        """Drop what is broken of ours, and make libvirt know the bases."""
        checkpoints.remove_broken(domain)
        for seen in self._plan.survey.disks:
            if seen.memory_snapshot:
                # They would block its revert.
                checkpoints.remove_all_from(domain, seen.disk.path)
        checkpoints.forget_hollow(domain)
        bases: dict[str, list[str]] = {}
        for item in self._plan.disks:
            if item.decision.method is Method.BITMAP and item.decision.bitmap is not None:
                bases.setdefault(item.decision.bitmap, []).append(item.target)
        for name, targets in bases.items():
            checkpoints.ensure_defined(domain, name, targets)

    def _precreate_bitmaps(self, domain: Any) -> bool:
        """Make the new bitmaps ourselves where libvirt would choose another granularity.

        Bitmaps that exist before the moment can only report too much, never too
        little.  libvirt chooses by the image's cluster size (F3.4).
        """
        images = bitmaps.query_images(domain)
        nodes = [images[item.survey.disk.path] for item in self._plan.tracked]
        if all(_default_granularity(node) == self._plan.granularity for node in nodes):
            return False
        for node in nodes:
            bitmaps.add_bitmap(
                domain, node.node, self._plan.checkpoint, granularity=self._plan.granularity
            )
        return bool(nodes)

    def _freeze(self, warnings: list[str]) -> Consistency:
        """Freeze the guest if asked to; gives the consistency reached."""
        wanted = self._plan.consistency
        if wanted is Consistency.CRASH:
            return wanted
        try:
            count = self._freezer.freeze(self._plan.mountpoints)
        except SendenseError as error:
            self._thaw(warnings)
            if self._plan.strict:
                raise
            warnings.append(f"freeze failed, the point is crash-consistent: {error}")
            return Consistency.CRASH
        log.info("guest frozen (%d file systems)", count)
        asked = len(set(self._plan.mountpoints))
        if count < asked:
            warnings.append(f"only {count} of the {asked} mount points asked for were frozen")
        return wanted

    def _thaw(self, warnings: list[str]) -> None:
        warning = "the guest did not confirm its thaw at once; thawing went on"
        if not self._freezer.thaw() and warning not in warnings:
            warnings.append(warning)

    def _begin_job(self, *, with_checkpoint: bool) -> None:
        checkpoint = backupxml.checkpoint_xml(self._plan) if with_checkpoint else None
        job = backupxml.backup_xml(self._plan, socket=self._socket, scratch=self._scratch)
        self._entry.update(begun=True)
        # Not through link.call: a begin whose answer was lost must not be repeated.
        try:
            domain = self._link.connection().lookupByUUIDString(self._link.uuid)
            domain.backupBegin(job, checkpoint, 0)
        except libvirt.libvirtError as error:
            self._link.call("looking for the guest", lambda domain: domain)  # raises GuestOff
            problem = translate(error, "beginning the backup job")
            if isinstance(problem, Unsupported):
                # Debian 11 (7.0) has the call, and refuses each of its forms.
                problem.hint = (
                    "this host's libvirt cannot read a machine that runs: upgrade to libvirt 7.6 "
                    "and QEMU 6.1 or newer, or back the machine up while it is off"
                )
            raise problem from error
        log.info("backup job of %s begun", self._plan.survey.machine.name)

    def _describe(self) -> None:
        """Collect what goes with the point, and start the watch."""
        self._link.call("looking at the disks again", self._refuse_changed)
        self.domain_xml = self._link.call(
            "reading the domain's XML",
            lambda domain: str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)),
        )
        nvram = self._plan.survey.machine.nvram
        self.nvram = Path(nvram).read_bytes() if nvram and Path(nvram).exists() else None
        self.exports = tuple(
            DiskExport(
                target=item.target,
                socket=str(self._socket),
                name=item.target,
                size=item.survey.size,
                dirty_context=_dirty_context(item.target, item.decision.method),
            )
            for item in self._plan.disks
        )
        job_xml = self._link.call("reading the job", lambda domain: str(domain.backupGetXMLDesc(0)))
        self._watchdog.start(backupxml.scratch_indexes(job_xml))

    def _refuse_changed(self, domain: Any) -> None:
        """Refuse disks that are not the surveyed ones: a bitmap would speak of another image."""
        now = {disk.target: disk.path for disk in machine_of(domain).disks}
        for item in self._plan.disks:
            same = now.get(item.target) == item.survey.disk.path
            if same and int(domain.blockInfo(item.target, 0)[0]) == item.survey.size:
                continue
            raise SourceChanged(
                f"disk {item.target} was exchanged or resized after it was surveyed",
                hint="run the backup again",
                reason="image-changed",
            )

    # -- ending ----------------------------------------------------------------------

    def _abort_job(self) -> None:
        end_job(self._link, str(self._socket), [])

    def _end_job(self) -> list[str]:
        """End the job of a capture that succeeded; a guest that is off has none."""
        self._watchdog.stop()
        try:
            _patiently(self._abort_job)
        except GuestOff:
            log.info("the guest is off; its backup job went with it")
        except SendenseError as error:
            return [f"{JOB_WARNING}: {error}"]
        remove_files([str(self._socket), *(str(path) for path in self._scratch.values())])
        return []

    def _drop(self, domain: Any, superseded: Sequence[str]) -> None:
        names = checkpoints.own_names(domain)
        for name in checkpoints.surplus(
            names,
            new=self._plan.checkpoint,
            dropped=superseded,
            most=self._settings.max_bitmaps_per_vm,
        ):
            checkpoints.drop(domain, name)

    @shielded()
    def _roll_back(self) -> None:
        """Take the capture back; what cannot be settled now stays in the journal."""
        self._watchdog.stop()
        thawed = self._settle_freeze()
        if not thawed:
            log.error(FROZEN_WARNING)
        try:
            _patiently(self._undo)
        except SendenseError as error:
            begun = f"{JOB_WARNING}; " if self._entry.facts.get("begun") else ""
            log.error("%staking it back is left to the next run: %s", begun, error)  # noqa: TRY400
            return
        self._entry.settle(may_be_frozen=not thawed)

    def _undo(self) -> None:
        undo_online(
            self._link,
            {**self._entry.facts, "may_be_frozen": False},
            keep_checkpoint=False,
            agent_timeout_s=self._settings.agent_timeout_s,
        )

    def _finish(self, *, ended: bool) -> list[str]:
        """Clear the journal of a committed capture, unless something is left to be done."""
        thawed = self._settle_freeze()
        try:
            if ended:
                self._entry.settle(may_be_frozen=not thawed)
        except OSError as error:
            log.warning("the journal cannot be written: %s", error)
        return [] if thawed else [FROZEN_WARNING]

    def _settle_freeze(self) -> bool:
        """Give the agent a last while to confirm the thaw."""
        return self._freezer.close(wait_s=2.0 * self._settings.agent_timeout_s)


def _patiently(act: Callable[[], None]) -> None:
    """Go on trying while libvirt is away: nobody else ends our job on a running guest."""
    deadline = clock.monotonic() + _PATIENCE_S
    while True:
        try:
            return act()
        except Unavailable as error:
            if clock.monotonic() >= deadline:
                raise
            log.warning("libvirt does not answer (%s); trying again", error)
            clock.sleep(1)


def _refuse_other_job(domain: Any) -> None:
    """Say at once who holds the domain, where libvirt would block for 30 s."""
    state, reason = domain.state(0)
    if (state, reason) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR):
        raise Busy(
            "the guest is paused by an I/O error",
            hint="mend its storage and resume it; a capture would not help it",
        )
    job = active_job(domain)
    if job is not None:
        raise Busy(
            f"libvirt runs another job on the machine: {job}",
            hint="wait for it to end; 'sendense doctor' says whose it is",
        )


def _default_granularity(node: bitmaps.ImageNode) -> int:
    """Give the granularity that QEMU chooses: the cluster size, within 4 to 64 KiB."""
    return max(4 * KIB, min(64 * KIB, node.cluster_size or 64 * KIB))


def _dirty_context(target: str, method: Method) -> Optional[str]:
    if method is not Method.BITMAP:
        return None
    return f"qemu:dirty-bitmap:{backupxml.export_bitmap(target)}"
