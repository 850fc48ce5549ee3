"""Jobs over a real server: replies that are lost, jobs that fail, and clouds that fall silent."""

import threading

import pytest

from sendense.cloudstack.jobs import AsyncJob
from sendense.cloudstack.refusals import Lost
from sendense.cloudstack.transport import Limits
from sendense.errors import (
    Busy,
    Cancelled,
    Conflict,
    Rejected,
    SendenseError,
    Stalled,
    Unavailable,
)
from sendense.model.secret import Secret
from tests.support.raw_cloud import Raw, refused

SECRET = Secret("very-secret-key")
QUICK = Limits(per_second=1000, connect_s=10, silent_s=20)


class Jobs:
    """A server with jobs; each is asked for so often before it ends."""

    def __init__(self, *, polls=1, keeps=True, end=None):
        self.polls, self.keeps = polls, keeps
        self.end = end or {"jobstatus": 1, "jobresultcode": 0, "jobresult": {"x": {"id": "v"}}}
        self.jobs = {}
        self.lose = 0
        """Requests whose replies do not arrive."""
        self.drop = 0
        """Requests that are not even carried out."""

    def __call__(self, form):
        if form["command"] == "queryAsyncJobResult":
            job = self.jobs.get(form["jobid"])
            if job is None:
                return refused("queryAsyncJobResult", 431, "Unable to find a job by id")
            self.jobs[form["jobid"]] -= 1
            return {"jobstatus": 0, "jobprocstatus": 0} if job > 0 else self.end
        if self.drop:
            self.drop -= 1
            return Raw(silent=True)
        job = form["customjobid"] if self.keeps else f"own-{len(self.jobs)}"
        self.jobs[job] = self.polls
        if self.lose:
            self.lose -= 1
            return Raw(silent=True)
        return {"jobid": job, "id": "v"}


def test_a_job_is_waited_for(serve):
    _, client = serve(Jobs(polls=2))
    checks = []
    assert client.run("attachVolume", check=lambda: checks.append(1), id="v") == {"x": {"id": "v"}}
    assert len(checks) >= 3


def test_a_lost_reply_finds_its_job(serve):
    jobs = Jobs()
    jobs.lose = 1
    cloud, client = serve(jobs)
    assert client.run("attachVolume", id="v") == {"x": {"id": "v"}}
    assert cloud.commands.count("attachVolume") == 1


def test_a_request_that_never_arrived_is_sent_again_under_its_id(serve):
    jobs = Jobs()
    cloud, client = serve(jobs)
    client.run("startVirtualMachine", id="a")
    jobs.drop = 1
    client.run("attachVolume", id="v")
    sent = [form for form in cloud.asked if form["command"] == "attachVolume"]
    assert len(sent) == 2
    assert sent[0]["customjobid"] == sent[1]["customjobid"]
    assert len(jobs.jobs) == 2


def test_a_lost_reply_without_ids_is_told(serve):
    jobs = Jobs(keeps=False)
    cloud, client = serve(jobs)
    client.run("startVirtualMachine", id="a")
    jobs.lose = 1
    with pytest.raises(Lost) as error:
        client.run("attachVolume", id="v")
    assert "before you do it again" in str(error.value.hint)
    assert cloud.commands.count("attachVolume") == 1
    assert "customjobid" not in cloud.asked[-1]


def test_the_first_lost_reply_of_a_cloud_that_keeps_no_ids(serve):
    jobs = Jobs(keeps=False)
    jobs.lose = 1
    cloud, client = serve(jobs)
    with pytest.raises(Lost):
        client.start("attachVolume", id="v")
    assert cloud.commands.count("attachVolume") == 1


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ({"jobstatus": 2, "jobresult": {"errorcode": 530, "errortext": "it broke"}}, SendenseError),
        ({"jobstatus": 2, "jobresult": {"errorcode": 533, "errortext": "full"}}, Busy),
        ({"jobstatus": 2, "jobresult": {"errorcode": 431, "errortext": "is wrong"}}, Rejected),
        (
            {
                "jobstatus": 2,
                "jobresult": {
                    "errorcode": 530,
                    "errortext": "job cancelled because of management server restart",
                },
            },
            Unavailable,
        ),
        ({"jobstatus": 3, "jobresult": {"errortext": "by an operator"}}, Conflict),
        ({"jobstatus": 2}, SendenseError),
        ({"jobstatus": 1, "jobresultcode": 530, "jobresult": {"errortext": "no"}}, SendenseError),
    ],
)
def test_a_job_that_fails(serve, end, kind):
    _, client = serve(Jobs(polls=0, end=end))
    with pytest.raises(SendenseError) as error:
        client.run("attachVolume", id="v")
    assert type(error.value) is kind


def test_a_job_that_is_forgotten(serve):
    _, client = serve(Jobs())
    with pytest.raises(Unavailable, match="no longer knows the job"):
        client.wait(AsyncJob("gone", "", "attachVolume"))


def test_a_silent_cloud_is_given_up_and_a_slow_job_is_not(serve):
    jobs = Jobs(polls=4)
    cloud, client = serve(jobs)
    job = client.start("attachVolume", id="v")
    # Longer than the stall time, but it answers: that is no stall.
    client.wait(job, stall_s=0.4)
    job = client.start("attachVolume", id="v")
    cloud.answer = lambda form: Raw(silent=True)
    with pytest.raises(Stalled, match="has not told for 0 s how attachVolume goes"):
        client.wait(job, stall_s=0.4)


def test_who_waits_can_be_stopped(serve):
    _, client = serve(Jobs(polls=10**9))
    job = client.start("attachVolume", id="v")
    stop = threading.Event()

    def check():
        if stop.is_set():
            raise Cancelled("enough")

    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Cancelled):
        client.wait(job, check=check)


def test_what_is_done_at_once_is_no_job(serve):
    _, client = serve(lambda form: {"success": "true"})
    assert client.run("updateVirtualMachine", id="v") == {"success": "true"}
