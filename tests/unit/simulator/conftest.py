"""A management server for each test: on paper, with jobs that take next to no time."""

from __future__ import annotations

import pytest

from sendense_lab.simulator import Simulator
from tests.unit.simulator.asking import admin


@pytest.fixture
def make():
    """Give a function that starts a server; all end with the test."""
    started = []

    def start(version="4.20", **more):
        simulator = Simulator(version=version, **{"job_s": 0.0, **more})
        simulator.__enter__()
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        simulator.__exit__(None, None, None)


@pytest.fixture
def simulator(make):
    return make()


@pytest.fixture
def ask(simulator):
    return admin(simulator)
