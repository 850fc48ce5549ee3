"""Following one job: by its stream of events, and where there is none by asking now and then.

A stream may end at any moment: a proxy that is impatient, a server that is restarted.  Then the
job is asked for, and the stream begun again, until the job has ended.  A server that stays away for
too long ends the watching, and never the job.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

from sendense import clock
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.client import Client
from sendense.cli.remote.job_view import is_final
from sendense.errors import Busy, NotFound, Stalled, Unavailable

_LOG = logging.getLogger(__name__)

PATIENCE_S = 300.0
"""So long a server may be away while a job is watched."""
_POLL_S = 2.0
_SILENT_S = 45.0
"""The server writes a sign of life every 15 seconds."""


def follow(
    client: Client, job_id: str, *, patience_s: float = PATIENCE_S, poll_s: float = _POLL_S
) -> Iterator[Doc]:
    """Give a job whenever it has changed, and at last as it ended."""
    last: Doc | None = None
    heard = clock.monotonic()
    while True:
        try:
            for job in _once(client, job_id):
                heard = clock.monotonic()
                if job != last:
                    yield job
                last = job
                if is_final(job):
                    return
        except (Unavailable, Busy) as error:
            if clock.monotonic() - heard > patience_s:
                raise Stalled(
                    f"the server is away; the job may go on without us: {error.message}",
                    hint=f"sendense job watch {job_id}",
                    job=job_id,
                ) from error
            _LOG.info("%s; watching goes on", error.message)
        clock.sleep(poll_s)


def _once(client: Client, job_id: str) -> Iterator[Doc]:
    """Give what one stream tells; just the job where there is no stream to be had."""
    try:
        with client.stream(f"/jobs/{job_id}/events", silent_s=_SILENT_S) as lines:
            yield from _jobs_in(lines)
    except (Unavailable, Busy, NotFound) as error:
        _LOG.info("no stream of events (%s); asking instead", error.message)
    yield client.get(f"/jobs/{job_id}")


def _jobs_in(lines: Iterator[str]) -> Iterator[Doc]:
    """Read the jobs out of a stream; what else may be in it is left alone."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            text, data = "\n".join(data), []
            try:
                job = json.loads(text, object_hook=Doc)
            except ValueError:
                raise Unavailable("the stream of events holds what is no event") from None
            if isinstance(job, Doc) and "state" in job:
                yield job
