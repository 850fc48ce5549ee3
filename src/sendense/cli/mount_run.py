"""Carrying out a mount, and its end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sendense.cli import failures
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.mount_view import mounted_report, unmounted_report
from sendense.cli.run import Run
from sendense.errors import Damaged, NotFound
from sendense.model.point import DiskImage, PointState, RecoveryPoint
from sendense.model.selection import select_disks
from sendense.repository.protocol import Repository
from sendense.serving import mounting
from sendense.serving.mounting import MountOrder, Server
from sendense.serving.mounts import Mount, default_root
from sendense.serving.program import TcpPort
from sendense.serving.trouble import Trouble
from sendense.settings import Settings
from sendense.units import format_size
from sendense.workflows.points import LATEST, find_point, require_good


@dataclass(frozen=True)
class MountChoice:
    """What one call of the command asks for."""

    reference: str
    at: datetime | None
    disks: tuple[str, ...]
    tcp: TcpPort | None
    overlay_dir: Path | None
    detached: bool


def mount_root(settings: Settings) -> Path:
    """Give where the folders of mounts are."""
    return (settings.mount_dir or default_root()).absolute()


def mount_point(run: Run, choice: MountChoice) -> ExitCode:
    """Serve a point, to the end or for others to end."""
    place = run.place()
    repository = run.repository()
    point = _point(run, repository, choice)
    order = MountOrder(
        url=place.url,
        access=run.access(place),
        location=place.again,
        point=point,
        disks=_disks(point, choice.disks),
        root=mount_root(run.settings),
        tcp=choice.tcp,
        overlay_dir=choice.overlay_dir,
        download_limit=run.settings.store_download_limit,
        detached=choice.detached,
        log_level=run.options.log_level,
        syslog=run.options.syslog,
    )
    _tell_room(run, order)
    # The server has it open from now on; two need not hold connections and files.
    run.close()
    with mounting.start(order) as server:
        run.show(mounted_report(server.mount))
        if choice.detached:
            server.leave()
            return ExitCode.OK
        return _serve(run, server)


def unmount_all(run: Run, mounts: Sequence[Mount]) -> ExitCode:
    """End mounts, and tell what went wrong while they were there."""
    ended: list[tuple[Mount, Trouble]] = []
    for mount in mounts:
        trouble = mounting.unmount(mount)
        ended.append((mount, trouble))
    run.show(unmounted_report(ended))
    return worst(_tell(run, mount, trouble) for mount, trouble in ended)


def _point(run: Run, repository: Repository, choice: MountChoice) -> RecoveryPoint:
    """Find the point; damage is refused where the person did not choose that very point."""
    point = find_point(repository, choice.reference, at=choice.at)
    if choice.reference.startswith(LATEST):
        require_good(repository, point)
    elif point.state is PointState.DAMAGED:
        run.warn(f"point {point.id} is damaged; reads fail where the damage is")
    return point


def _disks(point: RecoveryPoint, names: Sequence[str]) -> tuple[DiskImage, ...]:
    chosen = select_disks(tuple(image.disk for image in point.disks), include=names)
    targets = {disk.target for disk in chosen}
    return tuple(image for image in point.disks if image.disk.target in targets)


def _tell_room(run: Run, order: MountOrder) -> None:
    folder = order.overlay_dir
    if folder is None:
        return
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise NotFound(
            f"the directory {folder} for the overlay cannot be used: {error.strerror}",
            hint="make it, or name another one with --overlay-dir",
        ) from error
    size = sum(image.size for image in order.disks)
    run.note(
        f"what is written takes room in {folder} until the end: {format_size(free)} are free, "
        f"the disks have {format_size(size)}"
    )


def _serve(run: Run, server: Server) -> ExitCode:
    """Wait for the end: Ctrl-C, a signal, or somebody who unmounts it."""
    if not run.output.as_json:
        run.note("serving until Ctrl-C")
    # The way in which it is meant to end.
    with suppress(KeyboardInterrupt):
        server.wait()
    trouble = server.end()
    return _tell(run, server.mount, trouble)


def _tell(run: Run, mount: Mount, trouble: Trouble) -> ExitCode:
    """Tell what clients could not read; on standard error, as the result was shown before."""
    error = trouble.error(mount.point)
    if error is None:
        return ExitCode.OK
    if isinstance(error, Damaged):
        for item in trouble.damaged:
            run.output.alert(f"{item.disk} at {item.offset}, {item.length} bytes: {item.message}")
    failures.tell(error, run.output)
    return failures.code_of(error)
