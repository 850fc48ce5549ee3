"""What is shown of mounts."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sendense import clock
from sendense.cli import text
from sendense.cli.output import Cell, Column, Report, Sheet, pairs
from sendense.serving.mounts import Mount
from sendense.serving.trouble import Trouble, read_trouble
from sendense.units import format_size

_NOTHING = "nothing is mounted"


def mounted_report(mount: Mount) -> Report:
    """Tell where the disks are now, and what to do with them."""
    first = mount.disks[0]
    uri = shlex.quote(first.uri)
    usage = [
        ("look at it", f"qemu-img info {uri}"),
        ("copy it", f"nbdcopy {uri} {first.target}.raw"),
        ("as a file", f"nbdfuse DIRECTORY/{first.target}.raw {uri}"),
        ("its files", f"guestfish {'' if mount.writable else '--ro '}--format=raw -a {uri} -i"),
        ("end it", f"sendense unmount {shlex.quote(mount.address)}"),
    ]
    state = "writable, and what is written is dropped" if mount.writable else "read-only"
    title = f"point {mount.point} of {mount.machine}, {state}; process {mount.process.pid}"
    return Report(_document(mount), [title, _disks_sheet(mount), "", pairs(usage)])


def list_report(mounts: Sequence[Mount]) -> Report:
    """Tell what is mounted."""
    troubles = [read_trouble(Path(mount.folder)) for mount in mounts]
    document = {
        "mounts": [
            {**_document(mount), **_trouble_document(trouble)}
            for mount, trouble in zip(mounts, troubles, strict=True)
        ]
    }
    return Report(document, [_list_sheet(mounts, troubles)] if mounts else [_NOTHING])


def unmounted_report(ended: Sequence[tuple[Mount, Trouble]]) -> Report:
    """Tell what is no longer mounted."""
    document = {
        "unmounted": [
            {"point": mount.point, "address": mount.address, **_trouble_document(trouble)}
            for mount, trouble in ended
        ]
    }
    lines: list[Sheet | Cell] = [
        f"point {mount.point} of {mount.machine} is no longer served at {mount.address}"
        for mount, _ in ended
    ]
    return Report(document, lines or [_NOTHING])


def _document(mount: Mount) -> dict[str, Any]:
    return {
        "point": mount.point,
        "machine": mount.machine,
        "repository": mount.repository,
        "address": mount.address,
        "uris": [disk.uri for disk in mount.disks],
        "disks": [
            {"target": disk.target, "size": disk.size, "uri": disk.uri} for disk in mount.disks
        ],
        "writable": mount.writable,
        "detached": mount.detached,
        "since": mount.since,
        "pid": mount.process.pid,
    }


def _trouble_document(trouble: Trouble) -> dict[str, Any]:
    return {
        "damaged": [
            {"disk": item.disk, "offset": item.offset, "length": item.length}
            for item in trouble.damaged
        ],
        "damaged_ranges": len(trouble.damaged) + trouble.more,
        "failed_requests": trouble.failed,
    }


def _disks_sheet(mount: Mount) -> Sheet:
    columns = (Column("disk"), Column("size", right=True), Column("uri"))
    rows = [(disk.target, format_size(disk.size), disk.uri) for disk in mount.disks]
    return Sheet(columns, rows)


def _list_sheet(mounts: Sequence[Mount], troubles: Sequence[Trouble]) -> Sheet:
    columns = (
        Column("point"),
        Column("machine"),
        Column("disks"),
        Column("address"),
        Column("writable", minor=2),
        Column("since", minor=3),
        Column("pid", right=True, minor=1),
        Column("trouble"),
    )
    rows = [
        (
            mount.point,
            mount.machine,
            ", ".join(disk.target for disk in mount.disks),
            mount.address,
            text.yes(mount.writable),
            text.when(clock.parse_utc(mount.since)),
            str(mount.process.pid),
            _word(trouble),
        )
        for mount, trouble in zip(mounts, troubles, strict=True)
    ]
    return Sheet(columns, rows)


def _word(trouble: Trouble) -> str:
    if trouble.damaged:
        return "DAMAGED"
    return f"{trouble.failed} failed" if trouble.failed else text.NONE
