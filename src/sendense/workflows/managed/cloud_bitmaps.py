"""Our bitmaps come off an instance that has a VM snapshot with memory.

Reverting to such a snapshot while a disk has any dirty bitmap fails in QEMU, and QEMU exits: the
guest is dead (measured with libvirt 9.0 and QEMU 7.2).  A backup makes none while there is such a
snapshot; what an earlier backup left has to go as soon as the snapshot is seen: by the webhook or
the events of CloudStack within seconds, else by the next look.  A revert before that is a risk that
only an instance without bitmaps does not have.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sendense import clock
from sendense.catalog.status import SILENT_AFTER
from sendense.errors import Busy, SendenseError, Unavailable
from sendense.fleet.agent_client import AgentClient
from sendense.model.cloud import CloudInstance
from sendense.model.fleet import HostHealth
from sendense.model.survey import Survey, is_own
from sendense.workflows.managed.cloud_hosts import host_running
from sendense.workflows.managed.estate import Estate

log = logging.getLogger(__name__)


def drop_bitmaps(
    estate: Estate, cloud_id: str, instances: Iterable[CloudInstance]
) -> tuple[str, ...]:
    """Take our bitmaps off those that run and have a snapshot with memory; gives their ids.

    What fails is said and left to the next look: a capture that runs is not disturbed.  One that
    is off has no QEMU that could die; its next capture takes the bitmaps away.
    """
    dropped = []
    away: set[str] = set()
    for instance in instances:
        if not instance.memory_snapshots or not instance.running:
            continue
        try:
            host_id = host_running(estate, cloud_id, instance)
            if host_id in away or _silent(estate, host_id):
                continue
            with estate.agent(host_id) as agent:
                if _dropped(agent, instance):
                    dropped.append(instance.id)
        except Busy as error:
            log.info("bitmaps of %s stay for now: %s", instance.shown_name, error)
        except Unavailable as error:
            away.add(host_id)
            _warn(instance, error)
        except SendenseError as error:
            _warn(instance, error)
    return tuple(dropped)


def _dropped(agent: AgentClient, instance: CloudInstance) -> bool:
    if not _has_ours(agent.survey(instance.id)):
        return False
    agent.release(instance.id)
    log.info("%s has a snapshot with memory: our bitmaps were removed", instance.shown_name)
    return True


def _has_ours(survey: Survey) -> bool:
    bitmaps = [bitmap.name for disk in survey.disks for bitmap in disk.bitmaps]
    return any(map(is_own, (*survey.checkpoints, *bitmaps)))


def _silent(estate: Estate, host_id: str) -> bool:
    host = estate.catalog.hosts.get(host_id)
    return host.health(clock.now(), SILENT_AFTER) is HostHealth.SILENT


def _warn(instance: CloudInstance, error: SendenseError) -> None:
    log.warning(
        "%s has a snapshot with memory, and our bitmaps could not be removed: reverting to it now "
        "would end its QEMU: %s", instance.shown_name, error,
    )  # fmt: skip
