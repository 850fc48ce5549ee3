"""Plans of restores: one way with steps that fit each other, or refusals; never both or none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sendense.model.ascend import Aim, AscendPlan, CloudView, PlainFeatures, Quota, Way, describe
from sendense.model.ascend_planning import plan_ascent
from sendense.model.ascend_steps import (
    NEW,
    AttachVolume,
    CreateVolume,
    DeployFromTemplate,
    DeployFromVolume,
    ImportInstance,
    ImportVolume,
    NewFile,
    StartInstance,
    VerifyDisk,
    WriteDisk,
    step_from_json,
    step_to_json,
)
from tests.support.cloud_plans import (
    GIB,
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

VERSIONS = (
    "4.18.0",
    "4.18.2",
    "4.19.0",
    "4.19.1",
    "4.20.0",
    "4.20.2",
    "4.21.0",
    "4.22.0",
    "4.22.1",
    "4.23.0",
)
ALL_APIS = sorted(features("4.23.0").apis | {"addIpToNic"})
KINDS = (
    "NetworkFilesystem",
    "NetworkFilesystem",
    "NetworkFilesystem",
    "Filesystem",
    "SharedMountPoint",
    "RBD",
)
STATES = ("Up", "Up", "Up", "Maintenance")
COUNTS = st.none() | st.integers(0, 9)


@st.composite
def clouds(draw: Any) -> CloudView:
    """Give a cloud that has some of what is needed."""
    known = features(draw(st.sampled_from(VERSIONS)))
    without = draw(st.sets(st.sampled_from(ALL_APIS), max_size=1))
    pools = [
        a_pool(
            id=an_id(number + 2),
            kind=draw(st.sampled_from(KINDS)),
            path="/srv/pool",
            state=draw(st.sampled_from(STATES)),
            scope=draw(st.sampled_from(["ZONE", "CLUSTER", "HOST"])),
            cluster_id=draw(st.sampled_from(["cluster-1", "cluster-2"])),
            used=draw(st.integers(0, 1000)) * GIB,
        )
        for number in range(draw(st.integers(0, 4)))
    ]
    view = a_view(
        features=PlainFeatures(
            (known.apis | {"addIpToNic"}) - without, known.params, known.version
        ),
        pools=tuple(pools),
        quota=Quota(draw(COUNTS), draw(COUNTS)),
    )
    for field in ("templates", "disk_offerings", "service_offerings", "networks"):
        if draw(st.integers(0, 9)) == 0:
            missing: dict[str, Any] = {field: ()}
            view = replace(view, **missing)
    return view


@st.composite
def instances(draw: Any) -> Any:
    """Give an instance of some disks and cards."""
    data = [a_volume(device) for device in draw(st.sets(st.integers(1, 6), max_size=4))]
    more = st.sampled_from([(), ("10.1.0.99",)])
    nics = tuple(
        a_nic(number, secondary_ips=draw(more)) for number in range(draw(st.integers(0, 3)))
    )
    instance = an_instance(a_volume(), *data, nics=nics)
    return replace(instance, state=draw(st.sampled_from(["Running", "Stopped"])))


def check(plan: AscendPlan, sources: set[str]) -> None:
    """Check what holds for every plan."""
    assert bool(plan.steps) != plan.refused
    assert describe(plan)
    assert all(refusal.reason and refusal.hint for refusal in plan.refusals)
    assert len(set(plan.refusals)) == len(plan.refusals)
    for step in plan.steps:
        assert step_from_json(json.loads(json.dumps(step_to_json(step)))) == step
        assert step.words
    if plan.refused:
        return
    assert plan.way is not None
    assert plan.why
    writes = [step for step in plan.steps if isinstance(step, (WriteDisk, NewFile))]
    # Every disk is written once, and read back after it was written.
    assert sorted(step.source for step in writes) == sorted(sources)
    for write in writes:
        after = plan.steps[plan.steps.index(write) :]
        assert VerifyDisk(write.source, write.size, write.label) in after
    paths = [step.path for step in writes if step.path]
    assert len(set(paths)) == len(paths)


@settings(max_examples=150, deadline=None)
@given(instances(), clouds())
def test_a_lost_instance_has_one_way_or_refusals(instance, view):
    plan = plan_ascent(a_manifest(instance), view, a_request())
    check(plan, {volume.id for volume in instance.volumes})
    if plan.refused:
        return
    makers = (DeployFromVolume, DeployFromTemplate, ImportInstance)
    assert len([step for step in plan.steps if isinstance(step, makers)]) == 1
    made: set[str] = set()
    there = False
    for step in plan.steps:
        if isinstance(step, (ImportVolume, CreateVolume)):
            made.add(step.source)
        elif isinstance(step, makers):
            there = True
        elif isinstance(step, AttachVolume):
            assert there
            assert step.source in made
            assert step.device_id != 3
    attached = [step.device_id for step in plan.steps if isinstance(step, AttachVolume)]
    known = [device for device in attached if device is not None]
    assert len(set(known)) == len(known)
    assert (plan.steps[-1] == StartInstance(NEW)) == instance.running
    assert all(item.way is not plan.way for item in plan.not_taken)


@settings(max_examples=100, deadline=None)
@given(instances(), clouds())
def test_calls_that_are_not_there_are_not_planned(instance, view):
    plan = plan_ascent(a_manifest(instance), view, a_request())
    needs = {
        ImportVolume: "importVolume", CreateVolume: "createVolume", AttachVolume: "attachVolume",
        DeployFromVolume: "deployVirtualMachine", DeployFromTemplate: "deployVirtualMachine",
        ImportInstance: "importVm", StartInstance: "startVirtualMachine",
    }  # fmt: skip
    for step in plan.steps:
        assert needs.get(type(step), ALL_APIS[0]) in view.features.apis | {ALL_APIS[0]}
    if any(isinstance(step, DeployFromVolume) for step in plan.steps):
        assert "volumeid" in view.features.params["deployVirtualMachine"]


@settings(max_examples=100, deadline=None)
@given(instances(), clouds())
def test_files_go_where_one_host_reaches_all(instance, view):
    plan = plan_ascent(a_manifest(instance), view, a_request())
    files = [step for step in plan.steps if isinstance(step, NewFile)]
    pools = [pool for pool in view.pools if pool.id in {step.pool_id for step in files}]
    assert all(pool.state == "Up" and pool.kind != "RBD" for pool in pools)
    assert len({pool.cluster_id for pool in pools if pool.scope != "ZONE"}) <= 1
    assert len([pool for pool in pools if pool.scope == "HOST"]) <= 1
    for pool in pools:
        taken = sum(step.size for step in files if step.pool_id == pool.id)
        assert taken <= pool.size - pool.used


@settings(max_examples=100, deadline=None)
@given(instances(), clouds(), st.randoms(use_true_random=False))
def test_in_place_every_disk_goes_over_its_own_volume(instance, view, random):
    now = list(instance.volumes)
    random.shuffle(now)
    moved = [replace(volume, device_id=random.randint(0, 9)) for volume in now]
    plan = plan_ascent(
        a_manifest(instance),
        replace(view, instance=replace(instance, volumes=tuple(moved))),
        a_request(Aim.IN_PLACE),
    )
    check(plan, {volume.id for volume in instance.volumes})
    for step in plan.steps:
        if isinstance(step, WriteDisk):
            assert step.volume_id == step.source
            assert step.path.endswith(step.source)
            assert (step.instance_id, step.owner) == (instance.id, instance.owner)


@settings(max_examples=100, deadline=None)
@given(instances(), clouds(), st.integers(0, 3))
def test_one_data_disk_has_its_way_or_refusals(instance, view, number):
    volume = instance.volumes[number % len(instance.volumes)]
    plan = plan_ascent(
        a_manifest(instance),
        replace(view, instance=instance),
        a_request(Aim.DATA_DISK, volumes=(volume.id,)),
    )
    check(plan, {volume.id})
    if not plan.refused:
        assert plan.way is Way.NEW_DATA_VOLUME
        attached = [step for step in plan.steps if isinstance(step, AttachVolume)]
        taken = {each.device_id for each in instance.volumes}
        assert [step.device_id for step in attached if step.device_id in taken] == []


@settings(max_examples=100, deadline=None)
@given(clouds(), st.sampled_from(VERSIONS))
def test_more_features_never_take_a_way_away(view, version):
    """A way that is found is found with more calls too, or a better one is."""
    order = [
        Way.IMPORT_AND_DEPLOY,
        Way.DEPLOY_AND_SWAP_ROOT,
        Way.IMPORT_VM,
        Way.DEPLOY_AND_OVERWRITE,
    ]
    less = plan_ascent(a_manifest(), view, a_request())
    known = features(version)
    params = view.features.params["deployVirtualMachine"] | known.params["deployVirtualMachine"]
    more = PlainFeatures(
        view.features.apis | known.apis, {"deployVirtualMachine": params}, view.features.version
    )
    plan = plan_ascent(a_manifest(), replace(view, features=more, quota=Quota()), a_request())
    if not less.refused:
        assert plan.way is not None
        assert less.way is not None
        assert order.index(plan.way) <= order.index(less.way)
