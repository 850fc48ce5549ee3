"""Plans of restores into CloudStack: the way of each version, and all refusals at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.errors import Conflict, Rejected
from sendense.model.ascend import (
    CloudView,
    KnownExtras,
    PlainFeatures,
    Quota,
    RefusalCode,
    Way,
    describe,
)
from sendense.model.ascend_planning import plan_ascent
from sendense.model.ascend_steps import (
    NEW,
    AddAddress,
    AttachVolume,
    CreateVolume,
    DeployFromTemplate,
    DeployFromVolume,
    DetachRoot,
    ImportInstance,
    ImportVolume,
    NewFile,
    StartInstance,
    StopInstance,
    TagInstance,
    UntagInstance,
    VerifyDisk,
    WriteDisk,
    step_from_json,
)
from sendense.model.cloud import (
    CloudAccount,
    CloudNetwork,
    CloudOffering,
    CloudProject,
    CloudZone,
    Owner,
)
from tests.support.cloud_plans import (
    GIB,
    POOL,
    a_manifest,
    a_nic,
    a_pool,
    a_request,
    a_view,
    a_volume,
    an_id,
    an_instance,
    features,
)

ROOT, DATA = a_volume(), a_volume(1)
WEB = an_instance(ROOT, DATA)


def kinds(plan):
    return [type(step) for step in plan.steps]


def codes(plan):
    return [refusal.code for refusal in plan.refusals]


def of_kind(plan, kind):
    return [step for step in plan.steps if isinstance(step, kind)]


# --- a lost instance, by version ---


@pytest.mark.parametrize(
    ("version", "way"),
    [
        ("4.18.1", Way.DEPLOY_AND_OVERWRITE),
        ("4.19.0", Way.IMPORT_VM),
        ("4.19.1", Way.DEPLOY_AND_SWAP_ROOT),
        ("4.20.1", Way.DEPLOY_AND_SWAP_ROOT),
        ("4.21.0", Way.IMPORT_AND_DEPLOY),
        ("4.22.0", Way.IMPORT_AND_DEPLOY),
        ("4.23.0", Way.IMPORT_AND_DEPLOY),
    ],
)
def test_each_version_has_its_way(version, way):
    plan = plan_ascent(a_manifest(), a_view(features=features(version)), a_request())
    assert plan.way is way
    assert not plan.refused
    assert plan.why
    assert isinstance(plan.steps[-1], StartInstance)
    plan.ensure()


def test_with_4_22_disks_are_imported_and_the_instance_deployed_around_them():
    plan = plan_ascent(a_manifest(), a_view(), a_request())
    imported = [NewFile, VerifyDisk, ImportVolume]
    assert kinds(plan) == [*imported, *imported, DeployFromVolume, AttachVolume, StartInstance]
    file = of_kind(plan, NewFile)[0]
    assert (file.pool_id, file.path) == (POOL, f"/mnt/{POOL}/{an_id(500)}")
    assert of_kind(plan, AttachVolume) == [AttachVolume(DATA.id, NEW, 1, "vol-1")]
    assert [step.offering_id for step in of_kind(plan, ImportVolume)] == ["", "disk-custom"]
    shape = of_kind(plan, DeployFromVolume)[0].shape
    assert [(nic.network_id, nic.mac, nic.ip) for nic in shape.nics] == [
        ("net-0", "02:00:00:00:00:00", "10.1.0.5")
    ]
    assert (shape.name, shape.display_name, shape.with_secrets) == ("web", "Web server", True)
    assert not plan.not_taken


def test_with_4_20_the_root_is_swapped():
    plan = plan_ascent(a_manifest(), a_view(features=features("4.20.1")), a_request())
    imported = [NewFile, VerifyDisk, ImportVolume]
    assert kinds(plan) == [
        *imported, *imported, DeployFromTemplate, DetachRoot, AttachVolume, AttachVolume,
        StartInstance,
    ]  # fmt: skip
    assert not of_kind(plan, DeployFromTemplate)[0].start
    assert of_kind(plan, AttachVolume)[0] == AttachVolume(ROOT.id, NEW, 0, "vol-0")
    assert [item.way for item in plan.not_taken] == [Way.IMPORT_AND_DEPLOY]
    assert "4.21" in plan.not_taken[0].reason


def test_with_4_19_0_the_root_is_imported_as_an_instance():
    plan = plan_ascent(a_manifest(), a_view(features=features("4.19.0")), a_request())
    assert kinds(plan) == [
        NewFile, VerifyDisk, ImportInstance, CreateVolume, AttachVolume, WriteDisk, VerifyDisk,
        StartInstance,
    ]  # fmt: skip
    assert any("new MAC" in warning for warning in plan.warnings)


def test_with_4_18_what_was_deployed_is_overwritten():
    plan = plan_ascent(a_manifest(), a_view(features=features("4.18.1")), a_request())
    assert kinds(plan) == [
        DeployFromTemplate, StopInstance, TagInstance, CreateVolume, AttachVolume, WriteDisk,
        WriteDisk, VerifyDisk, VerifyDisk, UntagInstance, StartInstance,
    ]  # fmt: skip
    deploy = of_kind(plan, DeployFromTemplate)[0]
    assert (deploy.start, deploy.root_gib) == (True, 10)
    assert of_kind(plan, CreateVolume)[0].size_gib == 11
    assert any("started once" in warning for warning in plan.warnings)


def test_a_second_card_is_worth_more_than_a_clean_import():
    manifest = a_manifest(an_instance(ROOT, DATA, nics=(a_nic(), a_nic(1))))
    plan = plan_ascent(manifest, a_view(features=features("4.19.0")), a_request())
    assert plan.way is Way.DEPLOY_AND_OVERWRITE


def test_without_a_template_an_instance_is_imported():
    plan = plan_ascent(a_manifest(), a_view(features=features("4.20.1"), templates=()), a_request())
    assert plan.way is Way.IMPORT_VM
    assert [item.way for item in plan.not_taken] == [
        Way.IMPORT_AND_DEPLOY,
        Way.DEPLOY_AND_SWAP_ROOT,
    ]
    assert "Debian 12" in plan.not_taken[1].reason


def test_only_the_features_count_and_not_the_version():
    claims = replace(features("4.22.0"), version="4.18.0")
    plan = plan_ascent(a_manifest(), a_view(features=claims), a_request())
    assert plan.way is Way.IMPORT_AND_DEPLOY


@pytest.mark.parametrize(
    ("version", "way"),
    [("4.22.0", Way.DEPLOY_AND_OVERWRITE), ("4.22.1", Way.IMPORT_AND_DEPLOY)],
)
def test_shared_mount_points_are_imported_from_4_22_1(version, way):
    view = a_view(
        features=features(version), pools=(a_pool(kind="SharedMountPoint", path="/srv/gfs"),)
    )
    assert plan_ascent(a_manifest(), view, a_request()).way is way


# --- what is remembered, mapped or lost ---


def test_tags_come_back_and_the_marker_does_not():
    manifest = a_manifest(an_instance(ROOT, tags={"a": "b", "sendense-restore": "running"}))
    plan = plan_ascent(manifest, a_view(), a_request())
    assert of_kind(plan, TagInstance) == [TagInstance(NEW, {"a": "b"})]


def test_an_instance_that_was_off_stays_off():
    manifest = a_manifest(an_instance(ROOT, state="Stopped"))
    assert not of_kind(plan_ascent(manifest, a_view(), a_request()), StartInstance)
    assert of_kind(plan_ascent(manifest, a_view(), a_request(start=True)), StartInstance)


def test_devices_are_kept_and_the_isos_is_left_free():
    manifest = a_manifest(an_instance(ROOT, a_volume(2), a_volume(3), a_volume(4)))
    plan = plan_ascent(manifest, a_view(), a_request())
    assert [step.device_id for step in of_kind(plan, AttachVolume)] == [2, None, 4]


def test_what_is_lost_is_said():
    manifest = a_manifest(
        an_instance(
            ROOT,
            nics=(a_nic(secondary_ips=("10.1.0.99",)),),
            keypairs=("key-1", "key-2"),
            user_data_id="user-data-1",
            affinity_group_ids=("group-1",),
        ),
        sealed=None,
    )
    view = a_view(extras=KnownExtras(keypairs=frozenset({"key-1"})))
    plan = plan_ascent(manifest, view, a_request())
    text = "\n".join(plan.warnings)
    for words in ("10.1.0.99", "key-2", "user-data-1", "group-1", "new serials"):
        assert words in text
    # What it never had is not lost.
    assert "details" not in text
    shape = of_kind(plan, DeployFromVolume)[0].shape
    assert (shape.keypairs, shape.user_data_id, shape.with_secrets) == (("key-1",), "", False)


def with_addresses(**changes) -> CloudView:
    known = features("4.22.0")
    known = replace(known, apis=known.apis | {"addIpToNic"})
    return a_view(features=known, **changes)


TWO_MORE = a_nic(secondary_ips=("10.1.0.98", "10.1.0.99"))


def test_secondary_addresses_come_back_before_it_starts():
    manifest = a_manifest(an_instance(ROOT, nics=(TWO_MORE, a_nic(1))))
    plan = plan_ascent(manifest, with_addresses(), a_request())
    steps = of_kind(plan, AddAddress)
    assert [(step.instance_id, step.ip) for step in steps] == [
        (NEW, "10.1.0.98"),
        (NEW, "10.1.0.99"),
    ]
    assert {step.network_id for step in steps} == {TWO_MORE.network_id}
    assert plan.steps.index(steps[-1]) < plan.steps.index(of_kind(plan, StartInstance)[0])
    assert "secondary" not in " ".join(plan.warnings)


def test_secondary_addresses_of_cards_that_are_not_made_are_lost_with_words():
    others = (a_nic(1, secondary_ips=("10.2.0.7", "10.2.0.8")), a_nic(2))
    manifest = a_manifest(an_instance(ROOT, nics=(TWO_MORE, *others)))
    known = features("4.22.0")
    known = replace(known, apis=known.apis - {"importVolume"} | {"addIpToNic"})
    plan = plan_ascent(manifest, a_view(features=known, templates=()), a_request())
    assert plan.way is Way.IMPORT_VM
    assert [step.ip for step in of_kind(plan, AddAddress)] == ["10.1.0.98", "10.1.0.99"]
    (said,) = [each for each in plan.warnings if "secondary" in each]
    assert "10.2.0.7, 10.2.0.8" in said
    assert "only the default network card is made" in said


def test_the_cards_that_are_not_made_are_told_whichever_is_the_default_one():
    cards = (a_nic(0, is_default=False), a_nic(1, is_default=True))
    known = features("4.22.0")
    known = replace(known, apis=known.apis - {"importVolume"})
    manifest = a_manifest(an_instance(ROOT, nics=cards))
    plan = plan_ascent(manifest, a_view(features=known, templates=()), a_request())
    assert plan.way is Way.IMPORT_VM
    (said,) = [each for each in plan.warnings if "add the others" in each]
    assert said.endswith("add the others: network 0")


def test_an_address_that_another_has_is_left_out():
    taken = frozenset({(TWO_MORE.network_id, "10.1.0.98"), ("net-other", "10.1.0.99")})
    manifest = a_manifest(an_instance(ROOT, nics=(TWO_MORE,)))
    plan = plan_ascent(manifest, with_addresses(taken_addresses=taken), a_request())
    assert [step.ip for step in of_kind(plan, AddAddress)] == ["10.1.0.99"]
    (words,) = [each for each in plan.warnings if "secondary" in each]
    assert "(10.1.0.98): another instance has them now" in words


@pytest.mark.parametrize(
    ("view", "request_", "words"),
    [
        (a_view(), a_request(), "may not call addIpToNic"),
        (with_addresses(), a_request(networks={TWO_MORE.network_id: "net-2"}), "they were of"),
        (with_addresses(instance=an_instance(ROOT)), a_request(name="copy"), "the old instance"),
    ],
)
def test_why_secondary_addresses_cannot_come_back(view, request_, words):
    manifest = a_manifest(an_instance(ROOT, nics=(TWO_MORE,)))
    plan = plan_ascent(manifest, view, request_)
    assert plan.steps
    assert not of_kind(plan, AddAddress)
    (said,) = [each for each in plan.warnings if "secondary" in each]
    assert words in said
    assert "10.1.0.98, 10.1.0.99" in said


def test_into_another_cloud_all_is_mapped():
    owner = Owner("domain-9", "ROOT/b", project_id="project-9", project="nine")
    view = a_view(
        cloud_id="cloud-2",
        zones=(CloudZone("zone-9", "Nine"),),
        networks=(CloudNetwork("net-9", "nine", "zone-9"),),
        service_offerings=(CloudOffering("off-9", "big", customized=True),),
        disk_offerings=(CloudOffering("disk-9", "nine", customized=True),),
        pools=(a_pool(id=an_id(9), zone_id="zone-9"),),
        accounts=(),
        projects=(CloudProject("project-9", "nine", "domain-9", state="Active"),),
    )
    request = a_request(
        zone_id="zone-9", owner=owner, offering_id="off-9", networks={"net-0": "net-9"},
        disk_offerings={"disk-custom": "disk-9"}, name="copy",
    )  # fmt: skip
    plan = plan_ascent(a_manifest(), view, request)
    assert not plan.refusals
    shape = of_kind(plan, DeployFromVolume)[0].shape
    assert (shape.zone_id, shape.owner, shape.name, shape.display_name) == (
        "zone-9", owner, "copy", "copy",
    )  # fmt: skip
    assert (shape.nics[0].network_id, shape.nics[0].mac, shape.nics[0].ip) == (
        "net-9", "02:00:00:00:00:00", "",
    )  # fmt: skip
    assert (shape.cpus, shape.cpu_mhz, shape.memory_bytes) == (2, 1000, 512 << 20)
    assert of_kind(plan, NewFile)[0].pool_id == an_id(9)
    assert of_kind(plan, ImportVolume)[1].offering_id == "disk-9"
    assert not shape.with_secrets
    assert any("not given to project nine in another cloud" in each for each in plan.warnings)
    asked = plan_ascent(a_manifest(), view, replace(request, with_secrets=True))
    assert of_kind(asked, DeployFromVolume)[0].shape.with_secrets
    assert any("are given to project nine" in each for each in asked.warnings)


def test_another_owner_gets_no_secrets():
    bob = Owner("domain-1", "ROOT/acme", account="bob")
    view = a_view(accounts=(CloudAccount("a-2", "bob", "domain-1", state="enabled"),))
    plan = plan_ascent(a_manifest(), view, a_request(owner=bob))
    assert not plan.refusals
    assert not of_kind(plan, DeployFromVolume)[0].shape.with_secrets
    assert any("not given to ROOT/acme/bob" in each for each in plan.warnings)


def test_a_copy_beside_the_original_gets_other_addresses():
    plan = plan_ascent(a_manifest(), a_view(instance=WEB), a_request(name="web-copy"))
    assert not plan.refusals
    nic = of_kind(plan, DeployFromVolume)[0].shape.nics[0]
    assert (nic.mac, nic.ip) == ("", "")
    assert any("still in use" in warning for warning in plan.warnings)


# --- pools ---


@pytest.mark.parametrize(
    ("pools", "chosen", "words"),
    [
        ([a_pool(), a_pool(id="b", size=9000 * GIB)], POOL, "where it was"),
        ([a_pool(state="Maintenance"), a_pool(id="b", name="nfs2")], "b", "Maintenance"),
        ([a_pool(used=999 * GIB), a_pool(id="b", name="nfs2")], "b", "too little room"),
        ([a_pool(id="b"), a_pool(id="c", size=9000 * GIB)], "c", "most room"),
        ([a_pool(id="b", scope="HOST", size=9000 * GIB), a_pool(id="c")], "c", "most room"),
        ([a_pool(kind="RBD"), a_pool(id="b")], "b", "RBD"),
        ([a_pool(zone_id="other"), a_pool(id="b")], "b", "another zone"),
    ],
)
def test_the_pool(pools, chosen, words):
    manifest = a_manifest(an_instance(ROOT))
    plan = plan_ascent(manifest, a_view(pools=tuple(pools)), a_request())
    (file,) = of_kind(plan, NewFile)
    assert file.pool_id == chosen
    assert words in file.reason


def test_all_disks_are_in_reach_of_one_host():
    pools = (
        a_pool(id="a", size=140 * GIB, used=100 * GIB, cluster_id="one"),
        a_pool(id="b", size=120 * GIB, used=100 * GIB, cluster_id="one"),
        a_pool(id="c", size=135 * GIB, used=100 * GIB, cluster_id="two"),
    )
    manifest = a_manifest(an_instance(a_volume(size=30 * GIB), a_volume(1, size=15 * GIB)))
    plan = plan_ascent(manifest, a_view(pools=pools), a_request())
    assert [step.pool_id for step in of_kind(plan, NewFile)] == ["a", "b"]


def test_a_pool_that_was_asked_for_is_taken_even_if_it_seems_full():
    pools = (a_pool(), a_pool(id="b", name="full", used=999 * GIB))
    plan = plan_ascent(a_manifest(), a_view(pools=pools), a_request(pool_id="b"))
    assert {step.pool_id for step in of_kind(plan, NewFile)} == {"b"}
    assert any("less room" in warning for warning in plan.warnings)


def test_a_pool_that_was_asked_for_is_never_passed_over():
    view = a_view(features=features("4.18.1"))
    plan = plan_ascent(a_manifest(), view, a_request(pool_id=POOL))
    assert RefusalCode.POOL in codes(plan)


# --- refusals ---


@pytest.mark.parametrize(
    ("manifest", "view", "request_", "code"),
    [
        (a_manifest(), a_view(instance=WEB), a_request(), RefusalCode.STILL_THERE),
        (a_manifest(), a_view(taken_names=frozenset({"web"})), a_request(), RefusalCode.NAME),
        (a_manifest(), a_view(), a_request(name="not a name"), RefusalCode.NAME),
        (a_manifest(), a_view(zones=()), a_request(), RefusalCode.ZONE),
        (a_manifest(), a_view(networks=()), a_request(), RefusalCode.NETWORK),
        (a_manifest(), a_view(service_offerings=()), a_request(), RefusalCode.SERVICE_OFFERING),
        (a_manifest(), a_view(accounts=()), a_request(), RefusalCode.OWNER),
        (a_manifest(), a_view(quota=Quota(instances=0)), a_request(), RefusalCode.QUOTA),
        (a_manifest(), a_view(quota=Quota(volumes=1)), a_request(), RefusalCode.QUOTA),
        (a_manifest(), a_view(quota=Quota(primary_bytes=GIB)), a_request(), RefusalCode.QUOTA),
        (a_manifest(), a_view(quota=Quota(cpus=1)), a_request(), RefusalCode.QUOTA),
        (a_manifest(), a_view(quota=Quota(memory_bytes=1)), a_request(), RefusalCode.QUOTA),
        (a_manifest(), a_view(), a_request(volumes=(DATA.id,)), RefusalCode.NO_VOLUME),
        (a_manifest(), a_view(), a_request(volumes=("x",)), RefusalCode.NO_VOLUME),
        (a_manifest(), a_view(), a_request(file_names={}), RefusalCode.REQUEST),
        (
            a_manifest(an_instance(a_volume(encryption="LUKS2"))),
            a_view(),
            a_request(),
            RefusalCode.ENCRYPTED,
        ),
        (
            a_manifest(),
            a_view(features=features("4.18.1"), templates=()),
            a_request(),
            RefusalCode.TEMPLATE,
        ),
        (
            a_manifest(),
            a_view(features=features("4.18.1"), disk_offerings=()),
            a_request(),
            RefusalCode.DISK_OFFERING,
        ),
        (a_manifest(), a_view(pools=(a_pool(kind="RBD"),)), a_request(), RefusalCode.POOL),
        (a_manifest(), a_view(features=PlainFeatures(frozenset())), a_request(),
         RefusalCode.NO_API),
    ],
)  # fmt: skip
def test_refusals(manifest, view, request_, code):
    plan = plan_ascent(manifest, view, request_)
    assert code in codes(plan)
    assert not plan.steps
    assert all(refusal.reason and refusal.hint for refusal in plan.refusals)
    with pytest.raises(Conflict):
        plan.ensure()


def test_all_refusals_at_once():
    plan = plan_ascent(
        a_manifest(),
        a_view(
            networks=(), service_offerings=(), accounts=(), quota=Quota(instances=0),
            taken_names=frozenset({"web"}),
        ),
        a_request(),
    )  # fmt: skip
    assert set(codes(plan)) == {
        RefusalCode.NETWORK, RefusalCode.SERVICE_OFFERING, RefusalCode.OWNER, RefusalCode.QUOTA,
        RefusalCode.NAME,
    }  # fmt: skip


def test_encryption_can_be_given_up():
    manifest = a_manifest(an_instance(a_volume(encryption="LUKS2")))
    plan = plan_ascent(manifest, a_view(), a_request(allow_unencrypted=True))
    assert not plan.refusals
    assert any("no longer encrypted" in warning for warning in plan.warnings)


# --- for people, and for a run that goes on after a break ---


@pytest.mark.parametrize("content", [{}, {"step": "Nothing"}, {"step": 1}, {"step": "WriteDisk"}])
def test_what_is_no_step(content):
    with pytest.raises(Rejected):
        step_from_json(content)


def test_described():
    plan = plan_ascent(a_manifest(), a_view(features=features("4.20.1")), a_request())
    lines = describe(plan)
    assert lines[0].startswith("way: deploy-and-swap-root, because ")
    assert lines[1].startswith("  not import-and-deploy: ")
    assert [line for line in lines if line.startswith("1. ")]
    assert any(line.startswith("warning: ") for line in lines)
    refused = plan_ascent(a_manifest(), a_view(networks=()), a_request())
    text = "\n".join(describe(refused))
    assert "refused: network network 0" in text
    assert "  change: " in text
