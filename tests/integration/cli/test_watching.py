"""Watching jobs: to their end, through a server that goes away, and until somebody has enough."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from sendense import clock
from sendense.catalog.jobs import JobNews
from sendense.cli.remote import events, job_view, watching
from sendense.model.access import Role
from sendense.model.job import Job, JobFailure, JobState
from tests.support.fleet import NOW
from tests.support.tcp_way import TcpWay
from tests.unit.cli.terminal import ROOT, Terminal


@pytest.fixture
def jobs(site):
    return site.catalog.jobs


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(events, "_POLL_S", 0.1)
    monkeypatch.setitem(events.follow.__kwdefaults__, "poll_s", 0.1)


@contextmanager
def meanwhile(work):
    """Do something beside the command."""
    failures = []

    def run():
        try:
            work()
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()
    assert not failures


def begins(jobs, job_id="job-u1"):
    jobs.move(job_id, JobState.QUEUED, JobState.RUNNING, clock.now())


def ends(jobs, job_id="job-u1", state=JobState.SUCCEEDED, **news):
    jobs.move(job_id, JobState.RUNNING, state, clock.now(), JobNews(**news))


def waits_for_a_watcher(site):
    end = clock.monotonic() + 120
    while site.services.streams.open == 0:
        assert clock.monotonic() < end, "nobody watches"
        clock.sleep(0.02)


def test_from_queue_to_end(person, jobs, monkeypatch):
    asked, words = threading.Event(), job_view.waiting_words

    def noted(job):
        asked.set()
        return words(job)

    monkeypatch.setattr(watching, "waiting_words", noted)

    def work():
        # Before it was asked why the job waits there is nothing to tell.
        asked.wait(120)
        begins(jobs)
        for done in (256, 1024):
            jobs.report(
                "job-u1",
                {"phase": "backup", "done_bytes": done, "total_bytes": 1024, "elapsed_s": 1.0},
            )
            clock.sleep(2.5)
        ends(jobs, result={"point": "p9", "read_bytes": 1024})

    with meanwhile(work):
        answer = person("job", "watch", "job-u1", "--progress", "json")
    assert answer.code == 0, answer
    told = [json.loads(line) for line in answer.err.splitlines() if line.startswith("{")]
    assert told[-1]["progress"]["done"] == 1024
    assert "backup of vm-u1: waits: no worker is there" in answer.err
    assert "backup of vm-u1: running" in answer.err
    assert "backup of vm-u1: done" in answer.out
    assert "1.0 KiB" in answer.out


def test_one_that_fails(person, jobs):
    begins(jobs)
    failure = JobFailure("out-of-space", "the scratch area is full", "make room")
    ends(jobs, state=JobState.FAILED, failure=failure)
    answer = person.refused("job", "watch", "job-u1", code=7, says="the scratch area is full")
    assert "make room" in answer.err
    document = person.json("job", "watch", "job-u1", code=7)
    assert document["error"]["code"] == "out-of-space"
    assert document["job"]["state"] == "failed"


def test_several_end_with_the_worst(person, jobs):
    begins(jobs)
    ends(jobs)
    begins(jobs, "job-u2")
    ends(jobs, "job-u2", JobState.FAILED, failure=JobFailure("damaged", "a byte is wrong", None))
    document = person.json("job", "watch", "job-u1", "job-u2", code=6)
    assert [job["state"] for job in document["jobs"]] == ["succeeded", "failed"]
    answer = person("job", "watch", "job-u1", "job-u2")
    lines = [line.split()[:2] for line in answer.out.splitlines()]
    assert lines == [["about", "state"], ["vm-u1", "succeeded"], ["vm-u2", "failed"]]
    assert "a byte is wrong" in answer.err


def new_ones_end(jobs, count):
    end = clock.monotonic() + 120
    new: list[Job] = []
    while len(new) < count and clock.monotonic() < end:
        new = [job for job in jobs.page().items if job.id not in ("job-u1", "job-u2")]
    for job in new:
        begins(jobs, job.id)
        ends(jobs, job.id)


def test_asked_for_and_watched(person, jobs):
    with meanwhile(lambda: new_ones_end(jobs, 1)):
        document = person.json("job", "gc", "main", "--wait")
    assert (document["job"]["kind"], document["job"]["state"]) == ("gc", "succeeded")


def test_a_round_is_watched_whole(person, jobs):
    with meanwhile(lambda: new_ones_end(jobs, 2)):
        document = person.json("policy", "run", "nightly", "--wait")
    assert {(job["subject"], job["state"]) for job in document["jobs"]} == {
        ("u1", "succeeded"),
        ("u2", "succeeded"),
    }


def test_one_that_is_cancelled(person, jobs, site):
    def work():
        waits_for_a_watcher(site)
        jobs.request_cancel("job-u1", NOW)

    with meanwhile(work):
        answer = person("job", "watch", "job-u1")
    assert answer.code == 130
    assert "was cancelled" in answer.err


def test_through_a_server_that_goes_away(person, jobs, site, monkeypatch):
    with TcpWay(urlsplit(site.url).port) as way:
        monkeypatch.setenv("SENDENSE_SERVER", way.url)

        def work():
            waits_for_a_watcher(site)
            way.cut()
            clock.sleep(0.5)
            begins(jobs)
            way.close()
            clock.sleep(0.5)
            ends(jobs)
            way.open()

        with meanwhile(work):
            answer = person("job", "watch", "job-u1")
    assert answer.code == 0, answer
    assert "backup of vm-u1: done" in answer.out


def test_a_server_that_stays_away(person, jobs, site, monkeypatch):
    monkeypatch.setitem(events.follow.__kwdefaults__, "patience_s", 0.5)
    with TcpWay(urlsplit(site.url).port) as way:
        monkeypatch.setenv("SENDENSE_SERVER", way.url)

        def work():
            waits_for_a_watcher(site)
            way.close()

        with meanwhile(work):
            answer = person.refused("job", "watch", "job-u1", code=5, says="the server is away")
    assert "sendense job watch job-u1" in answer.err


def test_without_a_stream_it_is_asked_for(person, jobs, site):
    site.services.streams.most = 0

    def work():
        clock.sleep(0.5)
        begins(jobs)
        ends(jobs)

    with meanwhile(work):
        assert person.json("job", "watch", "job-u1")["job"]["state"] == "succeeded"


def test_ctrl_c_leaves_the_job_alone(person, jobs, site):
    environment = {**os.environ, "SENDENSE_TOKEN": site.tokens[Role.OPERATOR]}
    process = subprocess.Popen(
        [sys.executable, "-c", "from sendense.cli.main import main; main()",
         "job", "watch", "job-u1"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    waits_for_a_watcher(site)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"the job goes on" in err
    assert b"sendense job cancel job-u1" in err
    assert b"taken back" not in err
    assert jobs.get("job-u1").state is JobState.QUEUED


def test_bars_on_a_terminal(person, jobs, site):
    begins(jobs)
    report = {"phase": "backup", "done_bytes": 512 << 20, "total_bytes": 1 << 30, "elapsed_s": 2.0}
    jobs.report("job-u1", report)
    with Terminal("job", "watch", "job-u1") as terminal:
        terminal.wait_for("512.0 MiB of 1.0 GiB")
        ends(jobs)
        assert terminal.end() == 0
    assert b"backup of vm-u1: done" in terminal.shown
