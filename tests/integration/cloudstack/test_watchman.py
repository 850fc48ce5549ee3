"""While a capture runs: what CloudStack wants is seen, whatever becomes of the asking."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from sendense.cloudstack import inventory
from sendense.cloudstack.client import CloudClient
from sendense.cloudstack.transport import Limits
from sendense.errors import Busy, SendenseError
from sendense.model.secret import Secret
from sendense.workflows.managed.cloud_jobs import CloudJobs
from sendense.workflows.managed.cloud_watchman import CloudWatchman
from sendense_lab.simulator import Simulator
from sendense_lab.simulator.records import Volume
from tests.support.clouds import a_cloud_instance
from tests.support.raw_cloud import raw_cloud

HASTY = Limits(per_second=5000, patience_s=0.2, connect_s=2.0, silent_s=10.0)


def until(what: Callable[[], object], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def cloud():
    with Simulator(job_s=0.02) as cloud:
        yield cloud


@pytest.fixture
def client(cloud):
    keys = cloud.admin_keys
    client = CloudClient(cloud.url, keys.api_key, Secret(keys.secret), limits=HASTY)
    yield client
    client.close()


def watchman(client, instance, *, ask=None, every_s=0.01):
    jobs = CloudJobs()
    return CloudWatchman(
        ask or (lambda: client), instance, lambda seen: jobs.on(client, seen), every_s
    )


def wants(watch: CloudWatchman) -> str:
    try:
        watch.check()
    except Busy as error:
        return str(error)
    return ""


def test_a_volume_that_is_snapshot_is_wanted(cloud, client):
    made = cloud.add_instance("one")
    instance = inventory.instance(client, made.id)[0]
    volume = next(each for each in cloud.world.all(Volume) if each.instance_id == made.id)
    with watchman(client, instance) as watch:
        watch.check()
        volume.state = "Snapshotting"
        until(lambda: wants(watch))
    assert "Snapshotting" in wants(watch)


def test_it_outlives_what_nobody_expected_and_says_so_once(cloud, client: CloudClient, caplog):
    made = cloud.add_instance("one")
    instance = inventory.instance(client, made.id)[0]
    asked = []

    def ask() -> CloudClient:
        asked.append(threading.get_ident())
        if len(asked) < 5:
            raise ZeroDivisionError("odd")
        if len(asked) < 10:
            raise SendenseError("away")
        return client

    caplog.set_level(logging.WARNING)
    with watchman(client, instance, ask=ask) as watch:
        until(lambda: len(asked) >= 12)
        made.state = "Stopping"
        until(lambda: wants(watch))
    said = [record for record in caplog.records if "cannot be asked for" in record.message]
    assert len(said) == 1
    assert "Stopping" in wants(watch)


def test_one_that_is_off_is_asked_for_before_its_point(cloud, client):
    made = cloud.add_instance("one", running=False)
    instance = inventory.instance(client, made.id)[0]
    watch = watchman(client, instance, every_s=3600)
    watch.confirm()
    made.state = "Starting"
    with pytest.raises(Busy, match="Starting"):
        watch.confirm()


def test_silence_confirms_nothing(cloud, client):
    made = cloud.add_instance("one", running=False)
    instance = inventory.instance(client, made.id)[0]
    watch = watchman(client, instance, every_s=3600)
    cloud.down()
    with pytest.raises(SendenseError):
        watch.confirm()
    # One that runs is its agent's to confirm.
    runs = cloud.add_instance("two")
    cloud.up()
    running = inventory.instance(client, runs.id)[0]
    cloud.down()
    watchman(client, running, every_s=3600).confirm()


def job_row(number: int, status: int, on: str) -> dict[str, object]:
    return {"jobid": f"j{number}", "cmd": "a.b.StopVMCmd", "jobstatus": status, "jobinstanceid": on}


@pytest.mark.parametrize("refuses", [False, True])
def test_all_captures_share_a_list_of_some_hours(refuses):
    asked: list[dict[str, str]] = []

    def answer(form):
        if form["command"] == "listApis":
            names = ("listAsyncJobs", "listCapabilities")
            apis = [{"name": name, "params": [{"name": "startdate"}]} for name in names]
            return {"count": 2, "api": apis}
        if form["command"] == "listCapabilities":
            return {"capability": {"cloudstackversion": "4.20.0.0"}}
        asked.append(form)
        if refuses and "startdate" in form:
            return {"errorcode": 431, "errortext": "Unable to parse date"}
        return {"count": 2, "asyncjobs": [job_row(1, 0, "me"), job_row(2, 1, "me")]}

    with raw_cloud(answer) as (_, url):
        client = CloudClient(url, "k", Secret("s"), limits=HASTY)
        jobs = CloudJobs()
        me, other = (a_cloud_instance(id=name) for name in ("me", "other"))
        assert [job.id for job in jobs.on(client, me, fresh_s=3600)] == ["j1"]
        assert jobs.on(client, other, fresh_s=3600) == []
        lists = [form for form in asked if refuses == ("startdate" not in form)]
        assert len(lists) == 1
        jobs.on(client, me, fresh_s=0)
        assert len([form for form in asked if refuses == ("startdate" not in form)]) == 2
        client.close()
