"""``sendense status``: the state of everything on one screen.

Exit code 6, as of ``sendense doctor``, where something needs attention: an instance that is not
protected and not just new, or a host that is not well.  Jobs that failed are shown, and do
not count by themselves: what became of them is in the state of their instances.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import Remote, asks
from sendense.cli.remote.instances import protection_sheet
from sendense.cli.remote.job_view import jobs_sheet
from sendense.cli.remote.words import ago, count_line, size, some, when
from sendense.model.fleet import HostHealth
from sendense.model.protection import Protection

_SHOWN = 10
_JOBS = 5
_FINE = frozenset({Protection.PROTECTED.value, Protection.NEW.value})
_SICK = frozenset({HostHealth.SILENT.value, HostHealth.FAILED.value, HostHealth.WARNING.value})


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("status")(status)


@asks
def status(remote: Remote) -> ExitCode:
    """Show the state of everything; what needs attention is exit code 6."""
    client = remote.client
    found = client.get("/status")
    unwell = [agent for agent in client.every("/agents") if agent["health"] in _SICK]
    running = _jobs(remote, "running")
    failed = _jobs(remote, "failed")
    needs = bool(unwell) or any(
        count for name, count in found.part("instances").items() if name not in _FINE
    )
    document = {
        **found, "unwell_hosts": unwell, "running_jobs": running, "failed_jobs": failed,
        "needs_attention": needs,
    }  # fmt: skip
    parts: list[Any] = [_summary(found)]
    parts += _attention(remote, found)
    if unwell:
        parts += ["", _unwell(unwell)]
    for title, jobs in (("running", running), ("failed last", failed)):
        if jobs:
            parts += ["", jobs_sheet(remote.names, jobs, title=f"jobs, {title}")]
    parts += ["", "something needs attention" if needs else "all is well"]
    remote.show(document, *parts)
    return ExitCode.DAMAGED if needs else ExitCode.OK


def _jobs(remote: Remote, state: str) -> list[Doc]:
    return list(islice(remote.client.every("/jobs", page_size=_JOBS, state=state), _JOBS))


def _summary(found: Doc) -> Any:  # noqa: ANN401 - a cell
    growth = found.part("growth")
    return pairs(
        [
            ("at", when(found.moment("at"))),
            ("instances", count_line(found.part("instances"), (each.value for each in Protection))),
            *_left_out(found),
            ("hosts", count_line(found.part("hosts")) or "none is known"),
            ("open jobs", count_line(found.part("jobs")) or "none"),
            ("points", f"{found['points']}, {size(found['stored_bytes'])} stored"),
            (
                "growth",
                f"{size(growth['day'])} in a day, {size(growth['week'])} in a week, "
                f"{size(growth['month'])} in a month",
            ),
        ]
    )


def _left_out(found: Doc) -> list[tuple[str, str]]:
    count = int(found.get("clouds_own", 0))
    machines = "1 machine" if count == 1 else f"{count} machines"
    return [("left out", f"{machines} that CloudStack makes for itself")] if count else []


def _attention(remote: Remote, found: Doc) -> list[Any]:
    wanting = found.parts("attention")
    if not wanting:
        return []
    sheet = protection_sheet(remote, wanting[:_SHOWN], "instances that are not protected")
    parts: list[Any] = ["", sheet]
    counts = found.part("instances")
    left = sum(counts.values()) - counts.get(Protection.PROTECTED.value, 0) - len(sheet.rows)
    more = f"and {left} more: sendense instance protection"
    return [*parts, more] if left > 0 else parts


def _unwell(agents: list[Doc]) -> Sheet:
    columns = (Column("host"), Column("health"), Column("last seen"), Column("because", fold=True))
    rows = [
        (str(each["host"]), str(each["health"]), ago(each.moment("last_seen")), _complaint(each))
        for each in agents[:_SHOWN]
    ]
    return Sheet(columns, rows, title="hosts that need attention")


def _complaint(agent: Doc) -> str:
    if agent["health"] == HostHealth.SILENT.value:
        return "its agent says nothing"
    bad = [check["message"] for check in agent.parts("checks") if check["level"] != "ok"]
    return some("; ".join(map(str, bad)))
