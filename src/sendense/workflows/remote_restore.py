"""Restore to a host that an agent speaks for.

The plan is the same value as for this host (:mod:`sendense.model.restoring`); the places are
opened by the agent, written through its gate, and made complete by it::

    ticket -> the agent holds the machine, checks the places, serves them writable
    -> write all disks, flushed -> finish: servers closed, new files named, the machine defined

Each try has an id of its own on the agent, and whoever comes after one that died settles it first:
a try that the agent completed has succeeded, and any other is given up, so that its unfinished
files are out of the way of the next.

New files appear complete or not at all.  A disk that is overwritten in place stays marked as half
restored on its host until the end, whatever happens here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from sendense import clock, steps
from sendense.errors import NotFound, Rejected, SendenseError, Stalled, Unavailable
from sendense.fleet.agent_client import AgentClient, RestoreWork
from sendense.fleet.problems import raised
from sendense.fleet.remote_host import export_of
from sendense.model.agent_status import FINAL, GateExport, RestoreStatus, WorkState
from sendense.model.machine import SourceKind
from sendense.model.progress import ProgressListener, silent
from sendense.model.restoring import (
    DestinationKind,
    RestorePlan,
)
from sendense.model.ticket import (
    NO_LIMITS,
    NVRAM_EXPORT,
    NVRAM_MOST,
    Limits,
    PlaceKind,
    RestoreOrder,
    RestorePlace,
)
from sendense.repository.protocol import PointReader, Repository
from sendense.targets.domainxml import RestoredDisk, ShapedDomain, shape_domain
from sendense.transfer.throttle import UNLIMITED, Throttle
from sendense.workflows.remote_destinations import RemoteDestination, ToPool
from sendense.workflows.remote_disks import (
    WritingTerms,
    ensure_fits,
    write_disk,
    write_firmware,
)
from sendense.workflows.restore import DOMAIN_XML, NVRAM, DiskRestored

log = logging.getLogger(__name__)

_SECTOR = 512
_POLL_S = 0.5
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class RemoteRestoreOptions:
    """How it is carried out."""

    id: str
    """Of the work on the agent."""
    job: str = ""
    limits: Limits = NO_LIMITS
    throttle: Throttle = UNLIMITED
    stall_s: float = 120.0
    waiting: Callable[[str | None], None] = lambda reason: None
    """Told why it is queued on the host; may raise to give up."""
    listener: ProgressListener = silent
    check: Callable[[], None] = lambda: None
    """Called about every second, and raises to stop."""
    changed_only: bool = False
    """Read the places, and write only what differs."""
    verify: bool = False
    """Read each disk back when it is written and flushed, and compare all of it with the point."""


@dataclass(frozen=True)
class RemoteRestoreResult:
    """What a restore did."""

    plan: RestorePlan
    disks: tuple[DiskRestored, ...]
    domain: ShapedDomain | None
    warnings: tuple[str, ...]
    started: bool
    seconds: float


def run_remote_restore(
    client: AgentClient,
    plan: RestorePlan,
    destination: RemoteDestination,
    repository: Repository,
    options: RemoteRestoreOptions,
) -> RemoteRestoreResult:
    """Carry out a plan."""
    began = clock.monotonic()
    with repository.open(plan.point.id) as reader:
        domain = _shaped(plan, destination, reader)
        nvram = _firmware(plan, destination, reader)
        order = replace(
            _order(plan, destination, domain, options.limits), nvram=len(nvram) if nvram else 0
        )
        work = client.restore(order, id=options.id, job=options.job)
        run = _Run(client, work, options, allow_larger=destination.allow_larger)
        disks, with_nvram = run.carry_out(plan, reader, nvram)
        status = run.finish()
    return RemoteRestoreResult(
        plan=plan,
        disks=disks,
        domain=domain,
        warnings=(*_warnings(plan, domain, with_nvram=with_nvram), *status.warnings),
        started=order.start,
        seconds=clock.monotonic() - began,
    )


def settle(client: AgentClient, work: str, options: RemoteRestoreOptions) -> RestoreStatus | None:
    """Bring a try that died to its end on the agent; gives its status where it was completed."""
    # The id is what matters of a ticket to a work that began; the order was in the first.
    ticket = client.restore(RestoreOrder(()), id=work, job=options.job)
    try:
        return _Run(client, ticket, options).settle()
    except NotFound:
        log.info("the agent on %s never began %s", client.address.name, work)
        return None


def _shaped(
    plan: RestorePlan, destination: RemoteDestination, reader: PointReader
) -> ShapedDomain | None:
    """Shape the machine around the disks, where it is to be defined or started."""
    wanted = destination.start or (isinstance(destination, ToPool) and destination.define)
    if not wanted:
        return None
    if all(item.name != DOMAIN_XML for item in plan.point.attachments):
        raise Rejected("the point holds no domain.xml, so no machine can be made of it")
    placed = {
        item.image.disk.target: RestoredDisk(
            item.destination.path,
            item.destination.format,
            block=item.image.disk.kind is SourceKind.BLOCK
            and item.destination.kind is DestinationKind.IN_PLACE,
        )
        for item in plan.disks
    }
    identity = destination.identity if isinstance(destination, ToPool) else None
    return shape_domain(reader.attachment(DOMAIN_XML).decode(), placed, identity=identity)


def _order(
    plan: RestorePlan,
    destination: RemoteDestination,
    domain: ShapedDomain | None,
    limits: Limits,
) -> RestoreOrder:
    new = isinstance(destination, ToPool)
    kind = PlaceKind.NEW_FILE if new else PlaceKind.EXISTING
    return RestoreOrder(
        disks=tuple(
            RestorePlace(
                target=item.image.disk.target,
                path=item.destination.path,
                format=item.destination.format,
                size=item.image.size,
                kind=kind,
                most=0 if destination.allow_larger else item.image.size,
            )
            for item in plan.disks
        ),
        machine=None if plan.machine is None else plan.machine.uuid,
        domain_xml=None if domain is None else domain.xml,
        define=isinstance(destination, ToPool) and destination.define,
        start=destination.start,
        limits=limits,
    )


def _firmware(
    plan: RestorePlan, destination: RemoteDestination, reader: PointReader
) -> bytes | None:
    """Give the UEFI variables that are to be restored, if they are such as can be written."""
    known = next((item for item in plan.point.attachments if item.name == NVRAM), None)
    if not destination.nvram or known is None:
        return None
    if not 0 < known.size <= NVRAM_MOST or known.size % _SECTOR:
        return None
    return reader.attachment(NVRAM)


def _warnings(
    plan: RestorePlan, domain: ShapedDomain | None, *, with_nvram: bool
) -> tuple[str, ...]:
    notes = () if domain is None else domain.notes
    if not with_nvram and any(item.name == NVRAM for item in plan.point.attachments):
        return (*notes, "the UEFI variables of the point were not restored to the host")
    return notes


@dataclass(frozen=True)
class _Run:
    client: AgentClient
    work: RestoreWork
    options: RemoteRestoreOptions
    allow_larger: bool = True

    def carry_out(
        self, plan: RestorePlan, reader: PointReader, nvram: bytes | None
    ) -> tuple[tuple[DiskRestored, ...], bool]:
        """Write all disks; whatever goes wrong gives the restore up on its host too.

        Tells whether the UEFI variables were written as well: an agent may have no place for them.
        """
        try:
            status = self._await_ready()
            exports = {item.target: item for item in status.exports}
            disks = tuple(self._restored(plan, exports, reader))
            store = exports.get(NVRAM_EXPORT)
            if nvram is None or store is None:
                return disks, False
            write_firmware(export_of(store, self.client.address), nvram, self.options.stall_s)
            return disks, True
        except BaseException:
            self._give_up()
            raise

    def finish(self) -> RestoreStatus:
        """Have the agent complete it, and wait until it has."""
        status = self._patiently(self.work.finish)
        steps.reached("remote-restore-finished")
        deadline = clock.monotonic() + self.options.stall_s
        while status.state in (WorkState.READY, WorkState.ENDING):
            if clock.monotonic() >= deadline:
                raise Stalled(f"the agent on {self._host} does not complete the restore")
            clock.sleep(_POLL_S)
            status = self._patiently(self.work.status)
        if status.state is not WorkState.COMMITTED:
            raise self._ended(status)
        return status

    def settle(self) -> RestoreStatus | None:
        """Give it up, unless it is complete or about to be."""
        status = self._patiently(self.work.abort)
        deadline = clock.monotonic() + self.options.stall_s
        while status.state not in FINAL:
            if clock.monotonic() >= deadline:
                raise Stalled(f"the agent on {self._host} does not end {self.work.id}")
            self.options.check()
            clock.sleep(_POLL_S)
            status = self._patiently(self.work.abort)
        log.info("%s on %s is %s", self.work.id, self._host, status.state.value)
        return status if status.state is WorkState.COMMITTED else None

    @property
    def _host(self) -> str:
        return self.client.address.name

    def _await_ready(self) -> RestoreStatus:
        status = self._patiently(self.work.begin)
        while status.state in (WorkState.QUEUED, WorkState.STARTING):
            self.options.waiting(status.waiting_for)
            self.options.check()
            clock.sleep(_POLL_S)
            status = self._patiently(self.work.status)
        if status.state is not WorkState.READY:
            raise self._ended(status)
        return status

    def _restored(
        self, plan: RestorePlan, served: Mapping[str, GateExport], reader: PointReader
    ) -> Iterator[DiskRestored]:
        """Write one disk after the other, once it is certain that each fits its place."""
        options, address = self.options, self.client.address
        exports = [
            export_of(_served(served, item.image.disk.target), address) for item in plan.disks
        ]
        for item, export in zip(plan.disks, exports, strict=True):
            ensure_fits(item, export, allow_larger=self.allow_larger)
        pulse = _Pulse(self.work, options.check, self._host)
        terms = WritingTerms(
            throttle=options.throttle,
            stall_s=options.stall_s,
            listener=options.listener,
            beat=pulse.beat,
            explain=pulse.explain,
            changed_only=options.changed_only,
            verify=options.verify,
        )
        for item, export in zip(plan.disks, exports, strict=True):
            yield write_disk(item, export, reader, terms)
            steps.reached("remote-disk-restored")

    def _give_up(self) -> None:
        try:
            self.work.abort()
        except SendenseError as error:
            log.warning("the agent on %s was not told to give the restore up: %s",
                        self._host, error)  # fmt: skip

    def _patiently(self, call: Callable[[], RestoreStatus]) -> RestoreStatus:
        deadline = clock.monotonic() + _PATIENCE_S
        while True:
            try:
                return call()
            except Unavailable as error:
                if clock.monotonic() >= deadline:
                    raise
                log.warning("the agent on %s does not answer: %s", self._host, error)
                self.options.check()
                clock.sleep(1.0)

    def _ended(self, status: RestoreStatus) -> SendenseError:
        if status.error is not None:
            return raised(status.error, self._host)
        return Unavailable(f"the restore on {self._host} is {status.state.value}")


def _served(exports: Mapping[str, GateExport], target: str) -> GateExport:
    if target not in exports:
        raise Unavailable(f"the agent serves no disk {target}")
    return exports[target]


class _Pulse:
    """Tells the agent about every second that somebody still wants the restore."""

    def __init__(self, work: RestoreWork, check: Callable[[], None], host: str) -> None:
        self._work = work
        self._check = check
        self._host = host
        self._asked_at = clock.monotonic()

    def beat(self) -> None:
        """Look whether the run must end, and ask the agent when it is time."""
        self._check()
        if clock.monotonic() - self._asked_at >= 1.0:
            self._asked_at = clock.monotonic()
            self.ask()

    def explain(self) -> None:
        """Raise why the run must end, where somebody knows better than who was cut off."""
        self._check()
        self.ask()

    def ask(self) -> None:
        """Ask the agent; one that cannot be reached now may be soon."""
        try:
            status = self._work.status()
        except Unavailable as error:
            log.warning("the agent on %s does not answer: %s", self._host, error)
            return
        if status.state is WorkState.READY:
            return
        if status.error is not None:
            raise raised(status.error, self._host)
        raise Unavailable(f"the restore on {self._host} is {status.state.value}")
