"""Steps that make something in a cloud: volumes and instances.

Such a step is never done twice, and never takes what another has made
(:mod:`~sendense.workflows.managed.ascend_once`).
"""

from __future__ import annotations

import logging
from dataclasses import replace

from sendense.cloudstack import actions, answers, inventory
from sendense.errors import Busy, Cancelled, Conflict, NotFound, SendenseError
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
    Shape,
    Step,
)
from sendense.model.cloud import CloudInstance, InstanceSecrets
from sendense.model.job import Json
from sendense.model.secret import Secret
from sendense.units import GIB, MIB
from sendense.workflows.managed.ascend_gather import secrets_of
from sendense.workflows.managed.ascend_journal import Piece
from sendense.workflows.managed.ascend_once import Make, Sought, once
from sendense.workflows.managed.ascend_site import Done, Site
from sendense.workflows.managed.cloud_hosts import hosts_of

log = logging.getLogger(__name__)

_CLOUDS_OWN = frozenset(
    {
        "cpuovercommitratio", "memoryovercommitratio", "rootdisksize", "deployvm", "hypervisor",
        "message.reservedcapacityfreed.flag", "password", "encrypted.password",
    }
)  # fmt: skip
"""Details that CloudStack sets itself, and refuses or spoils when they are given."""
_OF_SIZE = frozenset({"cpunumber", "cpuspeed", "memory"})

_NO_ADDRESS = frozenset({530, 533})
"""What CloudStack answers where an address is in use already: as if it were out of order."""
_GONE = frozenset({"Destroy", "Destroyed", "Expunging", "Expunged", "Error"})


def make(site: Site, piece: Piece, step: Step) -> Done:
    """Carry out a step that makes something, or find what it made already."""
    if isinstance(step, ImportVolume):
        found = once(site, piece, _imported(site, step), _import(site, step))
        return Done({step.source: found}, {"volume": found, "name": step.name})
    if isinstance(step, CreateVolume):
        found = once(site, piece, _created(site, step), _create(site, step))
        return Done({step.source: found}, {"volume": found, "name": step.name})
    if isinstance(step, ImportInstance):
        return _import_instance(site, piece, step)
    if isinstance(step, AddAddress):
        return _add_address(site, step)
    if isinstance(step, (DeployFromVolume, DeployFromTemplate)):
        return _deploy(site, piece, step)
    raise TypeError(f"{type(step).__name__} makes nothing")


# --- Volumes


def _imported(site: Site, step: ImportVolume) -> Sought:
    """A file of ours that has a new name: nothing else has it."""

    def is_like(row: Json) -> bool:
        place = (answers.text(row, "path"), answers.text(row, "storageid"))
        return place == (step.file_name, step.pool_id) and answers.text(row, "state") not in _GONE

    return Sought("listVolumes", step.owner, "name", step.name, is_like, unique=True)


def _created(site: Site, step: CreateVolume) -> Sought:
    def is_like(row: Json) -> bool:
        asked = (answers.text(row, "zoneid"), answers.text(row, "diskofferingid"))
        size = step.size_gib * GIB
        return (
            asked == (step.zone_id, step.offering_id)
            and size in (0, answers.number(row.get("size")))
            and answers.text(row, "state") not in _GONE
        )

    def rename(volume_id: str, name: str) -> None:
        actions.rename_volume(site.client, volume_id, name, check=site.task.check)

    may = site.client.features().takes("updateVolume", "name")
    return Sought(
        "listVolumes", step.owner, "name", step.name, is_like, rename=rename if may else None
    )


def _import(site: Site, step: ImportVolume) -> Make:
    return lambda job_id, _: actions.import_volume(
        site.client,
        path=step.file_name,
        pool_id=step.pool_id,
        name=step.name,
        owner=step.owner,
        offering_id=step.offering_id,
        check=site.task.check,
        job_id=job_id,
    )


def _create(site: Site, step: CreateVolume) -> Make:
    return lambda job_id, name: actions.create_volume(
        site.client,
        name=name,
        zone_id=step.zone_id,
        offering_id=step.offering_id,
        size=step.size_gib * GIB,
        owner=step.owner,
        customized=bool(step.size_gib),
        check=site.task.check,
        job_id=job_id,
    )


def attach(site: Site, step: AttachVolume) -> Done:
    """Attach the volume that was made, unless it is attached there."""
    volume_id, uuid = site.volume_of(step.source), site.id_of(step.instance_id)
    there = actions.volume(site.client, volume_id)
    if there.instance_id and there.instance_id != uuid:
        raise Conflict(
            f"volume {there.name} ({volume_id}) is attached to another instance"
            f" ({there.instance_id}) now",
            hint="detach it in CloudStack",
        )
    instance = _still_its_owners(site, step.instance_id)
    if not instance.owner.is_same(there.owner):
        raise Conflict(
            f"volume {there.name} ({volume_id}) and {instance.shown_name} are not of one owner now",
            hint="one of them was given away meanwhile: look at CloudStack's events",
        )
    if not there.instance_id:
        actions.attach(
            site.client, volume_id, uuid, device_id=step.device_id, check=site.task.check
        )
    return Done(said={"volume": volume_id, "instance": uuid})


def detach_root(site: Site, piece: Piece, step: DetachRoot) -> Done:
    """Detach the root that the template brought."""
    instance = _still_its_owners(site, step.instance_id)
    ours = set(site.journal.made.values())
    roots = [each.id for each in instance.volumes if each.kind == "ROOT" and each.id not in ours]
    if not site.journal.begun(piece):
        # Once it is detached, nothing tells that it was this instance's.
        site.journal.begin(piece, left_over=roots)
    for root in roots:
        actions.detach(site.client, root, check=site.task.check)
    left = list(site.journal.begun(piece)[0]["left_over"])
    return Done(said={"left_over": left[0]} if left else {})


# --- Cards


def _add_address(site: Site, step: AddAddress) -> Done:
    """Give a card a secondary address, unless it has it; one that is another's now is left out."""
    instance = _still_its_owners(site, step.instance_id)
    cards = [nic for nic in instance.nics if nic.network_id == step.network_id]
    why = "" if len(cards) == 1 else f"it has {len(cards)} cards in the network"
    if not why and step.ip not in cards[0].secondary_ips:
        try:
            actions.add_address(site.client, cards[0].id, step.ip, check=site.task.check)
        except Cancelled:
            raise
        except SendenseError as error:
            if error.retryable and error.data.get("cs_code") not in _NO_ADDRESS:
                raise
            why = error.message
    if not why:
        return Done(said={"address": step.ip})
    log.warning("%s was not given its address %s: %s", instance.shown_name, step.ip, why)
    return Done(said={"warning": f"the secondary address {step.ip} was not restored: {why}"})


# --- Instances


def _still_its_owners(site: Site, name: str) -> CloudInstance:
    """Give an instance as it is now; one that was made here must not have been given away."""
    instance = inventory.instance(site.client, site.id_of(name))[0]
    made = (DeployFromVolume, DeployFromTemplate, ImportInstance)
    owners = [step.shape.owner for step in site.course.steps if isinstance(step, made)]
    if name == NEW and not all(owner.is_same(instance.owner) for owner in owners):
        raise Conflict(
            f"{instance.shown_name} ({instance.id}) is {instance.owner.words}'s now",
            hint="it was given away meanwhile: look at CloudStack's events",
        )
    return instance


def _free_root(site: Site, step: DeployFromVolume) -> str:
    """Give the volume to deploy around, if it is still nobody else's."""
    volume = actions.volume(site.client, site.volume_of(step.root))
    free = volume.state == "Ready" and not volume.instance_id
    if not (free and step.shape.owner.is_same(volume.owner)):
        raise Conflict(
            f"volume {volume.name} ({volume.id}), which was made for the new instance, is"
            f" {volume.state}, {volume.owner.words if volume.owner else 'nobody'}'s, and attached"
            f" to {volume.instance_id or 'no instance'}",
            hint="it was used meanwhile: look at CloudStack's events, and begin again",
        )
    return volume.id


def _instance(site: Site, shape: Shape) -> Sought:
    """An instance has its own name at once, which its guest sees; it is told by the shown one."""

    def is_like(row: Json) -> bool:
        asked = tuple(answers.text(row, key) for key in ("name", "zoneid", "serviceofferingid"))
        wanted = (shape.name, shape.zone_id, shape.offering_id)
        return asked == wanted and answers.text(row, "state") not in _GONE

    def rename(uuid: str, name: str) -> None:
        actions.update(site.client, uuid, displayname=name)

    may = site.client.features().takes("updateVirtualMachine", "displayname")
    return Sought(
        "listVirtualMachines", shape.owner, "displayname", shape.display_name or shape.name,
        is_like, rename=rename if may else None,
    )  # fmt: skip


def _deploy(site: Site, piece: Piece, step: DeployFromVolume | DeployFromTemplate) -> Done:
    shape = step.shape
    secrets = secrets_of(site.estate, site.manifest) if shape.with_secrets else InstanceSecrets()
    new = actions.NewInstance(
        name=shape.name,
        zone_id=shape.zone_id,
        offering_id=shape.offering_id,
        owner=shape.owner,
        template_id=step.template_id if isinstance(step, DeployFromTemplate) else "",
        cards=[actions.Card(nic.network_id, nic.mac, nic.ip) for nic in shape.nics],
        start=isinstance(step, DeployFromTemplate) and step.start,
        details=_details(shape, secrets),
        # CloudStack takes only one of the two.
        user_data=None if shape.user_data_id else secrets.user_data,
        user_data_id=shape.user_data_id,
        affinity_group_ids=shape.affinity_group_ids,
        security_group_ids=shape.security_group_ids,
        keypairs=shape.keypairs,
        group=shape.group,
        root_disk_bytes=step.root_gib * GIB if isinstance(step, DeployFromTemplate) else 0,
        boot_type=shape.boot_type,
        boot_mode=shape.boot_mode,
    )

    def deploy(job_id: str, name: str) -> str:
        root = _free_root(site, step) if isinstance(step, DeployFromVolume) else ""
        wanted = replace(new, display_name=name, volume_id=root)
        return actions.deploy(site.client, wanted, check=site.task.check, job_id=job_id)

    found = once(site, piece, _instance(site, shape), deploy)
    made = {NEW: found}
    if isinstance(step, DeployFromVolume):
        _set_system(site, found, shape)
    elif step.start:
        # Its own root is the one that is written over.
        made |= _root_made(site, found)
    return Done(made, {"instance": found, "name": shape.display_name or shape.name})


def _root_made(site: Site, uuid: str) -> dict[str, str]:
    """Give the root volume of a new instance, by that of the point."""
    was = next(each for each in site.manifest.volumes if each.kind == "ROOT")
    instance = inventory.instance(site.client, uuid)[0]
    roots = [each.id for each in instance.volumes if each.kind == "ROOT"]
    if len(roots) != 1:
        raise Busy(f"instance {uuid} has {len(roots)} root volumes, and not one")
    return {was.id: roots[0]}


def _details(shape: Shape, secrets: InstanceSecrets) -> dict[str, str | Secret]:
    """Give the details of then, but for those that are CloudStack's own."""
    found: dict[str, str | Secret] = {
        key: value
        for key, value in secrets.details.items()
        if key.lower() not in _CLOUDS_OWN | _OF_SIZE
    }
    sizes = (
        ("cpuNumber", shape.cpus),
        ("cpuSpeed", shape.cpu_mhz),
        ("memory", shape.memory_bytes // MIB),
    )
    return found | {key: str(value) for key, value in sizes if value}


def _set_system(site: Site, uuid: str, shape: Shape) -> None:
    """Name the guest's system, which no template tells here; it is a word only."""
    if not shape.os_type_id:
        return
    try:
        actions.update(site.client, uuid, ostypeid=shape.os_type_id)
    except SendenseError as error:
        if error.retryable:
            raise


def _import_instance(site: Site, piece: Piece, step: ImportInstance) -> Done:
    shape = step.shape
    secrets = secrets_of(site.estate, site.manifest) if shape.with_secrets else InstanceSecrets()
    pool = site.pools[step.pool_id]
    host_id, cluster_id = _importing_host(site, step.pool_id)
    found = once(
        site, piece, _instance(site, shape),
        lambda job_id, name: actions.import_vm(
            site.client,
            name=shape.name,
            display_name=name,
            path=step.file_name,
            pool_id=step.pool_id,
            zone_id=shape.zone_id,
            cluster_id=cluster_id,
            network_id=shape.nics[0].network_id if shape.nics else "",
            offering_id=shape.offering_id,
            owner=shape.owner,
            host_id=host_id if pool.scope == "HOST" else "",
            details=_details(shape, secrets),
            check=site.task.check,
            job_id=job_id,
        ),
    )  # fmt: skip
    if secrets.user_data is not None:
        actions.update(site.client, found, userdata=secrets.user_data)
    _set_system(site, found, shape)
    made = {NEW: found, **_root_made(site, found)}
    return Done(made, {"instance": found, "name": shape.display_name or shape.name})


def _importing_host(site: Site, pool_id: str) -> tuple[str, str]:
    """Give the cloud's ids of a host that has a pool, and of its cluster."""
    pool = site.pools[pool_id]
    for each in hosts_of(site.estate, site.course.cloud_id):
        host = each.cloud_host
        local = pool.scope != "HOST" or pool.address in ("", host.address, host.name)
        in_cluster = pool.cluster_id in ("", host.cluster_id)
        if host.usable and host.zone_id == pool.zone_id and local and in_cluster:
            return host.id, host.cluster_id
    raise NotFound(f"no host of the cloud that is Up has the pool {pool.name}")
