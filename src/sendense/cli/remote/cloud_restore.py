"""``sendense cloud restore``: a point back into the cloud that it is of, or into another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.remote import cloud_restore_options as options
from sendense.cli.remote.frame import Remote, asks
from sendense.cli.remote.job_requests import NotBefore, Priority, Wait, job_options
from sendense.errors import NotFound, Rejected
from sendense.model.ascend import Aim
from sendense.model.ascend_names import EVERY


def register(app: typer.Typer) -> None:
    """Put the command into its group."""
    app.command("restore")(restore)


@asks
def restore(
    remote: Remote,
    point: options.Point,
    *,
    plan: options.Plan = False,
    from_: options.From = None,
    volume: options.Volume = None,
    to: options.To = None,
    lost: options.Lost = False,
    new_name: options.NewName = None,
    cloud: options.Cloud = None,
    zone: options.Zone = None,
    account: options.Account = None,
    domain: options.Domain = None,
    project: options.Project = None,
    map_network: options.MapNetwork = None,
    offering: options.Offering = None,
    disk_offering: options.DiskOffering = None,
    template: options.Template = None,
    pool: options.Pool = None,
    start: options.Start = None,
    no_safety_point: options.NoSafetyPoint = False,
    allow_larger: options.AllowLarger = False,
    allow_unencrypted: options.AllowUnencrypted = False,
    with_secrets: options.WithSecrets = False,
    go_on: options.GoOn = None,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Restore a point into CloudStack: in place, as a data volume, or as an instance made again."""
    anew = any((lost, new_name and not to, cloud, zone, account, project))
    body = (
        job_options(priority, not_before)
        | _point(remote, point, from_)
        | _volumes(volume)
        | {
            "aim": _aim(anew=anew, to=to).value,
            "instance_id": remote.names.instance_uuid(to),
            "name": new_name,
            "cloud_id": _cloud_id(remote, cloud),
            "zone": zone,
            "account": account,
            "domain": domain,
            "project": project,
            "offering": offering,
            "template": template,
            "networks": _pairs(map_network, "--map-network"),
            "disk_offerings": _pairs(disk_offering, "--disk-offering", alone=EVERY),
            "pool": pool,
            "start": start,
            "safety_point": not no_safety_point,
            "allow_larger": allow_larger,
            "allow_unencrypted": allow_unencrypted,
            "with_secrets": with_secrets,
            "continues": go_on,
        }
    )
    return _show_plan(remote, body) if plan else _ask(remote, body, wait=wait)


def _show_plan(remote: Remote, body: dict[str, Any]) -> ExitCode:
    found = remote.client.post("/restore/cloudstack/plan", body)
    remote.show({"plan": found}, *(str(line) for line in found["lines"]))
    return ExitCode.REJECTED if found["refused"] else ExitCode.OK


def _ask(remote: Remote, body: dict[str, Any], *, wait: bool) -> ExitCode:
    from sendense.cli.remote.watching import tell_ends, tell_submitted, watch

    jobs = [remote.client.post("/restore/cloudstack", body)]
    if not wait:
        tell_submitted(remote, jobs)
        return ExitCode.OK
    return tell_ends(remote, watch(remote, jobs))


def _aim(*, anew: bool, to: str | None) -> Aim:
    if anew and to:
        raise Rejected("--to is for a disk, and the rest for an instance that is made again")
    if to:
        return Aim.DATA_DISK
    return Aim.RECREATE if anew else Aim.IN_PLACE


def _point(remote: Remote, typed: str, from_: str | None) -> dict[str, Any]:
    repository_id = remote.names.repository_id(from_)
    found = remote.names.point(typed, repository_id)
    if found["id"] != typed:
        # The copy that was found for latest:.
        repository_id = str(found["repository_id"])
    return {"point_id": str(found["id"]), "repository_id": repository_id}


def _cloud_id(remote: Remote, typed: str | None) -> str | None:
    if typed is None:
        return None
    found = [
        str(each["id"])
        for each in remote.client.every("/clouds")
        if typed in (each["id"], each["name"])
    ]
    if not found:
        raise NotFound(f"there is no cloud {typed}", hint="'sendense cloud list' lists them")
    return found[0]


def _volumes(typed: Sequence[str] | None) -> dict[str, Any]:
    """Read ``V`` and ``V=W``."""
    parts = [each.partition("=") for each in typed or ()]
    return {
        "volumes": [old for old, _, _ in parts],
        "onto": {old: new for old, mark, new in parts if mark},
    }


def _pairs(typed: Sequence[str] | None, option: str, *, alone: str = "") -> dict[str, str]:
    """Read ``OLD=NEW``; where ``alone`` is given, also ``NEW``, for that."""
    found: dict[str, str] = {}
    for each in typed or ():
        old, mark, new = each.partition("=")
        if not mark and alone:
            old, new = alone, each
        if not old or not new:
            raise Rejected(f"{option} {each}: this is no OLD=NEW")
        found[old] = new
    return found
