"""Names in a request for a restore into a cloud."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import Rejected
from sendense.model.ascend import Aim, AscendRequest
from sendense.model.ascend_names import owner_of, with_ids
from sendense.model.ascend_order import CloudRestore
from sendense.model.cloud import CloudDomain, CloudProject, Owner
from tests.support.cloud_plans import OWNER, a_manifest, a_view

MANIFEST, VIEW = a_manifest(), a_view()
ROOT, DATA = MANIFEST.instance.volumes[:2]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("root", ROOT.id), ("ROOT", ROOT.id), (ROOT.name, ROOT.id), (DATA.id, DATA.id),
        ("vda", ROOT.id), ("vdb", DATA.id), ("nothing", "nothing"),
    ],
)  # fmt: skip
def test_volumes(word: str, found: str) -> None:
    request = with_ids(MANIFEST, VIEW, AscendRequest(Aim.IN_PLACE, (word,)))
    assert request.volumes == (found,)


def test_what_is_in_the_cloud() -> None:
    network, nic = VIEW.networks[0], MANIFEST.instance.nics[0]
    offering, disk_offering = VIEW.service_offerings[0], VIEW.disk_offerings[0]
    asked = AscendRequest(
        Aim.RECREATE,
        zone_id=VIEW.zones[0].name,
        offering_id=offering.name,
        template_id=VIEW.templates[0].name,
        pool_id=VIEW.pools[0].name,
        networks={nic.network: network.name},
        disk_offerings={"*": disk_offering.name},
    )
    found = with_ids(MANIFEST, VIEW, asked)
    assert (found.zone_id, found.offering_id) == (VIEW.zones[0].id, offering.id)
    assert (found.template_id, found.pool_id) == (VIEW.templates[0].id, VIEW.pools[0].id)
    assert found.networks == {nic.network_id: network.id}
    data = [each.id for each in MANIFEST.instance.volumes if each.kind != "ROOT"]
    assert found.disk_offerings == dict.fromkeys(data, disk_offering.id)
    assert with_ids(MANIFEST, VIEW, found) == found


def test_a_name_of_two_is_refused_with_both() -> None:
    one = VIEW.service_offerings[0]
    view = replace(VIEW, service_offerings=(one, replace(one, id="another")))
    with pytest.raises(Rejected, match="2 service offerings") as refused:
        with_ids(MANIFEST, view, AscendRequest(Aim.RECREATE, offering_id=one.name))
    assert "another" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Owner("", "ROOT/west", "ann"), ("d-west", "ann", "")),
        (Owner("", "ROOT/nowhere", "ann"), ("ROOT/nowhere", "ann", "")),
        (Owner("", "", "ann"), (OWNER.domain_id, "ann", "")),
        (Owner("", "", "", "", "lab"), ("", "", "p-lab")),
    ],
)
def test_owners(asked: Owner, found: tuple[str, str, str]) -> None:
    domains = [CloudDomain("d-west", "west", "ROOT/west")]
    projects = [CloudProject("p-lab", "lab", "d-west")]
    owner = owner_of(asked, OWNER, domains, projects)
    assert (owner.domain_id, owner.account, owner.project_id) == found


def test_a_request_survives_in_the_content_of_its_job() -> None:
    request = AscendRequest(Aim.DATA_DISK, ("vdb",), {"a": "b"}, "i-1", owner=OWNER, start=False)
    wanted = CloudRestore("r-1", "p-1", request, "c-1", "j-1", tenant=True)
    assert CloudRestore.of("r-1", wanted.to_content()) == wanted
    with pytest.raises(Rejected, match="no restore into a cloud"):
        CloudRestore.of("r-1", {"point": "p-1"})
