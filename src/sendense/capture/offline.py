"""Captures a machine that is off: its images are read as they lie.

There is no QEMU to ask for a frozen moment, so the moment is the machine's being
off: its images do not change, and :mod:`~sendense.capture.stillness` proves
afterwards that they did not.  The order is::

    refuse, if an image is in use          (QEMU's locks, then libvirt)
    add the new bitmaps                    (they record from the next start on)
    serve the images with the old bitmaps
    look again for users: this is the moment

A bitmap that exists before the moment can only report too much, never too little.
The next incremental may be online or offline; both use the same bitmaps
(libvirt.md F4.1).

A point of a stopped machine is always called *crash* consistent.  Whether the guest
went down in order or by a power cut cannot be told: libvirt forgets a transient
domain, and names a QEMU that was ended by a signal "shut down" as well.  Whoever
asked for more gets a warning, not a failure: there was nothing to freeze.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

import libvirt

from sendense import clock, steps
from sendense.capture import checkpoints, images
from sendense.capture import connection as connections
from sendense.capture.domains import find_domain, power_state
from sendense.capture.journal import Facts, JournalEntry
from sendense.capture.servers import ReadServers, ServedImage
from sendense.capture.session import HostSettings, Moment
from sendense.capture.stillness import Stillness
from sendense.capture.survey import survey_stopped
from sendense.errors import Busy, NotAllowed, NotFound, Rejected, SendenseError, SourceChanged
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.model.machine import PowerState, SourceKind
from sendense.model.plan import CapturePlan, DiskPlan
from sendense.model.point import Consistency
from sendense.model.survey import DiskSurvey, is_own
from sendense.shield import shielded

log = logging.getLogger(__name__)

_SOCKET_PATH_MOST = 107


class OfflineCapture:
    """A :class:`~sendense.capture.session.HostCapture` of a machine that is off."""

    moment: Moment
    exports: tuple[DiskExport, ...]
    domain_xml: str
    nvram: Optional[bytes]

    def __init__(
        self,
        plan: CapturePlan,
        settings: HostSettings,
        entry: JournalEntry,
        *,
        domain_xml: Optional[str] = None,
    ) -> None:
        """Prepare; nothing happens before the ``with`` block is entered.

        ``domain_xml`` is the definition of a machine that libvirt does not keep.
        """
        self._plan = plan
        self._settings = settings
        self._entry = entry
        self._given_xml = domain_xml
        self._settled = False
        """Committed or parked: nothing is taken back any more."""
        self._servers = ReadServers([self._served(item) for item in plan.disks])
        self._stillness = Stillness(
            plan.survey.machine, [item.survey.chain for item in plan.disks], uri=settings.uri
        )

    def __enter__(self) -> OfflineCapture:
        """Begin; taken back where any of it fails."""
        self._check_sockets()
        self._entry.update(**self._facts())
        try:
            self._begin()
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

    def check(self) -> None:
        """Raise where the machine did not stay off, or a server ended."""
        self._stillness.check()
        self._servers.check()

    def confirm(self) -> None:
        """Do the same: each check looks at the images anew."""
        self.check()

    @shielded()
    def commit(self, *, drop: Sequence[str]) -> tuple[str, ...]:
        """End the capture and drop the superseded bitmaps; see the protocol."""
        self._settled = True
        self._entry.update(committed=True)
        steps.reached("capture-committed")
        self._stillness.end()
        self._servers.stop()
        steps.reached("exports-ended")
        try:
            self._drop(drop)
        except SendenseError as error:
            warnings: tuple[str, ...] = (f"superseded bitmaps stay for now: {error}",)
        else:
            warnings = ()
        steps.reached("superseded-dropped")
        self._entry.clear()
        return warnings

    @shielded()
    def park(self) -> tuple[str, ...]:
        """Close the images and keep both bitmaps; see the protocol."""
        self._entry.update(parked=True)
        self._settled = True
        steps.reached("capture-parked")
        self._stillness.end()
        self._servers.stop()
        return ()

    # -- beginning -------------------------------------------------------------------

    def _served(self, item: DiskPlan) -> ServedImage:
        disk = item.survey.disk
        by_bitmap = item.decision.method is Method.BITMAP
        return ServedImage(
            target=disk.target,
            path=disk.path,
            format=disk.format,
            kind=disk.kind,
            socket=Path(self._settings.socket_dir) / f"{self._plan.point_id}-{disk.target}.sock",
            bitmap=item.decision.bitmap if by_bitmap else None,
        )

    def _check_sockets(self) -> None:
        """Refuse before anything starts what could only end badly."""
        folder = Path(self._settings.socket_dir)
        if not folder.is_dir():
            raise NotAllowed(
                f"the folder {folder} does not exist",
                hint="run 'sendense doctor --repair', or create it",
            )
        for item in self._plan.disks:
            path = str(self._served(item).socket)
            if len(path.encode()) > _SOCKET_PATH_MOST:
                raise Rejected(
                    f"the socket path {path} is longer than {_SOCKET_PATH_MOST} bytes",
                    hint="set socket_dir to a shorter path",
                )

    def _facts(self) -> dict[str, Any]:
        """Give what the reaper needs to take this capture back."""
        plan = self._plan
        return {
            "kind": "offline",
            "uri": self._settings.uri,
            "machine": plan.survey.machine.uuid,
            "name": plan.survey.machine.name,
            "point": plan.point_id,
            "checkpoint": plan.checkpoint,
            "images": {item.target: item.survey.disk.path for item in plan.tracked},
            "sockets": [str(self._served(item).socket) for item in plan.disks],
        }

    def _begin(self) -> None:
        machine = self._plan.survey.machine
        warnings = self._refuse_running()
        self._refuse_changed()
        self._prepare_bitmaps()
        steps.reached("bitmaps-prepared")
        self._stillness.begin()
        self._servers.start()
        self._entry.update(pids=list(self._servers.pids))
        for item in self._plan.disks:
            images.ensure_unused(item.survey.disk.path, item.survey.disk.format)
        self.check()
        taken_at = clock.now()
        steps.reached("exports-up")
        self.domain_xml = self._definition(warnings)
        self.nvram = _read_nvram(machine.nvram)
        self.exports = tuple(self._export(item) for item in self._plan.disks)
        if self._plan.consistency is not Consistency.CRASH:
            warnings.append(
                "the machine is off, so there was nothing to freeze: its file systems are "
                "as its guest left them, and the point is called crash-consistent"
            )
        self.moment = Moment(taken_at, Consistency.CRASH, None, tuple(warnings))
        log.info("%s is off; %d disks are served", machine.name, len(self.exports))

    def _refuse_running(self) -> list[str]:
        """Refuse a machine that runs; gives warnings where that cannot be fully told."""
        machine = self._plan.survey.machine
        active = self._stillness.ask()
        if active:
            raise Busy(f"the machine {machine.name} runs now", hint="run the backup again")
        warnings = []
        if active is None:
            warnings.append(
                "libvirt could not be asked whether the machine runs here; "
                "only its images were watched"
            )
        devices = [item.target for item in self._plan.disks if _is_device(item.survey)]
        if devices:
            warnings.append(
                f"{', '.join(devices)}: block devices have no lock; "
                "that no other host uses them was not proven"
            )
        return warnings

    def _refuse_changed(self) -> None:
        """Look again: the plan must speak of the images as they are. Raises Busy for one in use."""
        fresh = survey_stopped(self._plan.survey.machine, incremental=True)
        now = {item.disk.target: _comparable(item) for item in fresh.disks}
        for item in self._plan.disks:
            if now.get(item.target) != _comparable(item.survey):
                raise SourceChanged(
                    f"disk {item.target} changed after it was surveyed",
                    hint="run the backup again",
                    reason="image-changed",
                )

    def _prepare_bitmaps(self) -> None:
        """Remove what is broken of ours, then add the new bitmaps."""
        for item in self._plan.disks:
            for bitmap in item.survey.bitmaps:
                # An inconsistent bitmap breaks resizing (F2.7), any breaks a snapshot's revert.
                broken = bitmap.inconsistent or item.survey.memory_snapshot
                if broken and is_own(bitmap.name):
                    images.remove_bitmap(item.survey.disk.path, bitmap.name)
        for item in self._plan.tracked:
            images.add_bitmap(
                item.survey.disk.path, self._plan.checkpoint, granularity=self._plan.granularity
            )

    def _definition(self, warnings: list[str]) -> str:
        """Give the machine's XML: what was given, else what libvirt keeps."""
        if self._given_xml is not None:
            return self._given_xml
        try:
            with connections.open_host(self._settings.uri) as connection:
                domain = connection.lookupByUUIDString(self._plan.survey.machine.uuid)
                if domain.hasManagedSaveImage(0):
                    warnings.append(
                        "the machine is saved, not shut down: its memory is not part of the "
                        "point, which is as after a power cut"
                    )
                return str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        except (libvirt.libvirtError, SendenseError) as error:
            warnings.append(f"the machine's XML is not part of the point: {error}")
            return ""

    def _export(self, item: DiskPlan) -> DiskExport:
        served = self._served(item)
        return DiskExport(
            target=item.target,
            socket=str(served.socket),
            name=item.target,
            size=item.survey.size,
            dirty_context=served.bitmap and f"qemu:dirty-bitmap:{served.bitmap}",
        )

    # -- ending ----------------------------------------------------------------------

    def _drop(self, superseded: Sequence[str]) -> None:
        if self._stillness.broken:
            raise Busy("the machine is being started")
        for survey in self._plan.survey.disks:
            if not survey.disk.holds_bitmaps:
                continue
            # The order of the image is the order of making, also after QEMU saved them.
            own = [item.name for item in survey.bitmaps if is_own(item.name)]
            for name in checkpoints.surplus(
                own,
                new=self._plan.checkpoint,
                dropped=superseded,
                most=self._settings.max_bitmaps_per_vm,
            ):
                images.remove_bitmap_if_idle(survey.disk.path, name)

    @shielded()
    def _roll_back(self) -> None:
        """Take the capture back; what cannot be settled now stays in the journal."""
        self._servers.stop()
        broken = self._stillness.broken
        self._stillness.end()
        if broken:
            # QEMU is about to open the images: touching them now could make its start fail.
            log.info("the new bitmaps of %s are left to the next run", self._plan.checkpoint)
            return
        try:
            undo_offline(self._entry.facts, keep_bitmaps=False)
        except SendenseError as error:
            log.warning("taking the capture back is left to the next run: %s", error)
            return
        self._entry.clear()


def undo_offline(facts: Facts, *, keep_bitmaps: bool) -> list[str]:
    """Take back what ``facts`` describe; gives what was done, in sentences.

    May be repeated.  Raises where something cannot be settled now: the machine runs
    on another host, say.
    """
    done: list[str] = []
    # The servers died with the run; only their sockets may lie about.
    for name in facts.get("sockets", []):
        path = Path(name)
        if path.exists():
            path.unlink()
            done.append(f"{path} removed")
    if keep_bitmaps or not facts.get("images"):
        return done
    if _dropped_online(facts):
        return [*done, f"bitmaps {facts['checkpoint']} removed from the running machine"]
    for name in facts["images"].values():
        if images.remove_bitmap_if_idle(name, facts["checkpoint"]):
            done.append(f"bitmap {facts['checkpoint']} removed from {name}")
    return done


def _dropped_online(facts: Facts) -> bool:
    """Remove the new bitmaps through QEMU, if the machine was started here meanwhile."""
    try:
        connection = connections.connect(facts["uri"])
    except SendenseError as error:
        # The locks of the images tell as well whether it runs.
        log.debug("libvirt is not there to ask: %s", error)
        return False
    try:
        domain = find_domain(connection, facts["machine"])
        if power_state(domain) is PowerState.STOPPED:
            return False
        with connections.errors("removing bitmaps"):
            checkpoints.drop(domain, facts["checkpoint"])
        return True
    except NotFound:
        return False
    finally:
        connections.close(connection)


def _comparable(survey: DiskSurvey) -> DiskSurvey:
    return replace(survey, allocated_bytes=0)


def _is_device(survey: DiskSurvey) -> bool:
    return survey.disk.kind is SourceKind.BLOCK


def _read_nvram(path: Optional[str]) -> Optional[bytes]:
    if path is None or not Path(path).exists():
        return None
    return Path(path).read_bytes()
