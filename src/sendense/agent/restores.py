"""A restore that a ticket ordered: images that a worker may write, until all are complete.

Disks of a machine that is off are overwritten where they lie, under marks that say so until
the end.  New disks are files of a pool that get their names when all are complete::

    claim -> settle -> refuse what runs or is in use -> our stale bitmaps off -> mark -> serve
    -> ready: the worker writes -> finish: close, fsync, names, marks off, define, start
                                -> abort, or nobody asks: close, parts away; marks stay

A writable ``qemu-nbd`` dies with the agent, and its lock on a file keeps the machine from starting
meanwhile.  A block device has no lock: a machine that starts on one ends the restore.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from sendense import steps
from sendense.agent import firmware
from sendense.agent.admission import Claim
from sendense.agent.exports import OpenExports, inside_pool
from sendense.agent.kept_off import KeptOff, unknown_machine
from sendense.agent.ledger import Intent, NewMachine, Record
from sendense.agent.leftovers import settle_before
from sendense.agent.marks import mark, unmark
from sendense.agent.new_disks import create, ensure_new, part_of, publish, sync
from sendense.agent.newcomers import ensure_newcomer, make_machine
from sendense.agent.occupied import ensure_unoccupied
from sendense.agent.orders import ensure_uuid
from sendense.agent.work import Means, Verdict, Work, agent_error
from sendense.capture import images
from sendense.capture.journal import claim
from sendense.capture.servers import ServedImage, WriteServers
from sendense.errors import (
    NotAllowed,
    NotFound,
    Rejected,
    SendenseError,
    Unavailable,
)
from sendense.model.agent_status import FINAL, RestoreStatus, WorkState
from sendense.model.export import DiskExport
from sendense.model.machine import Machine, PowerState, SourceKind
from sendense.model.survey import is_own
from sendense.model.ticket import NVRAM_EXPORT, PlaceKind, RestoreOrder, RestorePlace, Ticket
from sendense.units import format_size

log = logging.getLogger(__name__)

_FORMATS = ("qcow2", "raw")
_CLOSE_S = 120.0
"""For what QEMU still holds of an image to reach its storage."""

_SOCKET_PATH_MOST = 107


def ensure_restore_order(order: RestoreOrder) -> None:
    """Refuse an order that makes no sense whatever this host looks like."""
    targets = [place.target for place in order.disks]
    paths = [place.path for place in order.disks]
    if not targets or len(set(targets)) != len(targets) or len(set(paths)) != len(paths):
        raise Rejected("the ticket names no disk, or one twice")
    if order.machine is not None:
        ensure_uuid(order.machine)
    firmware.ensure_firmware_order(order)
    for place in order.disks:
        if place.format not in _FORMATS:
            raise Rejected(f"{place.format!r} is none of {', '.join(_FORMATS)}")
        if not place.target.isalnum() or not place.path.startswith("/") or place.size <= 0:
            raise Rejected(f"the place of disk {place.target!r} makes no sense")
        if place.kind is PlaceKind.EXISTING and order.machine is None:
            raise Rejected(f"the ticket does not say whose disk {place.path} is")
    if (order.define or order.start) and not order.domain_xml:
        raise Rejected("the ticket wants a machine started and does not bring its XML")


def _ensure_as_named(place: RestorePlace) -> None:
    """Hold what the control plane says of a place against what lies there."""
    if not Path(place.path).exists():
        raise NotFound(f"there is no image {place.path}")
    if place.format == "raw":
        images.ensure_is_raw(place.path)


@dataclass(frozen=True)
class _Prepared:
    """One place, ready to be served."""

    place: RestorePlace
    served: ServedImage
    capacity: int

    @property
    def export(self) -> DiskExport:
        return DiskExport(
            self.place.target, str(self.served.socket), self.place.target, self.capacity
        )


class RestoreWork(Work):
    """One restore."""

    kind = "restore"

    def __init__(self, ticket: Ticket, order: RestoreOrder, means: Means) -> None:
        """Refuse an order that makes no sense; begin nothing yet."""
        ensure_restore_order(order)
        taken = Claim(ticket.id, len(order.disks), order.machine, windowed=False)
        super().__init__(ticket, taken, means)
        self._order = order
        self._status = RestoreStatus(ticket.id, WorkState.QUEUED)
        self._new = tuple(item for item in order.disks if item.kind is PlaceKind.NEW_FILE)
        self._nvram: Optional[Path] = None
        """The UEFI variable store that is replaced at the end."""
        self._complete = False
        """All disks are written and durable: from here on the restore only ends well."""

    @property
    def state(self) -> WorkState:
        """Give the state."""
        return self._status.state

    def status(self) -> RestoreStatus:
        """Give all that is known of it."""
        with self._turn:
            return self._status

    def record(self) -> Record:
        """Give what the ledger keeps of it."""
        with self._turn:
            return Record(
                id=self.id,
                action=self.ticket.action,
                expires_at=self.ticket.expires_at,
                state=self._status.state,
                machine=self._order.machine,
                intent=Intent.COMMIT if self._complete else Intent.NONE,
                parts=tuple(str(part_of(Path(place.path))) for place in self._new),
                places=self._existing,
                nvram=None if self._nvram is None else str(self._nvram),
                defines=self._order.define or self._order.start,
                makes=self._makes if self._complete and self._status.state not in FINAL else None,
                restore=replace(self._status, exports=()),
            )

    def hold(self, reason: str) -> None:
        """Say why it waits."""
        with self._turn:
            self._status = replace(self._status, waiting_for=reason)

    # -- inside ----------------------------------------------------------------------

    def _carry_out(self) -> None:
        self._change(state=WorkState.STARTING, waiting_for=None)
        try:
            with self._claimed():
                self._restore()
        finally:
            if self.state is not WorkState.COMMITTED:
                self._remove_parts()

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold the machine whose disks these are."""
        machine = self._order.machine
        if machine is None:
            yield
            return
        settings = self._means.host.settings
        entry = claim(
            Path(settings.state_dir),
            machine,
            operation=f"restore of {machine}",
            wait_s=settings.lock_wait_s,
        )
        try:
            # What a parked capture left is of the time line that ends here.
            settle_before(entry, (), self._means)
            yield
        finally:
            entry.release()

    def _restore(self) -> None:
        machine = self._stopped_machine()
        self._ensure_newcomer()
        warnings: list[str] = []
        self._ensure_places(machine, warnings)
        ensure_unoccupied(self._means.host, self._existing)
        prepared = [self._prepare(place) for place in self._order.disks]
        prepared += self._prepare_nvram(machine, warnings)
        state_dir = self._means.settings().state_dir
        name = machine.name if machine is not None else str(self._order.machine)
        mark(state_dir, self._existing, machine=name, work=self.id)
        steps.reached("restore-marked")
        with self._kept_off(machine, prepared) as off:
            verdict = self._written(prepared, tuple(warnings), off)
        if verdict is Verdict.COMMIT:
            self._publish()
            return
        # Whoever is told that it ended may begin it anew, under the same names.
        self._remove_parts()
        self._ended(*self._given_up(verdict))

    @contextmanager
    def _kept_off(
        self, machine: Optional[Machine], prepared: list[_Prepared]
    ) -> Iterator[Callable[[], None]]:
        """Watch that the machine stays off; gives what looks now, and raises where it did not."""
        if self._order.machine is None or not self._existing:
            yield lambda: None
            return

        def give_up(reason: SendenseError) -> None:
            self.decide(Verdict.ABORT, reason=reason, wait_s=0)

        with KeptOff(
            machine or unknown_machine(self._order.machine),
            uri=self._means.host.settings.uri,
            locked=all(item.served.kind is SourceKind.FILE for item in prepared),
            on_start=give_up,
        ) as watch:
            yield watch.check

    def _written(
        self, prepared: list[_Prepared], warnings: tuple[str, ...], ensure_off: Callable[[], None]
    ) -> Verdict:
        """Have all disks written; gives what was decided, with every server ended."""
        servers = WriteServers([item.served for item in prepared])
        servers.start()
        try:
            # It may have been started since the look before.
            ensure_off()
            verdict = self._serve(prepared, servers, warnings)
            if verdict is Verdict.COMMIT:
                self._change(state=WorkState.ENDING, exports=())
                servers.finish(within_s=_CLOSE_S)
                ensure_off()
        finally:
            servers.stop()
        return verdict

    @property
    def _existing(self) -> tuple[str, ...]:
        return tuple(place.path for place in self._order.disks if place not in self._new)

    def _given_up(self, verdict: Verdict) -> tuple[WorkState, Optional[SendenseError]]:
        if self._reason is not None:
            return WorkState.FAILED, self._reason
        if verdict is Verdict.ABORT:
            return WorkState.ABORTED, None
        lease = self._means.settings().lease_s
        return WorkState.FAILED, Unavailable(f"nobody asked for it for {lease} s")

    def _serve(
        self, prepared: list[_Prepared], servers: WriteServers, warnings: tuple[str, ...]
    ) -> Verdict:
        with OpenExports(self.id, self._means, self._order.limits) as exports:
            opened = exports.open(item.export for item in prepared)
            self.touch()
            self._change(state=WorkState.READY, exports=opened, warnings=warnings)
            log.info("ready: %d disks can be written", len(opened))
            steps.reached("restore-ready")
            return self._await_verdict(servers.check)

    def _publish(self) -> None:
        for place in self._order.disks:
            written = part_of(Path(place.path)) if place in self._new else Path(place.path)
            sync(written)
        self._complete = True
        self._means.ledger.put(self.record())
        steps.reached("restore-complete")
        for place in self._new:
            publish(part_of(Path(place.path)))
            steps.reached("disk-published")
        if self._nvram is not None:
            firmware.complete(self._nvram)
            steps.reached("nvram-replaced")
        unmark(self._means.settings().state_dir, self._existing)
        steps.reached("restore-unmarked")
        self._raise_machine()
        self._ended(WorkState.COMMITTED, None)

    @property
    def _makes(self) -> Optional[NewMachine]:
        """Give the machine that is to be defined or started at the end."""
        order = self._order
        if order.domain_xml is None or not (order.define or order.start):
            return None
        return NewMachine(order.domain_xml, order.define, order.start, new=bool(self._new))

    def _raise_machine(self) -> None:
        if self._makes is None:
            return
        try:
            make_machine(self._means.host, self._makes)
        except SendenseError as error:
            error.message = f"the disks are complete, but: {error.message}"
            raise
        steps.reached("machine-made")

    def _ensure_newcomer(self) -> None:
        """Refuse to define or start from new disks what this host knows already."""
        makes = self._makes
        if makes is not None and makes.new:
            ensure_newcomer(self._means.host, makes.domain_xml)

    # -- places ----------------------------------------------------------------------

    def _stopped_machine(self) -> Optional[Machine]:
        """Give the machine, which must be off; none where libvirt does not keep it."""
        if self._order.machine is None:
            return None
        try:
            machine = self._means.host.find(self._order.machine)
        except NotFound:
            return None
        if machine.power is not PowerState.STOPPED:
            raise Rejected(
                f"the machine {machine.name} runs", hint="stop it, or restore to new disks"
            )
        return machine

    def _ensure_places(self, machine: Optional[Machine], warnings: list[str]) -> None:
        """Refuse all that may not be written, before anything is."""
        pools = self._means.settings().pools
        own = {disk.path for disk in machine.disks} if machine is not None else set()
        for place in self._order.disks:
            path = Path(place.path)
            inside = inside_pool(path, pools)
            if place.kind is PlaceKind.NEW_FILE:
                if not inside:
                    raise NotAllowed(
                        f"{path} lies in no pool of this host",
                        hint="add its directory to the agent's setting 'pools'",
                    )
                ensure_new(path)
            elif machine is not None and place.path not in own:
                raise Rejected(f"{path} is no disk of the machine {machine.name}")
            elif machine is None and not inside:
                raise NotAllowed(
                    f"this host's libvirt does not know the machine, and {path} lies in no pool",
                    hint="add its directory to the agent's setting 'pools'",
                )
            elif machine is None:
                _ensure_as_named(place)
                warnings.append(
                    f"libvirt does not know the machine: that {path} is its disk was not proven"
                )

    def _prepare(self, place: RestorePlace) -> _Prepared:
        if place.kind is PlaceKind.NEW_FILE:
            part = part_of(Path(place.path))
            create(part, place)
            return self._served(place, str(part), SourceKind.FILE, place.size)
        path = Path(place.path)
        if not path.exists():
            raise NotFound(f"there is no image {path}")
        images.ensure_unused(place.path, place.format)
        top = images.image_chain(place.path, place.format)[0]
        device = path.is_block_device()
        raw_device = device and place.format == "raw"
        capacity = images.block_device_size(place.path) if raw_device else top.size
        if capacity < place.size:
            raise Rejected(
                f"{path} holds {format_size(capacity)}, the disk has {format_size(place.size)}"
            )
        if place.most and capacity > place.most:
            raise Rejected(
                f"{path} has {capacity} bytes, the disk of the point {place.size}",
                hint="if it was enlarged since, say --allow-larger: the rest will read as zero",
            )
        for bitmap in top.bitmaps:
            # They track a time line that ends here; the next backup of the disk is a full.
            if is_own(bitmap.name):
                images.remove_bitmap(place.path, bitmap.name)
        return self._served(
            place, place.path, SourceKind.BLOCK if device else SourceKind.FILE, capacity
        )

    def _prepare_nvram(self, machine: Optional[Machine], warnings: list[str]) -> list[_Prepared]:
        """Serve a fresh file for the UEFI variables, where the machine has a place for them."""
        order = self._order
        store = firmware.store_of(order, machine, self._means.settings().nvram_dir)
        if store is None:
            if order.nvram:
                warnings.append("the machine has no UEFI variables here: the point's stay out")
            return []
        # Known before it is there: a restarted agent takes it away.
        self._nvram = store
        self._means.ledger.put(self.record())
        fresh = str(firmware.begin(store, order.nvram))
        place = RestorePlace(NVRAM_EXPORT, fresh, "raw", order.nvram, PlaceKind.NEW_FILE)
        return [self._served(place, fresh, SourceKind.FILE, order.nvram)]

    def _served(self, place: RestorePlace, path: str, kind: SourceKind, capacity: int) -> _Prepared:
        folder = Path(self._means.host.settings.socket_dir)
        socket = folder / f"{self.id}-{place.target}.sock"
        if len(str(socket).encode()) > _SOCKET_PATH_MOST:
            raise Rejected(f"the socket path {socket} is too long", hint="shorten socket_dir")
        served = ServedImage(place.target, path, place.format, kind, socket, writable=True)
        return _Prepared(place, served, capacity)

    def _remove_parts(self) -> None:
        for place in self._new:
            try:
                part_of(Path(place.path)).unlink(missing_ok=True)
            except OSError as error:
                log.warning("a part stays: %s", error)
        if self._nvram is not None:
            firmware.fresh_of(self._nvram).unlink(missing_ok=True)

    # -- state -----------------------------------------------------------------------

    def _ended(self, state: WorkState, error: Optional[SendenseError]) -> None:
        self._change(state=state, waiting_for=None, exports=(), error=agent_error(error))
        log.info("restore %s is %s", self.id, state.value)

    def _change(self, **changes: object) -> None:
        with self._turn:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]
            self._turn.notify_all()
        try:
            self._means.ledger.put(self.record())
        except OSError as failure:
            log.error("the ledger cannot be written: %s", failure)  # noqa: TRY400
