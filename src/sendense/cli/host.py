"""``sendense doctor``, ``release`` and ``version``: this host, and what we left on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sendense import __version__
from sendense.cli.exitcodes import ExitCode
from sendense.cli.options import command
from sendense.cli.output import Cell, Column, Report, Sheet
from sendense.cli.run import Run
from sendense.errors import SendenseError
from sendense.model.finding import Finding, Level
from sendense.workflows.doctor import examine, repair
from sendense.workflows.release import release


def register(app: typer.Typer) -> None:
    """Put the commands into the program."""
    app.command("doctor")(doctor)
    app.command("release")(release_machine)
    app.command("version")(version)


@command
def doctor(
    run: Run,
    mend: Annotated[
        bool,
        typer.Option("--repair", help="Take back what dead runs left, and make our folders."),
    ] = False,
) -> ExitCode:
    """Look at everything a backup needs on this host; a problem is exit code 6."""
    with run.host() as host:
        done = repair(host, run.settings, run.open_location) if mend else ()
        findings = examine(host, run.settings)
    run.show(Report(_document(findings, done), _parts(findings, done)))
    sick = any(finding.level is Level.PROBLEM for finding in findings)
    return ExitCode.DAMAGED if sick else ExitCode.OK


def _document(findings: Sequence[Finding], done: Sequence[str]) -> dict[str, Any]:
    return {
        "findings": [
            {
                "check": finding.check,
                "level": finding.level.value,
                "message": finding.message,
                "fix": finding.fix,
            }
            for finding in findings
        ],
        "repaired": list(done),
    }


def _parts(findings: Sequence[Finding], done: Sequence[str]) -> list[Sheet | Cell]:
    columns = (
        Column("level"),
        Column("check"),
        Column("finding", fold=True),
        Column("fix", fold=True),
    )
    rows = [
        (finding.level.value, finding.check, finding.message, finding.fix or "")
        for finding in findings
    ]
    return [*(f"repaired: {line}" for line in done), Sheet(columns, rows)]


@command
def release_machine(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="MACHINE", help="Name or UUID.")],
) -> None:
    """Take our bitmaps and checkpoints off a machine; its next backup is a full."""
    with run.host() as host:
        result = release(host, run.settings, host.find(name), run.open_location)
    document = {
        "machine": result.machine.name,
        "dropped": list(result.dropped),
        "repaired": list(result.repaired),
    }
    lines = [f"after a dead run: {line}" for line in result.repaired]
    lines += [f"dropped {one}" for one in result.dropped]
    run.show(Report(document, lines or [f"nothing of ours is on {result.machine.name}"]))


@command
def version(run: Run) -> None:
    """Show our version, libvirt's and QEMU's."""
    trouble = None
    try:
        with run.host() as host:
            host.machines()
            versions = host.versions
    except SendenseError as error:
        versions, trouble = f"sendense {__version__}", error.message
    document = {"sendense": __version__, "versions": versions, "host_error": trouble}
    parts: list[Sheet | Cell] = [versions]
    if trouble:
        run.note(f"libvirt and QEMU are not known: {trouble}")
    run.show(Report(document, parts))
