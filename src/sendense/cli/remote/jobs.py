"""``sendense job``: looking at jobs, watching them, ending them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.remote import job_requests
from sendense.cli.remote.frame import SOME, Limit, Remote, Taken, asks
from sendense.cli.remote.names import as_id
from sendense.model.job import JobKind, JobState

app = typer.Typer(name="job", help="Jobs of the server.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Its id.", show_default=False)]
JobArguments = Annotated[
    list[str], typer.Argument(metavar="JOB", help="Their ids.", show_default=False)
]


@app.command("list")
@asks
def list_jobs(
    remote: Remote,
    *,
    kind: Annotated[JobKind | None, typer.Option(help="Only of this kind.")] = None,
    state: Annotated[
        list[JobState] | None,
        typer.Option(help="Only in this state; may be given several times."),
    ] = None,
    about: Annotated[
        str | None, typer.Option("--about", metavar="INSTANCE", help="Only about this instance.")
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="HOST", help="Only on this host.")
    ] = None,
    in_: Annotated[
        str | None,
        typer.Option("--in", metavar="REPOSITORY", help="Only with this repository."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Only those of this policy.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="USER", help="Only those that this user asked for."),
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List jobs, newest first."""
    from sendense.cli.remote.job_view import jobs_sheet

    names = remote.names
    found = remote.client.every(
        "/jobs",
        kind=kind.value if kind else None,
        state=[each.value for each in state] if state else None,
        subject=names.machine_uuid(about),
        host_id=names.host_id(on),
        repository_id=names.repository_id(in_),
        policy_id=str(names.policy(policy)["id"]) if policy else None,
        requested_by=by,
    )
    taken = Taken(found, limit)
    part = jobs_sheet(names, taken.items) if taken.items else "there is no such job"
    remote.show(taken.document("jobs"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_job(remote: Remote, job: JobArgument) -> None:
    """Show a job, with all attempts at it."""
    from sendense.cli.remote.job_view import job_parts

    path = f"/jobs/{as_id(job, 'job')}"
    found = remote.client.get(path)
    attempts = remote.client.get_list(f"{path}/attempts")
    remote.show({"job": found, "attempts": attempts}, *job_parts(remote.names, found, attempts))


@app.command("watch")
@asks
def watch_jobs(remote: Remote, jobs: JobArguments) -> ExitCode:
    """Watch jobs until they have ended; Ctrl-C leaves them alone."""
    from sendense.cli.remote.watching import tell_ends, watch

    found = [remote.client.get(f"/jobs/{as_id(job, 'job')}") for job in jobs]
    return tell_ends(remote, watch(remote, found))


@app.command("cancel")
@asks
def cancel_jobs(
    remote: Remote,
    jobs: JobArguments,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until what they did was taken back.")
    ] = False,
) -> None:
    """Ask for the end of jobs; what they did is taken back."""
    from sendense.cli.remote.watching import watch

    found = [remote.client.post(f"/jobs/{as_id(job, 'job')}/cancel") for job in jobs]
    if wait:
        found = watch(remote, found)
    document: dict[str, Any] = {"job": found[0]} if len(found) == 1 else {"jobs": found}
    remote.show(document, *(f"job {job['id']} is {job['state']}" for job in found))


job_requests.register(app)
