"""Jobs: what they show, their order, their ids, and what a restart does to them."""

from __future__ import annotations

import threading
import uuid

import pytest

from sendense_lab.simulator import PaperMachines
from tests.unit.simulator.asking import WAIT_S, Refused, account, admin


class Gate(PaperMachines):
    """Machines whose starts wait until they may."""

    def __init__(self):
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.may = threading.Event()

    def start(self, spec, host):
        self.begun.release()
        assert self.may.wait(WAIT_S)
        super().start(spec, host)


@pytest.fixture
def gate():
    machines = Gate()
    yield machines
    machines.may.set()


def test_the_fields_of_a_job(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    job = ask.wait(ask("startVirtualMachine", id=vm.id)["jobid"])
    wanted = {
        "accountid", "account", "domainid", "domainpath", "userid", "cmd", "jobid", "jobstatus",
        "jobprocstatus", "jobresultcode", "jobresulttype", "jobresult", "jobinstancetype",
        "jobinstanceid", "managementserverid", "created", "completed",
    }  # fmt: skip
    assert wanted <= job.keys()
    assert (job["jobstatus"], job["jobresultcode"], job["jobresulttype"]) == (1, 0, "object")
    assert (job["jobinstancetype"], job["jobinstanceid"]) == ("VirtualMachine", vm.id)
    assert job["jobresult"]["virtualmachine"]["state"] == "Running"


def test_a_job_that_runs_says_zero_and_has_no_result(make, gate):
    simulator = make(machines=gate)
    ask = admin(simulator)
    vm = simulator.add_instance("vm1", running=False)
    job = ask("startVirtualMachine", id=vm.id)["jobid"]
    assert gate.begun.acquire(timeout=WAIT_S)
    shown = ask("queryAsyncJobResult", jobid=job)
    assert (shown["jobstatus"], "jobresult" in shown, "completed" in shown) == (0, False, False)
    assert ask("listVirtualMachines", id=vm.id)["virtualmachine"][0]["state"] == "Starting"
    gate.may.set()
    assert ask.wait(job)["jobstatus"] == 1


def test_jobs_of_one_instance_wait_for_each_other_and_others_do_not(make, gate):
    simulator = make(machines=gate)
    ask = admin(simulator)
    one, other = (simulator.add_instance(name, running=False) for name in ("one", "other"))
    start = ask("startVirtualMachine", id=one.id)["jobid"]
    stop = ask("stopVirtualMachine", id=one.id)["jobid"]
    assert gate.begun.acquire(timeout=WAIT_S)
    assert ask.run("stopVirtualMachine", id=other.id)["virtualmachine"]["state"] == "Stopped"
    assert ask("queryAsyncJobResult", jobid=stop)["jobstatus"] == 0
    gate.may.set()
    assert ask.wait(start)["jobstatus"] == 1
    assert ask.wait(stop)["jobresult"]["virtualmachine"]["state"] == "Stopped"


def test_a_client_chooses_the_id_of_its_job(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    mine = str(uuid.uuid4())
    assert ask("startVirtualMachine", id=vm.id, customjobid=mine) == {"jobid": mine}
    assert ask.wait(mine)["jobstatus"] == 1
    listed = {
        param["name"] for param in ask("listApis", name="startVirtualMachine")["api"][0]["params"]
    }
    assert "customjobid" not in listed


def test_what_is_created_has_its_id_before_the_job_ends(simulator, ask):
    disk = next(
        row["id"] for row in ask("listDiskOfferings")["diskoffering"] if row["iscustomized"]
    )
    zone = ask("listZones")["zone"][0]["id"]
    answer = ask("createVolume", name="d", diskofferingid=disk, size=2, zoneid=zone)
    assert answer.keys() == {"id", "jobid"}
    assert ask("listVolumes", id=answer["id"])["volume"][0]["name"] == "d"
    ask.wait(answer["jobid"])


def test_a_restart_loses_jobs_in_flight(make):
    simulator = make(job_s=WAIT_S)
    ask = admin(simulator)
    vm = simulator.add_instance("vm1", running=False)
    job = ask("startVirtualMachine", id=vm.id)["jobid"]
    waiting = ask("stopVirtualMachine", id=vm.id)["jobid"]
    assert simulator.restart() == 2
    for key in (job, waiting):
        shown = ask("queryAsyncJobResult", jobid=key)
        assert (shown["jobstatus"], shown["jobresultcode"]) == (2, 530)
        assert "restart" in shown["jobresult"]["errortext"]
    with simulator.world.changed:
        assert simulator.world.changed.wait_for(lambda: not simulator.jobs.busy(vm.id), WAIT_S)
    assert vm.state == "Stopped"


def test_what_a_host_was_told_before_a_restart_goes_on(make, gate):
    simulator = make(machines=gate)
    ask = admin(simulator)
    vm = simulator.add_instance("vm1", running=False)
    job = ask("startVirtualMachine", id=vm.id)["jobid"]
    assert gate.begun.acquire(timeout=WAIT_S)
    assert simulator.restart() == 1
    gate.may.set()
    with simulator.world.changed:
        assert simulator.world.changed.wait_for(lambda: vm.state == "Running", WAIT_S)
    assert ask("queryAsyncJobResult", jobid=job)["jobstatus"] == 2


def test_own_jobs_only(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    job = ask("startVirtualMachine", id=vm.id)["jobid"]
    other = account(simulator, "other")
    with pytest.raises(Refused) as caught:
        other("queryAsyncJobResult", jobid=job)
    assert caught.value.code == 531
    assert other("listAsyncJobs", listall="true") == {}
    assert ask("listAsyncJobs")["asyncjobs"][0]["jobid"] == job
    ask.wait(job)


def test_jobs_expire(simulator, ask):
    vm = simulator.add_instance("vm1", running=False)
    job = ask("startVirtualMachine", id=vm.id)["jobid"]
    ask.wait(job)
    simulator.world.clock_skew_s = 86_400 + 60
    with pytest.raises(Refused) as caught:
        ask("queryAsyncJobResult", jobid=job)
    assert caught.value.code == 431


def test_a_job_that_is_unknown(ask):
    with pytest.raises(Refused) as caught:
        ask("queryAsyncJobResult", jobid=str(uuid.uuid4()))
    assert caught.value.code == 431
