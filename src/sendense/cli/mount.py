"""``sendense mount`` and ``sendense unmount``: the disks of a point as NBD exports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sendense.cli import mount_options as given
from sendense.cli import restore_options
from sendense.cli.exitcodes import ExitCode
from sendense.cli.mount_run import MountChoice, mount_point, mount_root, unmount_all
from sendense.cli.mount_view import list_report
from sendense.cli.options import command
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.serving.mounts import find_mount, list_mounts
from sendense.serving.program import TcpPort, parse_tcp

_OVERLAY_DIR = Path("/var/tmp")  # noqa: S108 - it gets a file without a name


def register(app: typer.Typer) -> None:
    """Put the commands into the program."""
    app.command("mount")(mount)
    app.command("unmount")(unmount)


@command
def mount(
    run: Run,
    point: given.Point = None,
    *,
    listing: given.Listing = False,
    at: restore_options.At = None,
    disk: restore_options.Disk = None,
    detach: given.Detach = False,
    tcp: given.Tcp = None,
    tls: given.Tls = None,
    insecure: given.Insecure = False,
    writable: given.Writable = False,
    overlay_dir: given.OverlayDir = None,
) -> ExitCode | None:
    """Serve the disks of a point as NBD, until Ctrl-C; nothing of it is copied first."""
    if listing:
        if point is not None:
            raise Rejected("--list shows all mounts", hint="leave the POINT out")
        run.show(list_report(list_mounts(mount_root(run.settings))))
        return None
    if point is None:
        raise Rejected("name a point", hint="'sendense points list' shows them")
    _refuse_without_effect({"--tls": tls, "--insecure": insecure}, needs="--tcp", there=tcp)
    _refuse_without_effect({"--overlay-dir": overlay_dir}, needs="--writable", there=writable)
    folder = (overlay_dir or _OVERLAY_DIR).absolute()
    choice = MountChoice(
        reference=point,
        at=at,
        disks=tuple(disk or ()),
        tcp=_tcp(tcp, tls, insecure=insecure),
        overlay_dir=folder if writable else None,
        detached=detach,
    )
    return mount_point(run, choice)


@command
def unmount(
    run: Run,
    mounted: Annotated[
        str | None,
        typer.Argument(
            metavar="POINT|SOCKET",
            help="Point, or where it is served: socket, HOST:PORT.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is mounted.")] = False,
) -> ExitCode:
    """End what 'mount' serves; clients are sent away."""
    if (mounted is None) != everything:
        raise Rejected("name what is mounted, or --all", hint="'sendense mount --list' shows it")
    root = mount_root(run.settings)
    found = list_mounts(root) if mounted is None else (find_mount(root, mounted),)
    return unmount_all(run, found)


def _tcp(text: str | None, tls: Path | None, *, insecure: bool) -> TcpPort | None:
    return None if text is None else parse_tcp(text, certificates=tls, insecure=insecure)


def _refuse_without_effect(options: Mapping[str, object], *, needs: str, there: object) -> None:
    """Refuse an option that would have no effect: whoever gave it meant something."""
    for option, value in options.items():
        if value and not there:
            raise Rejected(f"{option} goes with {needs} only")
