"""Asks a simulated management server, as simply as the protocol allows."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from sendense_lab.simulator import Keys, Simulator, signing

WAIT_S = 120


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status, body, headers):
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.code = body["errorcode"]
        self.text = body["errortext"]
        self.headers = headers


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    data: bytes

    @property
    def document(self):
        return json.loads(self.data, strict=False)


@dataclass(frozen=True)
class Asker:
    """Somebody with a key."""

    simulator: Simulator
    keys: Keys

    def send(self, params, *, method="POST", timeout=WAIT_S):
        """Send a request as it is, and give whatever comes."""
        parts = urlsplit(self.simulator.url)
        form = urlencode(params)
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
        try:
            if method == "POST":
                head = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", parts.path, form, head)
            else:
                connection.request("GET", f"{parts.path}?{form}")
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def signed(self, command, **params):
        given = {"command": command, "response": "json"}
        given |= {name: str(value) for name, value in params.items()}
        return signing.signed(given, *self.keys)

    def __call__(self, command, *, method="POST", **params):
        """Ask, and give what is under the one key of the answer."""
        answer = self.send(self.signed(command, **params), method=method)
        (body,) = answer.document.values()
        if answer.status != 200:
            raise Refused(answer.status, body, answer.headers)
        return body

    def wait(self, job_id):
        """Wait for a job, and give it."""
        jobs, world = self.simulator.jobs, self.simulator.world
        with world.changed:
            job = jobs.find(job_id)
            assert job is not None
            done = world.changed.wait_for(lambda: job.status != 0, WAIT_S)
        assert done, f"job {job_id} does not end"
        return self("queryAsyncJobResult", jobid=job_id)

    def run(self, command, **params):
        """Run a job, and give its result; a failed one is told as a refusal."""
        job = self.wait(self(command, **params)["jobid"])
        if job["jobstatus"] != 1:
            raise Refused(200, job["jobresult"], {})
        return job["jobresult"]


def admin(simulator):
    return Asker(simulator, simulator.admin_keys)


def account(simulator, name, **more):
    return Asker(simulator, simulator.create_account(name, **more))
