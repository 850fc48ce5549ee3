"""``sendense instance``: the machines on all hosts, how well they are protected, their points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Annotated, Any

import typer

from sendense import clock
from sendense.cli.options import taking
from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.cloud_vms import cloud_filters, vm_parts, vms_sheet
from sendense.cli.remote.frame import SOME, Limit, Remote, Search, Taken, asks
from sendense.cli.remote.words import ago, size, some, when
from sendense.cli.text import counted
from sendense.errors import Rejected
from sendense.model.machine import PowerState
from sendense.model.periods import written
from sendense.model.protection import Protection

app = typer.Typer(name="instance", help="Instances on all hosts.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


InstanceArgument = Annotated[
    str, typer.Argument(metavar="INSTANCE", help="Name or UUID.", show_default=False)
]


@app.command("list")
@asks
@taking(cloud_filters, "of_clouds")
def list_instances(
    remote: Remote,
    search: Search = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="HOST", help="Only on this host.")
    ] = None,
    power: Annotated[PowerState | None, typer.Option(help="Only in this state of power.")] = None,
    gone: Annotated[
        bool | None,
        typer.Option("--gone/--not-gone", help="Only those that are there no longer, or still."),
    ] = None,
    unprotected: Annotated[
        bool, typer.Option("--unprotected", help="Only those that no policy takes.")
    ] = False,
    *,
    of_clouds: dict[str, Any],
    limit: Limit = SOME,
) -> None:
    """List instances by name; with a filter of clouds as their cloud has them."""
    protection = Protection.UNPROTECTED.value if unprotected else None
    wanted: dict[str, Any] = {"search": search, "gone": gone, "protection": protection}
    if any(value is not None for value in of_clouds.values()):
        if on is not None or power is not None:
            raise Rejected(
                "--on and --power ask hosts, the other filters ask clouds",
                hint="use --state for the state that a cloud shows",
            )
        typed = of_clouds.pop("cloud")
        cloud_id = None if typed is None else str(remote.names.cloud(typed)["id"])
        found = remote.client.every("/cloudstack/vms", cloud_id=cloud_id, **wanted, **of_clouds)
        sheet: Callable[[Remote, Sequence[Doc]], Sheet] = vms_sheet
    else:
        found = remote.client.every(
            "/instances", host_id=remote.names.host_id(on),
            power=power.value if power else None, **wanted,
        )  # fmt: skip
        sheet = _sheet
    taken = Taken(found, limit)
    part = sheet(remote, taken.items) if taken.items else "no such instance is known"
    remote.show(taken.document("instances"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_instance(remote: Remote, instance: InstanceArgument) -> None:
    """Show an instance: how well it is protected, and what its cloud says of it."""
    found = remote.names.instance(instance)
    document, parts = {"instance": found}, _parts(remote, found)
    if found["cloud"]:
        vm = remote.client.get(f"/cloudstack/vms/{found['uuid']}")
        document["vm"] = vm
        parts += vm_parts(vm)
    remote.show(document, *parts)


@app.command("protection")
@asks
def list_protection(
    remote: Remote,
    state: Annotated[Protection | None, typer.Option(help="Only those that stand so.")] = None,
    limit: Limit = SOME,
) -> None:
    """List how well instances are protected, and why."""
    found = remote.client.every("/protection", protection=state.value if state else None)
    taken = Taken(found, limit)
    part = protection_sheet(remote, taken.items) if taken.items else "there is no such instance"
    remote.show(taken.document("instances"), part)
    taken.tell(remote)


def protection_sheet(remote: Remote, items: Sequence[Doc], title: str | None = None) -> Sheet:
    """Lay out how well instances are protected."""
    columns = (
        Column("instance"),
        Column("host", minor=1),
        Column("state"),
        Column("last good", minor=2),
        Column("because", fold=True),
    )
    rows = [
        (
            str(each["cloud_name"] or each["name"]),
            remote.names.host_name(each["host_id"]),
            str(each["protection"]),
            ago(each.moment("newest_good")),
            str(each["reason"]),
        )
        for each in items
    ]
    return Sheet(columns, rows, title=title)


@app.command("points")
@asks
def list_points(
    remote: Remote,
    instance: InstanceArgument,
    in_: Annotated[
        str | None,
        typer.Option("--in", metavar="REPOSITORY", help="Only those in this repository."),
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List the points of an instance, newest first; also of one that is gone."""
    taken = Taken(
        remote.client.every(
            "/points", machine=remote.names.machine_uuid(instance),
            repository_id=remote.names.repository_id(in_),
        ),
        limit,
    )  # fmt: skip
    columns = (
        Column("point"),
        Column("taken"),
        Column("mode"),
        Column("state"),
        Column("consistency", minor=3),
        Column("stored", right=True, minor=1),
        Column("repository", minor=4),
        Column("held", minor=2),
    )
    rows = [
        (
            str(each["id"]),
            when(each.moment("taken_at")),
            str(each["mode"]),
            str(each["state"]),
            str(each["consistency"]),
            size(each["stored_bytes"]),
            remote.names.repository_name(each["repository_id"]),
            _held(each),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else f"{instance} has no point"
    remote.show(taken.document("points"), part)
    taken.tell(remote)


def _held(point: Doc) -> str:
    words = ["pinned"] if point["pinned"] else []
    until = point.moment("locked_until")
    if until is not None and until > clock.now():
        words.append(f"until {written(until, UTC)}")
    return ", ".join(words)


def _sheet(remote: Remote, items: Sequence[Doc]) -> Sheet:
    columns = (
        Column("instance"),
        Column("host"),
        Column("power"),
        Column("cloud", minor=3),
        Column("disks", right=True, minor=1),
        Column("memory", right=True, minor=2),
        Column("uuid", minor=4),
    )
    rows = [
        (
            _name(each),
            (remote.names.host_name(each["host_id"]) or "none") if not each["gone_at"] else "gone",
            str(each["power"]),
            str(each["cloud"]["cloud"]) if each["cloud"] else "",
            str(len(each["disks"])),
            size(each["memory_bytes"]),
            str(each["uuid"]),
        )
        for each in items
    ]
    return Sheet(columns, rows)


def _name(instance: Doc) -> str:
    """Give the name that its owner knows an instance by, and that of its host behind it."""
    name = str(instance["name"])
    return f"{instance['cloud']['name']} ({name})" if instance["cloud"] else name


def _parts(remote: Remote, found: Doc) -> list[Any]:
    protection = found.part("protection")
    facts = [
        ("instance", _name(found)),
        ("uuid", str(found["uuid"])),
        ("host", remote.names.host_name(found["host_id"]) or "none"),
        ("power", str(found["power"])),
        ("size", f"{counted(int(found['vcpus']), 'CPU')}, {size(found['memory_bytes'])}"),
        ("seen", ago(found.moment("seen_at"))),
        ("protection", f"{protection['protection']}: {protection['reason']}"),
        ("policies", ", ".join(protection["policies"]) or "none"),
        ("last good", ago(protection.moment("newest_good"))),
    ]
    if found["gone_at"]:
        facts.append(("gone since", when(found.moment("gone_at"))))
    columns = (Column("disk"), Column("format"), Column("serial", minor=1), Column("path"))
    rows = [
        (str(disk["target"]), str(disk["format"]), some(disk["serial"]), str(disk["path"]))
        for disk in found.parts("disks")
    ]
    return [pairs(facts), Sheet(columns, rows)]
