"""What is said of jobs: how far they are, what they wait for, and how they ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from sendense.cli.failures import code_of
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.job_view import error_of_job, job_parts, progress_words, waiting_words
from sendense.cli.remote.words import ago
from sendense.clock import now
from sendense.errors import SendenseError

QUEUED = {"id": "j", "state": "queued", "not_before": None, "failure": None, "progress": None}


def job(**fields):
    return Doc({**QUEUED, "attempt": 1, **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "waits for its turn"),
        ({"progress": {"reason": "host kvm1 is full"}}, "waits for its turn: host kvm1 is full"),
        ({"not_before": "2099-01-01T00:00:00Z"}, "waits until 2099-01-01 00:00:00 UTC"),
        ({"not_before": "2020-01-01T00:00:00Z"}, "waits for its turn"),
        (
            {"attempt": 2, "failure": Doc(message="it is away"),
             "not_before": "2099-01-01T00:00:00Z"},
            "attempt 2 waits: it is away; tried again at 2099-01-01 00:00:00 UTC",
        ),
        ({"state": "running", "progress": {"phase": "waiting", "reason": "a window"}}, "a window"),
        ({"state": "running"}, ""),
    ],
)  # fmt: skip
def test_what_a_job_waits_for(fields, said):
    assert waiting_words(job(**fields)) == said


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (None, ""),
        ({"phase": "waiting"}, "waiting"),
        ({"done_bytes": 512, "total_bytes": 1024}, "512 B of 1.0 KiB (50%)"),
        ({"done_bytes": 0, "total_bytes": 0}, "0 B of 0 B"),
        ({"done_bytes": "many", "total_bytes": 7, "phase": "backup"}, "backup"),
    ],
)
def test_how_far_it_is(progress, said):
    assert progress_words(job(state="running", progress=progress)) == said
    assert progress_words(job(state="succeeded", progress=progress)) == ""


class TestMade:
    """What a restore into a cloud made is told in words."""

    RESULT: ClassVar = {
        "point": "p1", "instance": "i9", "made": {"was": "v7"},
        "new": [
            {"kind": "instance", "name": "web1-copy", "id": "i9"},
            {"kind": "volume", "name": "DATA-28", "id": "v7"},
        ],
    }  # fmt: skip

    def shown(self, result):
        names: Any = SimpleNamespace(
            instance_name=str, host_name=lambda _: "", repository_name=lambda _: ""
        )
        moments = dict.fromkeys(("created_at", "started_at", "finished_at"))
        found = job(
            **moments, kind="restore", subject="i1", state="succeeded", requested_by="ada",
            priority=0, host_id=None, repository_id=None, content={}, result=result,
        )  # fmt: skip
        return "\n".join(map(str, job_parts(names, found)))

    def test_kind_name_and_id(self):
        shown = self.shown(self.RESULT)
        assert "instance web1-copy (i9)" in shown
        assert "volume DATA-28 (v7)" in shown
        assert "was v7" not in shown

    def test_of_an_older_server(self):
        assert "was v7" in self.shown({"made": {"was": "v7"}})


@pytest.mark.parametrize(
    ("state", "failure", "code"),
    [
        ("succeeded", None, None),
        ("cancelled", None, 130),
        ("failed", None, 1),
        ("failed", Doc(code="failed", message="m", hint=None), 1),
        ("failed", Doc(code="damaged", message="m", hint=None), 6),
        ("failed", Doc(code="busy", message="m", hint="h"), 4),
        ("failed", Doc(code="of-tomorrow", message="m", hint=None), 5),
    ],
)
def test_how_it_ended(state, failure, code):
    error = error_of_job(job(state=state, failure=failure))
    assert (None if error is None else code_of(error)) == code
    assert error is None or isinstance(error, SendenseError)


def test_how_long_ago():
    assert ago(None) == "never"
    assert ago(now()) == "1 s ago"
    assert ago(Doc(at="2020-01-01T00:00:00Z").moment("at")).endswith("days ago")
