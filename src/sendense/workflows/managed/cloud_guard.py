"""A capture of an instance that a cloud has: may it begin, and where.

The inventory is minutes old, so right before a capture the cloud itself is asked.  One that the
inventory does not have is asked for as well, where it is on a host of a cloud: whatever a cloud has
is captured in its ways, or not at all.  While the capture runs, CloudStack goes first
(:mod:`~sendense.workflows.managed.cloud_watchman`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sendense import clock
from sendense.cloudstack import inventory
from sendense.errors import Busy, Conflict, NotFound, SendenseError, Unavailable, Unsupported
from sendense.model.ascend_steps import MARKER
from sendense.model.cloud import Cloud, CloudInstance, InstanceSecrets
from sendense.model.cloud_manifest import (
    ATTACHMENT,
    CloudManifest,
    ManifestDisk,
    manifest_to_bytes,
    secrets_to_bytes,
)
from sendense.model.fleet import Instance
from sendense.model.machine import Machine, PowerState
from sendense.model.matching import DiskMatch, is_clouds_own, match_disks
from sendense.model.places import domain_xml_of
from sendense.model.readiness import RETRY, Restoring, ensure_ready, readiness_of
from sendense.model.secret import Secret
from sendense.model.survey import Survey
from sendense.workflows.managed.cloud_hosts import (
    clouds_of_host,
    host_running,
    hosts_reaching,
    pools_of,
)
from sendense.workflows.managed.cloud_watchman import CloudWatchman
from sendense.workflows.managed.estate import Estate

log = logging.getLogger(__name__)

_LOOK_S = 5.0
"""CloudStack's agent waits 30 s for the lock of a domain that a backup holds."""
_TRY_NEXT = (NotFound, Unavailable, Unsupported)
"""An agent that is silent or old, and a pool that is not mounted there: another host may do."""


@dataclass(frozen=True)
class CloudCapture:
    """What a backup of an instance of a cloud takes from it."""

    host_id: str
    """Ours, whose agent captures."""
    domain_xml: str | None
    """Of an instance that is off."""
    attachments: Mapping[str, bytes]
    watchman: CloudWatchman
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unguarded:
    """That no cloud has an instance: it is its host's alone."""

    warnings: tuple[str, ...] = ()


def prepare_capture(
    estate: Estate, uuid: str, *, beside_cloudstack: bool = False, for_restore: bool = False
) -> CloudCapture | None:
    """Ask the cloud whether a capture may begin, and where; none: no cloud has the instance.

    ``for_restore`` is for the point that undoes a restore: of an instance that is half restored.
    """
    found = guarded(estate, uuid, beside_cloudstack=beside_cloudstack, for_restore=for_restore)
    return found if isinstance(found, CloudCapture) else None


def guarded(
    estate: Estate, uuid: str, *, beside_cloudstack: bool = False, for_restore: bool = False
) -> CloudCapture | Unguarded:
    """As :func:`prepare_capture`, with what is to be said of an instance that no cloud has."""
    asked = clouds_to_ask(estate, uuid)
    for cloud in asked:
        client = estate.cloud(cloud.id)
        try:
            with _patiently():
                instance, secrets = inventory.instance(client, uuid)
                jobs = estate.clouds.jobs.on(client, instance, fresh_s=0.0)
        except NotFound:
            continue
        estate.catalog.inventory.take_instances(cloud.id, [(instance, secrets)], clock.now())
        restoring = None if for_restore else _restoring(estate, instance)
        readiness = readiness_of(
            instance,
            jobs,
            beside_cloudstack=beside_cloudstack,
            restoring=restoring,
        )
        ensure_ready(readiness)
        warning = getattr(readiness, "warning", "")
        return _prepared(estate, cloud, instance, secrets, (warning,) if warning else ())
    return _nobodys(estate, uuid, asked)


def clouds_to_ask(estate: Estate, uuid: str) -> tuple[Cloud, ...]:
    """Give the clouds that may have an instance, where the inventory does not show it too.

    The cloud that has, or had, it; and those that its host is a host of, or may be.
    """
    try:
        entry = estate.catalog.inventory.instance(uuid)
    except NotFound:
        first: tuple[Cloud, ...] = ()
    else:
        cloud = estate.catalog.clouds.get(entry.cloud_id)
        # One that is gone from a cloud that is disabled has nobody there to tell of it.
        first = (cloud,) if cloud.enabled or entry.gone_at is None else ()
    known = _known(estate, uuid)
    host_id = None if known is None else known.host_id
    others = clouds_of_host(estate, host_id) if host_id is not None else ()
    return tuple({cloud.id: cloud for cloud in (*first, *others)}.values())


def cloud_having(estate: Estate, uuid: str) -> Cloud | None:
    """Give the cloud that has an instance now; it is asked where the inventory is no proof."""
    for cloud in clouds_to_ask(estate, uuid):
        try:
            with _patiently():
                inventory.instance(estate.cloud(cloud.id), uuid)
        except NotFound:
            continue
        return cloud
    return None


def _known(estate: Estate, uuid: str) -> Instance | None:
    try:
        return estate.catalog.instances.get(uuid)
    except NotFound:
        return None


@contextmanager
def _patiently() -> Iterator[None]:
    """Ask a cloud; an API that is away is away for minutes, not for seconds."""
    try:
        yield
    except Unavailable as error:
        error.data.setdefault("retry_s", RETRY.total_seconds())
        raise


def _nobodys(estate: Estate, uuid: str, asked: tuple[Cloud, ...]) -> Unguarded:
    if not asked:
        return Unguarded()
    names = ", ".join(cloud.name for cloud in asked)
    known = _known(estate, uuid)
    if known is not None and is_clouds_own(known.name):
        raise Conflict(
            f"{known.name} is a machine that CloudStack makes for itself on a host of {names}",
            hint="leave it alone: CloudStack makes it again where it is lost; one of yours needs"
            " another name",
        )
    return Unguarded((f"no cloud has it (asked: {names}): it was read as its host shows it",))


def _restoring(estate: Estate, instance: CloudInstance) -> Restoring:
    job_id = instance.tags.get(MARKER, "")
    try:
        job = estate.catalog.jobs.get(job_id)
    except NotFound:
        return Restoring.ENDED
    return Restoring.ENDED if job.final else Restoring.UNDER_WAY


def _prepared(
    estate: Estate,
    cloud: Cloud,
    instance: CloudInstance,
    secrets: InstanceSecrets,
    warnings: tuple[str, ...],
) -> CloudCapture:
    host_id, match, domain_xml = _placed(estate, cloud, instance)
    match.ensure_sure()
    manifest = CloudManifest(
        cloud_id=cloud.id,
        cloud=cloud.name,
        version=cloud.state.version,
        taken_at=clock.now(),
        instance=instance,
        disks=tuple(
            ManifestDisk(pair.volume.id, pair.disk.identity, pair.disk.format)
            for pair in match.pairs
        ),
        sealed=_sealed(estate, instance.id, secrets),
    )
    jobs = estate.clouds.jobs
    return CloudCapture(
        host_id=host_id,
        domain_xml=domain_xml,
        attachments={ATTACHMENT: manifest_to_bytes(manifest)},
        watchman=CloudWatchman(
            lambda: estate.cloud(cloud.id),
            instance,
            lambda seen: jobs.on(estate.cloud(cloud.id), seen),
            _LOOK_S,
        ),
        warnings=(*warnings, *match.warnings),
    )


def _placed(
    estate: Estate, cloud: Cloud, instance: CloudInstance
) -> tuple[str, DiskMatch, str | None]:
    """Find the host of an instance, and which disks it has there."""
    pools = pools_of(estate, cloud.id)
    if instance.running:
        host_id = host_running(estate, cloud.id, instance)
        with estate.agent(host_id) as agent:
            try:
                survey = agent.survey(instance.id)
            except NotFound:
                raise Busy(
                    f"the cloud says that {instance.shown_name} runs on {agent.address.name}, "
                    "and its libvirt does not know it",
                    hint="it moves or starts; it is tried again",
                ) from None
        return host_id, match_disks(survey.machine, instance, pools, sizes=_sizes(survey)), None
    xml = domain_xml_of(instance, pools, like=_seen(estate, instance.id))
    host_id, survey = _surveyed(estate, hosts_reaching(estate, cloud.id, instance), xml)
    if survey.machine.power is not PowerState.STOPPED:
        raise Busy(
            f"the cloud says that {instance.shown_name} is off, and it runs on"
            f" {estate.catalog.hosts.get(host_id).name}",
            hint="it starts or stops; it is tried again",
        )
    match = match_disks(survey.machine, instance, pools, sizes=_sizes(survey), in_place=True)
    return host_id, match, xml


def _surveyed(estate: Estate, host_ids: Iterable[str], xml: str) -> tuple[str, Survey]:
    """Have the first host that can do it look at the disks of a machine that is off."""
    problem: SendenseError | None = None
    for host_id in host_ids:
        try:
            with estate.agent(host_id) as agent:
                return host_id, agent.survey_of(xml)
        except _TRY_NEXT as error:
            log.warning("host %s cannot look at it: %s", host_id, error)
            problem = problem or error
    if problem is None:
        raise TypeError("no host to ask")
    raise problem


def _sizes(survey: Survey) -> dict[str, int]:
    return {item.disk.target: item.size for item in survey.disks}


def _seen(estate: Estate, uuid: str) -> Machine | None:
    """Give the machine as a host showed it last."""
    known = _known(estate, uuid)
    return None if known is None else known.machine


def _sealed(estate: Estate, uuid: str, secrets: InstanceSecrets) -> bytes | None:
    """Seal details and user data under the master key: a repository may be of plain files."""
    if not secrets.details and secrets.user_data is None:
        return None
    return estate.catalog.seal_for_points(uuid, Secret(secrets_to_bytes(secrets)))
