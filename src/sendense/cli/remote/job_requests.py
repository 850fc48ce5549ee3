"""``sendense job backup|restore|verify|prune|gc|copy|discover``: asking for work.

The server takes a request and gives a job; ``--wait`` watches it to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from sendense.cli import prune_options
from sendense.cli.dates import date, moment_of
from sendense.cli.exitcodes import ExitCode
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import Remote, asks
from sendense.cli.remote.policy_options import keep_rules, require_kept
from sendense.cli.remote.repositories import RepositoryArgument
from sendense.errors import SendenseError
from sendense.model.decision import RequestedMode
from sendense.model.point import Consistency
from sendense.repository.protocol import VerifyLevel

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Watch it until it has ended.")]
Priority = Annotated[int, typer.Option(metavar="N", help="Jobs with a higher one begin first.")]
NotBefore = Annotated[
    datetime | None,
    typer.Option(
        "--not-before", metavar="DATE", parser=date, help="Not before then: 2027-01-31T22:00 (UTC)."
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="DISK", help="Only this disk; may be given several times."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="DISK", help="Not this disk; may be given several times."),
]
Machine = Annotated[
    str | None,
    typer.Option("--machine", metavar="INSTANCE", help="Only points of this instance."),
]
PointOption = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="POINT", help="Only this point; may be given several times."),
]


def register(app: typer.Typer) -> None:
    """Put the commands into their group."""
    for name, function in (
        ("backup", ask_backup),
        ("restore", ask_restore),
        ("verify", ask_verify),
        ("prune", ask_prune),
        ("gc", ask_gc),
        ("copy", ask_copy),
        ("discover", ask_discover),
    ):
        app.command(name)(function)


@asks
def ask_backup(
    remote: Remote,
    instances: Annotated[
        list[str],
        typer.Argument(metavar="INSTANCE", help="Names or UUIDs.", show_default=False),
    ],
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="REPOSITORY", help="Where to, rather than as its policy says."
        ),
    ] = None,
    mode: Annotated[RequestedMode, typer.Option(help="What is read.")] = RequestedMode.AUTO,
    consistency: Annotated[
        Consistency, typer.Option(help="How consistent the point is.")
    ] = Consistency.FILESYSTEM,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail rather than be less consistent.")
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Back up instances, each in a job of its own."""
    names = remote.names
    body = job_options(priority, not_before) | {
        "backup_type": mode.value,
        "consistency": consistency.value,
        "repository_id": names.repository_id(to),
        "strict": strict,
        "include": include or [],
        "exclude": exclude or [],
    }
    uuids = [names.instance_uuid(name) for name in instances]
    # All names are known before the first job is asked for.
    return _submit(remote, "backup", [body | {"vm_id": uuid} for uuid in uuids], wait=wait)


@asks
def ask_restore(
    remote: Remote,
    point: Annotated[
        str,
        typer.Argument(metavar="POINT", help="Id, or latest:INSTANCE.", show_default=False),
    ],
    *,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="REPOSITORY", help="Which repository's copy of it."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="HOST", help="Where to; else where the instance is."),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="POOL", help="New files in this pool; else the instance's own disks, while off."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the new machine; with --pool.")
    ] = None,
    new_macs: Annotated[
        bool, typer.Option("--new-macs", help="Give the new machine other MAC addresses.")
    ] = False,
    define: Annotated[
        bool, typer.Option("--define", help="Define the new machine on the host; with --pool.")
    ] = False,
    start: Annotated[bool, typer.Option("--start", help="Start it afterwards.")] = False,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="qcow2 or raw; with --pool.")
    ] = None,
    allow_larger: Annotated[
        bool, typer.Option("--allow-larger", help="Also onto disks that are larger now.")
    ] = False,
    include: Include = None,
    exclude: Exclude = None,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Restore a point: onto the disks of its instance, or as new files."""
    repository_id = remote.names.repository_id(from_)
    found = remote.names.point(point, repository_id)
    if found["id"] != point:
        # The copy that was found for latest:.
        repository_id = found["repository_id"]
    body = job_options(priority, not_before) | {
        "point_id": found["id"], "repository_id": repository_id,
        "host_id": remote.names.host_id(on), "pool": pool, "name": name, "new_macs": new_macs,
        "define": define, "start": start, "format": format_, "allow_larger": allow_larger,
        "include": include or [], "exclude": exclude or [],
    }  # fmt: skip
    return _submit(remote, "restore", [body], wait=wait)


@asks
def ask_verify(
    remote: Remote,
    repository: RepositoryArgument,
    *,
    level: Annotated[VerifyLevel, typer.Option(help="How much is read.")] = VerifyLevel.DATA,
    point: PointOption = None,
    machine: Machine = None,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Check points of a repository; all of them if none is named."""
    repository_id = remote.names.repository(repository)["id"]
    body = job_options(priority, not_before) | {
        "repository_id": repository_id,
        "level": level.value,
        "points": _points(remote, point, repository_id),
        "machine": remote.names.machine_uuid(machine),
    }
    return _submit(remote, "verify", [body], wait=wait)


@asks
def ask_prune(
    remote: Remote,
    repository: RepositoryArgument,
    *,
    keep_last: prune_options.KeepLast = None,
    keep_hourly: prune_options.KeepHourly = None,
    keep_daily: prune_options.KeepDaily = None,
    keep_weekly: prune_options.KeepWeekly = None,
    keep_monthly: prune_options.KeepMonthly = None,
    keep_yearly: prune_options.KeepYearly = None,
    keep_within: prune_options.KeepWithin = None,
    timezone: prune_options.Timezone = None,
    machine: Machine = None,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Remove the points that no rule keeps; what is pinned or locked stays."""
    keep = keep_rules(
        keep_last=keep_last, keep_hourly=keep_hourly, keep_daily=keep_daily,
        keep_weekly=keep_weekly, keep_monthly=keep_monthly, keep_yearly=keep_yearly,
        keep_within=keep_within,
    )  # fmt: skip
    require_kept(keep)
    body = job_options(priority, not_before) | {
        "repository_id": remote.names.repository(repository)["id"],
        "keep": keep,
        "machine": remote.names.machine_uuid(machine),
        **({"timezone": timezone} if timezone else {}),
    }
    return _submit(remote, "prune", [body], wait=wait)


@asks
def ask_gc(
    remote: Remote,
    repository: RepositoryArgument,
    *,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Remove what no point of a repository needs."""
    repository_id = remote.names.repository(repository)["id"]
    body = job_options(priority, not_before) | {"repository_id": repository_id}
    return _submit(remote, "gc", [body], wait=wait)


@asks
def ask_copy(
    remote: Remote,
    repository: RepositoryArgument,
    to: Annotated[
        str, typer.Argument(metavar="TO", help="The other repository.", show_default=False)
    ],
    *,
    point: PointOption = None,
    machine: Machine = None,
    last: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the newest N of each instance."),
    ] = None,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Copy points to another repository; all of them if none is named."""
    repository_id = remote.names.repository(repository)["id"]
    body = job_options(priority, not_before) | {
        "repository_id": repository_id,
        "to": remote.names.repository_id(to),
        "points": _points(remote, point, repository_id),
        "machine": remote.names.machine_uuid(machine),
        "last": last,
    }
    return _submit(remote, "copy", [body], wait=wait)


@asks
def ask_discover(
    remote: Remote,
    host: Annotated[
        str | None, typer.Argument(metavar="HOST", help="Only this one.", show_default=False)
    ] = None,
    *,
    priority: Priority = 0,
    not_before: NotBefore = None,
    wait: Wait = False,
) -> ExitCode:
    """Look at what runs on a host, or on all of them."""
    body = job_options(priority, not_before) | {"host_id": remote.names.host_id(host)}
    return _submit(remote, "discover", [body], wait=wait)


def job_options(priority: int, not_before: datetime | None) -> dict[str, Any]:
    """Give what every request for a job may say."""
    when = moment_of(not_before, "UTC").isoformat() if not_before else None
    return {"priority": priority, "not_before": when}


def _points(remote: Remote, typed: Sequence[str] | None, repository_id: str) -> list[str]:
    return [str(remote.names.point(each, repository_id)["id"]) for each in typed or ()]


def _submit(remote: Remote, kind: str, bodies: Sequence[dict[str, Any]], *, wait: bool) -> ExitCode:
    from sendense.cli.remote.watching import tell_ends, tell_submitted, watch

    jobs: list[Doc] = []
    for body in bodies:
        try:
            jobs.append(remote.client.post(f"/jobs/{kind}", body))
        except SendenseError as error:
            # What was taken before stays taken: nobody is to lose sight of it.
            for job in jobs:
                remote.run.warn(f"job {job['id']} was taken before, and goes on")
            error.data["jobs"] = " ".join(str(job["id"]) for job in jobs)
            raise
    if not wait:
        tell_submitted(remote, jobs)
        return ExitCode.OK
    return tell_ends(remote, watch(remote, jobs))
