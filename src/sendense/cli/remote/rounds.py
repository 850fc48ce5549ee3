"""``sendense policy run`` and ``rounds``: a policy at once, and what became of its due times."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.output import Column, Sheet
from sendense.cli.remote.frame import SOME, Limit, Remote, Taken, asks
from sendense.cli.remote.words import when
from sendense.cli.text import counted, yes
from sendense.model.job import JobKind

PolicyArgument = Annotated[
    str, typer.Argument(metavar="POLICY", help="Name or id.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Put the commands into the group of policies."""
    app.command("run")(run_policy)
    app.command("rounds")(list_rounds)


@asks
def run_policy(
    remote: Remote,
    policy: PolicyArgument,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Watch its backups until they have ended.")
    ] = False,
) -> ExitCode:
    """Run a policy now: a backup of each instance that it takes, unless one waits or runs."""
    from sendense.cli.remote.watching import tell_ends, watch

    found = remote.names.policy(policy)
    made = remote.client.post(f"/policies/{found['id']}/run")
    backups = counted(int(made["submitted"]), "backup")
    said = f"{found['name']}: {backups} submitted; {made['reason']}"
    if not (wait and made["submitted"]):
        remote.show({"round": made}, said)
        return ExitCode.OK
    remote.note(said)
    jobs = remote.client.every("/jobs", policy_id=found["id"], kind=JobKind.BACKUP.value)
    # The newest come first; what waited or ran before is none of this round.
    return tell_ends(remote, watch(remote, list(islice(jobs, int(made["submitted"])))))


@asks
def list_rounds(remote: Remote, policy: PolicyArgument, limit: Limit = SOME) -> None:
    """List the rounds of a policy, newest first: what was submitted, skipped, missed or late."""
    found = remote.names.policy(policy)
    taken = Taken(remote.client.every(f"/policies/{found['id']}/rounds"), limit)
    columns = (
        Column("due"),
        Column("seen", minor=3),
        Column("backups", right=True),
        Column("skipped", right=True),
        Column("missed", right=True),
        Column("late", minor=1),
        Column("because", fold=True, minor=2),
    )
    rows = [
        (
            when(each.moment("due")),
            when(each.moment("at")),
            str(each["submitted"]),
            str(each["skipped"]),
            str(each["missed"]),
            yes(bool(each["late"])),
            str(each["reason"]),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else f"{found['name']} has had no round yet"
    remote.show(taken.document("rounds"), part)
    taken.tell(remote)
