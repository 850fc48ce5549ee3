"""How jobs look: in lists, in full, and at their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sendense import clock
from sendense.cli.output import Cell, Column, Sheet, pairs
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.names import Names
from sendense.cli.remote.words import ago, size, some, when
from sendense.errors import Cancelled, SendenseError
from sendense.model.job import JobKind, JobState
from sendense.units import format_seconds

_LISTED: Final = 20
_OF_INSTANCES: Final = (JobKind.BACKUP, JobKind.RESTORE)


def jobs_sheet(names: Names, jobs: Sequence[Doc], title: str | None = None) -> Sheet:
    """Lay out jobs, one in a line."""
    columns = (
        Column("job"),
        Column("kind"),
        Column("about"),
        Column("state"),
        Column("progress", minor=1),
        Column("created", minor=2),
        Column("took", minor=4),
        Column("host", minor=5),
        Column("by", minor=6),
        Column("note", fold=True, minor=3),
    )
    rows = [
        (
            str(job["id"]),
            str(job["kind"]),
            about(names, job),
            str(job["state"]),
            progress_words(job),
            ago(job.moment("created_at")),
            took(job),
            names.host_name(job["host_id"]),
            str(job["requested_by"]),
            _note(job),
        )
        for job in jobs
    ]
    return Sheet(columns, rows, title=title)


def ends_sheet(names: Names, jobs: Sequence[Doc]) -> Sheet:
    """Lay out how several jobs ended, one in a line; each in full is a ``job show`` away."""
    columns = (
        Column("about"),
        Column("state"),
        Column("mode"),
        Column("read", right=True),
        Column("stored", right=True, minor=1),
        Column("frozen", right=True, minor=3),
        Column("took", right=True, minor=2),
        Column("warnings", right=True),
        Column("job", minor=4),
    )
    rows = []
    for job in jobs:
        result = job["result"] or {}
        rows.append(
            (
                about(names, job),
                str(job["state"]),
                str(result.get("mode", "")),
                size(result.get("read_bytes")),
                size(result.get("stored_bytes")),
                format_seconds(result["frozen_s"]) if result.get("frozen_s") else "",
                took(job),
                str(len(result.get("warnings") or ()) or ""),
                str(job["id"]),
            )
        )
    return Sheet(columns, rows)


def about(names: Names, job: Doc) -> str:
    """Say what a job is about, by its name."""
    subject = str(job["subject"])
    if job["kind"] in _OF_INSTANCES:
        return names.instance_name(subject)
    if job["kind"] == JobKind.DISCOVER:
        if subject == "*":
            return "all hosts"
        # Of a cloud no host is named, and the other way round.
        return names.host_name(subject) if job["host_id"] else names.cloud_name(subject)
    if subject == job["content"].get("machine"):
        # Pruning behind a backup is about one instance, wherever its points are.
        return names.instance_name(subject)
    return names.repository_name(subject)


def title_of(names: Names, job: Doc) -> str:
    """Name a job: ``backup of web1``."""
    return f"{job['kind']} of {about(names, job)}"


def is_final(job: Doc) -> bool:
    """Tell whether nothing more will happen to a job."""
    return job["state"] in {
        JobState.SUCCEEDED.value, JobState.FAILED.value, JobState.CANCELLED.value,
    }  # fmt: skip


def progress_words(job: Doc) -> str:
    """Write how far a job has come."""
    progress = job["progress"] or {}
    if is_final(job) or not progress:
        return ""
    done, total = progress.get("done_bytes"), progress.get("total_bytes")
    if not isinstance(done, int) or not isinstance(total, int):
        return str(progress.get("phase", ""))
    share = f" ({100 * done // total}%)" if total else ""
    return f"{size(done)} of {size(total)}{share}"


def waiting_words(job: Doc) -> str:
    """Write why a job that has not ended does not move; nothing where it does."""
    progress = job["progress"] or {}
    if job.get("waits_for"):
        return f"waits: {job['waits_for']}"
    if job["state"] == JobState.QUEUED.value:
        after = job.moment("not_before")
        if job["failure"]:
            again = f"; tried again at {when(after)}" if after else ""
            return f"attempt {int(job['attempt'])} waits: {job['failure']['message']}{again}"
        if after and after > clock.now():
            return f"waits until {when(after)}"
        return "waits for its turn" + (f": {progress['reason']}" if progress.get("reason") else "")
    return str(progress.get("reason") or "")


def took(job: Doc) -> str:
    """Write how long a job took, or takes so far."""
    began = job.moment("started_at")
    if began is None:
        return ""
    end = job.moment("finished_at") or clock.now()
    return format_seconds(max(0.0, (end - began).total_seconds()))


def error_of_job(job: Doc) -> SendenseError | None:
    """Give why a job that has ended did not do its work; none where it did."""
    from sendense.fleet.problems import error_of

    if job["state"] == JobState.CANCELLED.value:
        told = job.part("failure")
        hint = told["hint"] if told and told["code"] == Cancelled.code else None
        return Cancelled(f"the job {job['id']} was cancelled", hint=hint)
    if job["state"] != JobState.FAILED.value:
        return None
    failure = job.part("failure")
    if not failure:
        return SendenseError(f"the job {job['id']} failed", hint="the server's log says why")
    if failure["code"] == SendenseError.code:
        return SendenseError(failure["message"], hint=failure["hint"], job=job["id"])
    return error_of(failure["code"], failure["message"], hint=failure["hint"], job=job["id"])


def job_parts(names: Names, job: Doc, attempts: Sequence[Doc] = ()) -> list[Any]:
    """Lay out all that is known of a job."""
    facts = [
        ("job", str(job["id"])),
        ("kind", str(job["kind"])),
        ("about", f"{about(names, job)} ({job['subject']})"),
        ("state", str(job["state"])),
        ("asked by", str(job["requested_by"])),
        ("created", when(job.moment("created_at"))),
        ("began", when(job.moment("started_at"))),
        ("ended", when(job.moment("finished_at"))),
        ("took", some(took(job))),
        ("attempt", str(job["attempt"])),
        ("priority", str(job["priority"])),
        ("host", some(names.host_name(job["host_id"]))),
        ("repository", some(names.repository_name(job["repository_id"]))),
    ]
    facts += [
        (name, value)
        for name, value in (
            ("progress", progress_words(job)),
            ("waits", "" if is_final(job) else waiting_words(job)),
        )
        if value
    ]
    parts: list[Sheet | Cell] = [pairs(facts)]
    asked = dict(job["content"])
    if asked.get("to"):
        asked["to"] = names.repository_name(str(asked["to"]))
    parts += _described("asked for", asked) + _described("result", _told(job["result"]))
    failure = job.part("failure")
    if failure:
        parts.append(f"failure: {failure['message']} ({failure['code']})")
        if failure["hint"]:
            parts.append(f"  hint: {failure['hint']}")
    if attempts:
        parts.append(_attempts_sheet(attempts))
    return parts


def _described(title: str, content: object) -> list[Sheet | Cell]:
    """Lay out an object whose fields depend on the kind of job."""
    if not isinstance(content, dict):
        return []
    told = [(f"  {name}", _value(name, value)) for name, value in _said(content)]
    return [f"{title}:", pairs(told)] if told else []


def _told(result: object) -> object:
    """Say in words what a restore into a cloud made; its ids alone tell nobody what they are of."""
    if not isinstance(result, dict) or not isinstance(result.get("new"), list):
        return result
    made = [f"{each['kind']} {each['name']} ({each['id']})" for each in result["new"]]
    return {**{name: result[name] for name in result if name != "new"}, "made": made}


def _said(content: dict[str, Any]) -> list[tuple[str, Any]]:
    """Leave out what says nothing."""
    return [
        (name, value)
        for name, value in content.items()
        if value not in (None, [], {}, "") and value is not False
    ]


def _value(name: str, value: object) -> str:
    if value is True:
        return "yes"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(key, each)}" for key, each in _said(value))
    if isinstance(value, list):
        if len(value) > _LISTED:
            return f"{len(value)} of them"
        lines = any(isinstance(each, dict) or " " in str(each) for each in value)
        return ("\n" if lines else ", ").join(_value("", each) for each in value)
    if isinstance(value, (int, float)):
        if name.endswith("_bytes"):
            return size(value)
        if name == "seconds" or name.endswith("_s"):
            return format_seconds(value)
    return str(value)


def _attempts_sheet(attempts: Sequence[Doc]) -> Sheet:
    columns = (
        Column("attempt", right=True),
        Column("worker", minor=1),
        Column("took"),
        Column("then", fold=True),
        Column("because", fold=True),
    )
    rows = [
        (
            str(each["attempt"]),
            str(each["worker"]),
            took(each),
            str(each["then"]),
            str((each["failure"] or {}).get("message", "")),
        )
        for each in attempts
    ]
    return Sheet(columns, rows)


def _note(job: Doc) -> str:
    if is_final(job):
        return str((job["failure"] or {}).get("message", ""))
    if job["cancel_requested"]:
        return "is being cancelled"
    return waiting_words(job)
