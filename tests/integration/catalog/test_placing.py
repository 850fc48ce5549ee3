"""Where a job is given to run: a backup where its instance is, a restore where it was asked for."""

from __future__ import annotations

import pytest

from sendense.catalog.runs import waiting
from sendense.model.job import JobKind
from tests.support.builders import a_machine
from tests.support.fleet import NOW, a_host, a_request


@pytest.mark.parametrize(
    ("kind", "expected"), [(JobKind.BACKUP, "id-kvm2"), (JobKind.RESTORE, "id-kvm1")]
)
def test_the_host_of_a_job_whose_instance_is_elsewhere(catalog, kind, expected):
    machine = a_machine()
    for name in ("kvm1", "kvm2"):
        catalog.hosts.add(a_host(name))
    catalog.instances.see("id-kvm2", [machine], NOW)
    catalog.jobs.submit(a_request(kind=kind, subject=machine.uuid, host_id="id-kvm1"), NOW)
    with catalog.database.read() as connection:
        (found,) = waiting(connection, NOW)
    assert found.host_id == expected
