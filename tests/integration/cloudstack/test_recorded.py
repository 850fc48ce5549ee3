"""Answers that a CloudStack 4.16 gave, read by the same code as those of any other version.

They are not part of this repository (they are those of its Go client's tests, as one file for each
service). `SENDENSE_CLOUDSTACK_ANSWERS` says where they are.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sendense.cloudstack import answers, mapping, mapping_around
from sendense.cloudstack.answers import Refused
from sendense.cloudstack.features import read_features
from sendense.cloudstack.jobs import AsyncJob, outcome
from tests.house.tree import ROOT

_BESIDE = ROOT.parent / "shared" / "data" / "cloudstack-answers"
FOLDER = Path(os.environ.get("SENDENSE_CLOUDSTACK_ANSWERS", _BESIDE))

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="no recorded answers: set SENDENSE_CLOUDSTACK_ANSWERS"
)


def answer(service, command):
    """Give an answer out of its envelope, as it would come over the wire."""
    recorded = json.loads((FOLDER / f"{service}.json").read_text(), strict=False)
    found = answers.read(200, json.dumps(recorded[command]).encode())
    assert not isinstance(found, Refused)
    return found


def every_answer():
    if not FOLDER.is_dir():
        return []
    return [
        pytest.param(path.stem, command, id=f"{path.stem}-{command}")
        for path in sorted(FOLDER.glob("*.json"))
        for command in json.loads(path.read_text(), strict=False)
    ]


@pytest.mark.parametrize(("service", "command"), every_answer())
def test_every_answer_comes_out_of_its_envelope(service, command):
    assert answer(service, command)


def test_an_instance():
    [row] = answers.rows(answer("VirtualMachineService", "listVirtualMachines"), "virtualmachine")
    found = mapping.instance(row, {row["domainid"]: "ROOT"}, ())
    assert found.id == "915653c4-298b-4d74-bdee-4ced282114f1"
    assert found.domain_name == "i-2-683-QA"
    assert found.running
    assert found.owner.words == "ROOT/admin"
    assert found.hypervisor == "Simulator"
    assert found.memory_bytes == 256 * 1024 * 1024
    assert found.created == datetime(2021, 10, 4, 9, 24, 38, tzinfo=UTC)
    [nic] = found.nics
    assert (nic.mac, nic.ip, nic.is_default, nic.kind) == (
        "02:00:34:fb:00:01",
        "10.1.1.62",
        True,
        "Isolated",
    )
    assert list(mapping.secrets(row).details) == ["Message.ReservedCapacityFreed.Flag"]


def test_a_host_without_its_details():
    [row] = answers.rows(answer("HostService", "listHosts"), "host")
    found = mapping_around.host(row)
    assert (found.kind, found.state, found.resource_state) == ("Routing", "Up", "Enabled")
    assert found.address == "172.16.15.5"
    assert not found.usable


def test_a_pool_out_of_a_job():
    [command] = [
        name for name in ("cancelStorageMaintenance",) if answer("StoragePoolService", name)
    ]
    result = outcome(answer("StoragePoolService", command), AsyncJob("j", "", command))
    assert result is not None
    found = mapping_around.pool(answers.only(result))
    assert (found.kind, found.scope, found.state) == ("NetworkFilesystem", "CLUSTER", "Up")
    assert found.path == "/export/testing/primary"
    assert found.size == 1 << 40


def test_a_network():
    [row] = answers.rows(answer("NetworkService", "listNetworks"), "network")
    found = mapping_around.network(row, {})
    assert (found.name, found.kind, found.cidr) == ("testIsolatedNet", "Isolated", "10.1.1.0/24")
    assert found.owner
    assert found.owner.account == "admin"


def test_a_domain_and_what_is_below_it():
    [row] = answers.rows(answer("DomainService", "listDomains"), "domain")
    assert mapping_around.domain(row).path == "ROOT/DummyDomain"
    [row] = answers.rows(answer("DomainService", "listDomainChildren"), "domain")
    assert mapping_around.domain(row).path == "ROOT/domain/subdomain"


def test_offerings_and_a_template():
    [row] = answers.rows(answer("DiskOfferingService", "listDiskOfferings"), "diskoffering")
    assert mapping_around.disk_offering(row).customized
    made = answers.only(answer("ServiceOfferingService", "createServiceOffering"))
    found = mapping_around.service_offering(made)
    assert (found.cpus, found.cpu_mhz, found.memory_bytes) == (2, 1000, 2 << 30)
    [row] = answers.rows(answer("TemplateService", "registerTemplate"), "template")
    template = mapping_around.template(row)
    assert (template.format, template.ready, template.size) == ("VHD", True, 5242880)


def test_a_project_out_of_a_job():
    result = outcome(answer("ProjectService", "createProject"), AsyncJob("j", "", "createProject"))
    assert result is not None
    assert mapping_around.project(answers.only(result), {}).name == "testProject"


def test_a_job_that_says_that_it_went_well():
    result = outcome(answer("ResourcetagsService", "createTags"), AsyncJob("j", "", "createTags"))
    assert result is not None
    assert answers.flag(result["success"])


def test_jobs_that_are_listed():
    [row] = answers.rows(answer("AsyncJobService", "listAsyncJobs"), "asyncjobs")
    assert answers.text(row, "jobid") == "6679e6b9-4bf2-4d83-b9f0-235fc1609227"


class Recorded:
    """What answers with what was recorded."""

    def call(self, command, /, **params):
        return answer("ApiDiscoveryService", command)


def test_features():
    found = read_features(Recorded())
    assert found.has("listSSHKeyPairs")
    assert found.takes("listSSHKeyPairs", "pagesize")
    assert not found.admin
