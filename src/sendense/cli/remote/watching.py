"""Watching jobs until they have ended, with their progress on standard error.

Ctrl-C ends the watching and leaves the job alone: it is the server's, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sendense.cli import failures
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.output import pairs
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.events import follow
from sendense.cli.remote.frame import Remote
from sendense.cli.remote.job_view import (
    ends_sheet,
    error_of_job,
    is_final,
    job_parts,
    title_of,
    waiting_words,
)
from sendense.errors import Busy, Cancelled, Unavailable
from sendense.model.job import JobState
from sendense.model.progress import Progress, ProgressListener


def watch(remote: Remote, jobs: Sequence[Doc]) -> list[Doc]:
    """Watch jobs, one after the other, until each has ended; gives how they ended."""
    ended: list[Doc] = []
    for job in jobs:
        try:
            ended.append(_watch_one(remote, job))
        except KeyboardInterrupt:
            raise _stopped(jobs[len(ended) :]) from None
    return ended


def tell_ends(remote: Remote, jobs: Sequence[Doc]) -> ExitCode:
    """Show how jobs ended; the exit code is that of the worst failure."""
    errors = [(job, error_of_job(job)) for job in jobs]
    codes = {failures.code_of(error): error for _, error in errors if error is not None}
    code = worst(codes)
    document: dict[str, Any] = {"job": jobs[0]} if len(jobs) == 1 else {"jobs": list(jobs)}
    if codes:
        document["error"] = failures.describe(codes[code])
    one = len(jobs) == 1
    remote.show(
        document, *(_end_parts(remote, jobs[0]) if one else [ends_sheet(remote.names, jobs)])
    )
    if not remote.options.as_json:
        for job, error in errors:
            if error is not None:
                failures.tell(error, remote.run.output, about=title_of(remote.names, job))
    return code


def tell_submitted(remote: Remote, jobs: Sequence[Doc]) -> None:
    """Show jobs that the server took."""
    document: dict[str, Any] = {"job": jobs[0]} if len(jobs) == 1 else {"jobs": list(jobs)}
    remote.show(
        document, *(f"{title_of(remote.names, job)}: job {job['id']} is queued" for job in jobs)
    )
    if not remote.options.as_json:
        remote.note(f"to watch: sendense job watch {' '.join(str(job['id']) for job in jobs)}")


def _watch_one(remote: Remote, job: Doc) -> Doc:
    title = title_of(remote.names, job)
    told, now = "", job
    with remote.run.progress(title) as listener:
        for now in follow(remote.client, str(job["id"])):
            if now["state"] == JobState.QUEUED.value:
                # The stream tells what happens; why nothing does is told to who asks.
                with suppress(Unavailable, Busy):
                    now = remote.client.get(f"/jobs/{job['id']}")
            words = "" if is_final(now) else waiting_words(now) or str(now["state"])
            if words and words != told and not remote.options.as_json:
                remote.note(f"{title}: {words}")
            told = words
            _report(now, listener)
    return now


def _report(job: Doc, listener: ProgressListener) -> None:
    """Pass the progress of a job on."""
    progress = job["progress"]
    if not isinstance(progress, dict) or not isinstance(progress.get("done_bytes"), int):
        return
    elapsed = progress.get("elapsed_s")
    listener(
        Progress(
            phase=str(progress.get("phase", "")),
            # Of all its parts together: a job may have hundreds of them.
            subject="" if job["attempt"] == 1 else f"(attempt {job['attempt']})",
            done=int(progress["done_bytes"]),
            total=int(progress.get("total_bytes") or 0),
            elapsed_s=float(elapsed) if isinstance(elapsed, (int, float)) else 0.0,
        )
    )


def _end_parts(remote: Remote, job: Doc) -> list[Any]:
    if job["state"] == JobState.SUCCEEDED.value:
        return [f"{title_of(remote.names, job)}: done", *job_parts(remote.names, job)[1:]]
    return [pairs([("job", str(job["id"])), ("state", str(job["state"]))])]


def _stopped(jobs: Sequence[Doc]) -> Cancelled:
    ids = " ".join(str(job["id"]) for job in jobs)
    it = "the job goes on" if len(jobs) == 1 else "the jobs go on"
    return Cancelled(
        f"no longer watching; {it} at the server",
        hint=f"to end it: sendense job cancel {ids}; to watch it again: sendense job watch {ids}",
    )
