"""Instances as their cloud has them: the filters of lists, and how they look to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import Remote
from sendense.cli.remote.words import ago, size, some, when

_CLOUD = "As their cloud has them"
_SHOWN = 5


def _filter(option: str, metavar: str, text: str) -> Any:  # noqa: ANN401 - typer's own
    return typer.Option(f"--{option}", metavar=metavar, help=text, rich_help_panel=_CLOUD)


def cloud_filters(
    *,
    cloud: Annotated[str | None, _filter("cloud", "CLOUD", "Only of this cloud.")] = None,
    zone: Annotated[str | None, _filter("zone", "ZONE", "Only in this zone.")] = None,
    domain: Annotated[
        str | None, _filter("domain", "PATH", "Only of owners in this domain, and below it.")
    ] = None,
    account: Annotated[str | None, _filter("account", "NAME", "Only of this account.")] = None,
    project: Annotated[str | None, _filter("project", "NAME", "Only of this project.")] = None,
    tag: Annotated[
        str | None, _filter("tag", "TAG", "Only with this tag: key, or key=value.")
    ] = None,
    state: Annotated[
        str | None, _filter("state", "STATE", "Only in this state: Running, Stopped, ...")
    ] = None,
    offering: Annotated[str | None, _filter("offering", "NAME", "Only of this offering.")] = None,
) -> dict[str, str | None]:
    """Give the filters that clouds are asked with."""
    return dict(locals())


def vms_sheet(remote: Remote, items: Sequence[Doc]) -> Sheet:
    """Lay out instances."""
    columns = (
        Column("instance"),
        Column("state"),
        Column("protection"),
        Column("owner", minor=2),
        Column("zone", minor=3),
        Column("host", minor=1),
        Column("cloud", minor=4),
        Column("flags", fold=True, minor=1),
        Column("uuid", minor=5),
    )
    rows = [
        (
            str(each["display_name"] or each["name"]),
            str(each["state"]) if not each["gone_at"] else "gone",
            str(each.part("protection").get("protection", "")),
            _owner(each.part("owner")),
            str(each["zone"]),
            str(each["host"]),
            str(each["cloud"]),
            ", ".join(
                str(flag["code"]) for flag in each.parts("flags") if flag["severity"] != "info"
            ),
            str(each["id"]),
        )
        for each in items
    ]
    return Sheet(columns, rows)


def vm_parts(vm: Doc) -> list[Any]:
    """Lay out what a cloud says of an instance."""
    tags = ", ".join(f"{key}={value}" for key, value in sorted(vm["tags"].items()))
    points = vm.part("points")
    facts = [
        ("in the cloud", f"{vm['cloud']}: {vm['display_name'] or vm['name']} ({vm['state']})"),
        ("owner", _owner(vm.part("owner"))),
        ("zone", str(vm["zone"])),
        ("host there", some(vm["host"])),
        ("offering", some(vm["offering"])),
        ("tags", tags or "none"),
        ("points", f"{points['count']}, the newest {ago(points.moment('newest'))}"),
    ]
    if vm["gone_at"]:
        facts.append(("gone there since", when(vm.moment("gone_at"))))
    parts: list[Any] = [pairs(facts), _volumes(vm)]
    for title, sheet in (("flags", _flags(vm)), ("policies", _matched(vm))):
        if sheet is not None:
            parts += [f"{title}:", sheet]
    return parts


def _volumes(vm: Doc) -> Sheet:
    columns = (
        Column("volume"), Column("kind"), Column("size", right=True), Column("state"),
        Column("pool", minor=1), Column("id", minor=2),
    )  # fmt: skip
    rows = [
        (
            str(each["name"]),
            str(each["kind"]),
            size(each["size"]),
            str(each["state"]),
            str(each["pool"]),
            str(each["id"]),
        )
        for each in vm.parts("volumes")
    ]
    return Sheet(columns, rows)


def _flags(vm: Doc) -> Sheet | None:
    rows = [
        (str(each["code"]), str(each["severity"]), str(each["message"]), str(each["hint"]))
        for each in vm.parts("flags")
    ]
    columns = (
        Column("flag"), Column("severity"), Column("what follows", fold=True),
        Column("hint", fold=True, minor=1),
    )  # fmt: skip
    return Sheet(columns, rows) if rows else None


def _matched(vm: Doc) -> Sheet | None:
    matched = vm.parts("matched")
    taking = [each for each in matched if each["taken"]]
    # Where none takes it, the first few say why.
    rows = [
        (str(each["name"]) + ("" if each["enabled"] else " (disabled)"), str(each["why"]))
        for each in taking or matched[:_SHOWN]
    ]
    return Sheet((Column("policy"), Column("because", fold=True)), rows) if rows else None


def _owner(owner: Doc) -> str:
    if owner["project"]:
        return f"project {owner['project']}"
    return f"{owner['domain']}/{owner['account']}"
