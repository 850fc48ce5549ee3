"""Carrying out a restore, and telling of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sendense import log
from sendense.capture.host import Host
from sendense.cli.points import confirm
from sendense.cli.restore_view import plan_parts, planned_report, restored_report
from sendense.cli.run import Run
from sendense.errors import NotFound, SendenseError
from sendense.model.machine import Machine
from sendense.model.point import PointState, RecoveryPoint
from sendense.model.restoring import RestorePlan
from sendense.repository.protocol import Repository
from sendense.settings import Settings
from sendense.targets.domainxml import Identity
from sendense.transfer.throttle import Throttle
from sendense.workflows.claiming import claimed
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
from sendense.workflows.starting import HostStarter, ensure_startable


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


def restore_point(run: Run, order: RestoreOrder) -> None:
    """Restore, or say what would be done."""
    repository = run.repository()
    point = _point(run, repository, order)
    with run.host(order.settings) as host, _destination(run, host, point, order) as destination:
        if order.start and not order.in_place:
            ensure_startable(host, point, order.identity)
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
def _destination(
    run: Run, host: Host, point: RecoveryPoint, order: RestoreOrder
) -> Iterator[Destination]:
    """Give where it goes; a machine whose disks are overwritten is claimed meanwhile."""
    if order.folder is not None:
        yield ToFolder(order.folder, order.image_format, order.overwrite)
    elif order.devices:
        yield ToDevices(order.devices, order.allow_larger, _neighbours(run, host))
    else:
        with claimed(point.machine, order.settings, "restore", run.open_location):
            # Looked at under the claim: it may have been started while we waited.
            yield InPlace(_machine(host, point, order), order.allow_larger)


def _neighbours(run: Run, host: Host) -> tuple[Machine, ...]:
    """Give the machines of this host; a host without libvirt may restore as well."""
    try:
        return host.machines()
    except SendenseError as error:
        run.output.alert(f"warning: whether a machine runs on a device is not known: {error}")
        return ()


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
        again=_again(run, order, plan),
    )
    title = f"restore {plan.point.machine.name}"
    with log.context(title), run.progress(title) as listener:
        result = run_restore(
            plan,
            repository,
            options=options,
            listener=listener,
            starter=HostStarter(host, plan.point, order.in_place) if order.start else None,
        )
    run.show(restored_report(result))


def _again(run: Run, order: RestoreOrder, plan: RestorePlan) -> str:
    """Give the command that repeats this restore, of this very point."""
    words = ["sendense", "restore", plan.point.id]
    if order.in_place:
        words.append("--in-place")
    words += [
        part for name, device in order.devices.items() for part in ("--to", f"{name}={device}")
    ]
    if order.machine_xml is not None:
        words += ["--xml", str(order.machine_xml.absolute())]
    words += [part for disk in order.include for part in ("--disk", disk)]
    words += [part for disk in order.exclude for part in ("--exclude", disk)]
    flags = {
        "--allow-larger": order.allow_larger,
        "--verify": order.read_back,
        "--start": order.start,
    }
    words += [flag for flag, given in flags.items() if given]
    if run.options.repository:
        words += ["--repository", run.place().again]
    for option in ("passphrase_file", "recovery_key_file"):
        path = getattr(run.options, option)
        if path is not None:
            words += [f"--{option.replace('_', '-')}", str(path.absolute())]
    return shlex.join(words)
