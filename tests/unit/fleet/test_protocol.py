"""An agent of another time is refused by name, and not misunderstood."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sendense.errors import Unavailable, Unsupported
from sendense.fleet.address import AgentAddress
from sendense.fleet.agent_client import AgentClient
from sendense.model.agent_status import PROTOCOL
from sendense.model.coding import encode
from sendense.model.secret import Secret
from tests.support.fleet import a_heartbeat


@pytest.fixture
def answers():
    """Serve what a test puts in, in the place of an agent."""
    said = [b"{}"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(said[0])))
            self.end_headers()
            self.wfile.write(said[0])

        def log_message(self, *_words):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = AgentAddress("a", "kvm1", Secret("s"), control=("127.0.0.1", server.server_port))
        with AgentClient(address) as client:
            yield said, client
        server.shutdown()
        thread.join()


def test_this_version_is_understood(answers):
    said, client = answers
    said[0] = json.dumps(encode(a_heartbeat())).encode()
    assert client.heartbeat() == a_heartbeat()


@pytest.mark.parametrize("version", [0, PROTOCOL + 1])
def test_another_version_is_refused_with_what_to_do(answers, version):
    said, client = answers
    beat = a_heartbeat()
    other = replace(beat, facts=replace(beat.facts, protocol=version))
    said[0] = json.dumps(encode(other)).encode()
    with pytest.raises(Unsupported, match="protocol") as refused:
        client.heartbeat()
    assert "host upgrade kvm1" in str(refused.value.hint)


def test_who_is_no_agent_is_said_to_be_none(answers):
    said, client = answers
    said[0] = b"<html>"
    with pytest.raises(Unavailable, match="none"):
        client.heartbeat()
