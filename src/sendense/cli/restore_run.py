"""Carrying out a restore, and telling of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sendense import log
from sendense.capture import connection as connections
from sendense.capture.host import Host
from sendense.capture.journal import claim
from sendense.cli.points import confirm
from sendense.cli.restore_view import plan_parts, planned_report, restored_report
from sendense.cli.run import Run
from sendense.errors import NotFound
from sendense.model.machine import Machine
from sendense.model.point import PointState, RecoveryPoint
from sendense.model.restoring import RestorePlan
from sendense.repository.protocol import Repository
from sendense.settings import Settings
from sendense.targets.domainxml import Identity, ShapedDomain
from sendense.transfer.throttle import Throttle
from sendense.workflows.backup import reap_entry
from sendense.workflows.points import LATEST, find_point, require_good
from sendense.workflows.restore import (
    Destination,
    InPlace,
    RestoreOptions,
    ToDevices,
    ToFolder,
    plan_restore,
    run_restore,
)


@dataclass(frozen=True)
class RestoreOrder:
    """What one call of the command asks for."""

    settings: Settings
    reference: str
    at: datetime | None
    folder: Path | None
    image_format: str | None
    overwrite: bool
    devices: dict[str, str]
    machine_xml: Path | None
    allow_larger: bool
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    identity: Identity
    start: bool
    read_back: bool
    sure: bool
    dry_run: bool

    @property
    def in_place(self) -> bool:
        """Tell whether the machine's own disks are overwritten."""
        return self.folder is None and not self.devices


@dataclass(frozen=True)
class _Starter:
    """Starts the restored machine on this host."""

    host: Host
    point: RecoveryPoint
    in_place: bool

    def start(self, domain: ShapedDomain) -> None:
        known = {machine.uuid for machine in self.host.machines()}
        with connections.errors(f"starting {domain.name}"):
            connection = self.host.connection
            if self.in_place and domain.uuid in known:
                # As it is defined now: only its disks were restored.
                connection.lookupByUUIDString(domain.uuid).create()
            elif self.point.machine.persistent:
                connection.defineXML(domain.xml).create()
            else:
                connection.createXML(domain.xml, 0)


def restore_point(run: Run, order: RestoreOrder) -> None:
    """Restore, or say what would be done."""
    repository = run.repository()
    point = _point(run, repository, order)
    with run.host(order.settings) as host, _destination(host, point, order) as destination:
        plan = plan_restore(point, destination, include=order.include, exclude=order.exclude)
        if order.dry_run:
            run.show(planned_report(plan))
            return
        _ask(run, plan, order)
        _restore(run, order, plan, repository, host)


def _point(run: Run, repository: Repository, order: RestoreOrder) -> RecoveryPoint:
    """Find the point; damage is refused where the person did not choose that very point."""
    point = find_point(repository, order.reference, at=order.at)
    if order.reference.startswith(LATEST):
        require_good(repository, point)
    elif point.state is PointState.DAMAGED:
        run.output.alert(
            f"warning: point {point.id} is damaged; the restore fails where the damage is"
        )
    return point


@contextmanager
def _destination(host: Host, point: RecoveryPoint, order: RestoreOrder) -> Iterator[Destination]:
    """Give where it goes; a machine whose disks are overwritten is claimed meanwhile."""
    if order.folder is not None:
        yield ToFolder(order.folder, order.image_format, order.overwrite)
    elif order.devices:
        yield ToDevices(order.devices, order.allow_larger)
    else:
        with _claimed(point.machine, order.settings, host):
            # Looked at under the claim: it may have been started while we waited.
            yield InPlace(_machine(host, point, order), order.allow_larger)


@contextmanager
def _claimed(machine: Machine, settings: Settings, host: Host) -> Iterator[None]:
    """Hold the claim on a machine, with what a dead run left of it taken back."""
    entry = claim(
        settings.state_dir,
        machine.uuid,
        operation=f"restore of {machine.name}",
        wait_s=host.settings.lock_wait_s,
    )
    try:
        reap_entry(entry, agent_timeout_s=settings.agent_timeout)
        yield
    finally:
        entry.release()


def _machine(host: Host, point: RecoveryPoint, order: RestoreOrder) -> Machine:
    try:
        found = host.find(point.machine.uuid)
    except NotFound as error:
        if order.machine_xml is None:
            raise NotFound(
                f"libvirt does not know {point.machine.name}",
                hint="give the XML of the machine with --xml, or restore to new files with "
                "--output",
                machine=point.machine.uuid,
            ) from error
        return host.from_xml(order.machine_xml)
    # What libvirt knows wins over a file: that must not hide that the machine runs.
    return found


def _ask(run: Run, plan: RestorePlan, order: RestoreOrder) -> None:
    """Ask before anything that exists is overwritten."""
    if order.sure or order.folder is not None:
        return
    for part in plan_parts(plan):
        run.output.alert(part)
    confirm("Overwrite these for good?", run)


def _restore(
    run: Run, order: RestoreOrder, plan: RestorePlan, repository: Repository, host: Host
) -> None:
    options = RestoreOptions(
        state_dir=order.settings.state_dir,
        throttle=Throttle(order.settings.bandwidth_limit),
        read_back=order.read_back,
        identity=order.identity,
        stall_s=order.settings.stall_timeout,
    )
    title = f"restore {plan.point.machine.name}"
    with log.context(title), run.progress(title) as listener:
        result = run_restore(
            plan,
            repository,
            options=options,
            listener=listener,
            starter=_Starter(host, plan.point, order.in_place) if order.start else None,
        )
    run.show(restored_report(result))
