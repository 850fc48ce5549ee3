"""What can be done with an instance of a cloud, and what is in the way: flags in words.

Each flag says what is so, what follows from it and what to do.  ``blocks`` means that no backup is
taken until that is different; ``warning`` that backups work with less than they could have, or that
something else on the instance suffers.  What is not known makes no flag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Optional

from sendense.model.agent_status import AgentFacts
from sendense.model.cloud import CloudHost, CloudInstance, CloudPool, CloudVolume
from sendense.model.places import FILE_POOLS, disks_of
from sendense.model.survey import Survey, is_own


class Severity(str, Enum):
    """How much a flag matters."""

    INFO = "info"
    WARNING = "warning"
    BLOCKS = "blocks"


class FlagCode(str, Enum):
    """What is so, in a word that scripts may use."""

    BITMAPS_USABLE = "bitmaps-usable"
    RAW_DISK = "raw-disk"
    NETWORK_DISK = "network-disk"
    LINSTOR = "linstor-disk"
    POWERFLEX = "powerflex-disk"
    OTHER_STORAGE = "other-storage"
    ENCRYPTED_DISK = "encrypted-disk"
    MEMORY_SNAPSHOTS = "memory-snapshots"
    DISK_SNAPSHOTS = "disk-snapshots"
    CLOUDSTACK_BACKUP = "cloudstack-backup-offering"
    FOREIGN_CHECKPOINTS = "foreign-checkpoints"
    UNSUPPORTED_HOST = "unsupported-host"
    NO_AGENT = "no-agent"
    OLD_HOST = "old-host"
    NOT_READY_VOLUMES = "not-ready-volumes"
    NO_GUEST_AGENT = "no-guest-agent"
    DELETE_PROTECTION = "delete-protection"
    PATHS_UNKNOWN = "paths-unknown"


@dataclass(frozen=True)
class Flag:
    """One thing that is so."""

    code: FlagCode
    severity: Severity
    message: str
    """What is so, and what follows."""
    hint: str = ""
    """What to do about it, where something can be done."""
    volume_ids: tuple[str, ...] = ()
    """Which disks; none: the whole instance."""


@dataclass(frozen=True)
class HostSight:
    """What is known of the host where the instance runs, or ran last."""

    host: Optional[CloudHost] = None
    agent: Optional[AgentFacts] = None
    """Of the agent there; none: there is none, or it does not answer."""


def flags_of(
    instance: CloudInstance,
    pools: Mapping[str, CloudPool],
    *,
    sight: Optional[HostSight] = None,
    survey: Optional[Survey] = None,
    guest_agent: Optional[bool] = None,
) -> tuple[Flag, ...]:
    """Give the flags of an instance, what blocks first.

    ``sight`` is left out where no host is known; ``survey`` is what an agent saw of the machine;
    ``guest_agent`` tells whether the agent in the guest answers, where that was asked.
    """
    flags = [
        *_storage_flags(instance, pools),
        *_volume_flags(instance),
        *_snapshot_flags(instance),
        *_rule_flags(instance),
        *(_host_flags(instance, sight) if sight is not None else ()),
        *(_survey_flags(instance, survey) if survey is not None else ()),
    ]
    if guest_agent is False or (survey is not None and not survey.machine.agent_channel):
        flags.append(_NO_GUEST_AGENT)
    if not any(flag.code in _AGAINST_BITMAPS for flag in flags):
        flags.append(_BITMAPS_USABLE)
    order = (Severity.BLOCKS, Severity.WARNING, Severity.INFO)
    return tuple(sorted(flags, key=lambda flag: order.index(flag.severity)))


def blocked(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Give the flags that no backup is taken with."""
    return tuple(flag for flag in flags if flag.severity is Severity.BLOCKS)


_BITMAPS_USABLE = Flag(
    FlagCode.BITMAPS_USABLE,
    Severity.INFO,
    "QEMU records what changes: after the first backup only changed data is read",
)
_NO_GUEST_AGENT = Flag(
    FlagCode.NO_GUEST_AGENT,
    Severity.WARNING,
    "no agent in the guest answers: points are as after a power cut, not of frozen file systems",
    "install and start qemu-guest-agent in the guest",
)
_AGAINST_BITMAPS = frozenset(
    {
        FlagCode.RAW_DISK, FlagCode.NETWORK_DISK, FlagCode.LINSTOR, FlagCode.POWERFLEX,
        FlagCode.OTHER_STORAGE, FlagCode.MEMORY_SNAPSHOTS, FlagCode.UNSUPPORTED_HOST,
        FlagCode.NO_AGENT, FlagCode.OLD_HOST, FlagCode.PATHS_UNKNOWN,
    }
)  # fmt: skip

_STORAGES = {
    "RBD": (FlagCode.NETWORK_DISK, "on Ceph, which holds no dirty bitmaps and has no file"),
    "Linstor": (FlagCode.LINSTOR, "on LINSTOR: a raw block device, which holds no dirty bitmaps"),
    "PowerFlex": (FlagCode.POWERFLEX, "on PowerFlex: a raw block device without dirty bitmaps"),
}


def _storage_flags(instance: CloudInstance, pools: Mapping[str, CloudPool]) -> list[Flag]:
    """Group the disks by what their pools mean for a backup."""
    groups: dict[str, list[CloudVolume]] = {}
    unknown = []
    for volume in disks_of(instance):
        pool = pools.get(volume.pool_id)
        if pool is None or not pool.kind:
            unknown.append(volume)
        elif pool.kind not in FILE_POOLS:
            groups.setdefault(pool.kind, []).append(volume)
    flags = [_storage_flag(kind, volumes) for kind, volumes in sorted(groups.items())]
    if unknown:
        flags.append(
            Flag(
                FlagCode.PATHS_UNKNOWN,
                Severity.WARNING,
                f"the cloud does not say where {_names(unknown)} lie:"
                " they can be read while the instance runs only, and not restored in place",
                "give the cloud a key of an account of type Admin",
                _ids(unknown),
            )
        )
    return flags


def _storage_flag(kind: str, volumes: list[CloudVolume]) -> Flag:
    code, words = _STORAGES.get(
        kind, (FlagCode.OTHER_STORAGE, f"in a pool of kind {kind}, which holds no dirty bitmaps")
    )
    return Flag(
        code,
        Severity.WARNING,
        f"{_names(volumes)}: {words}. Each backup reads all data while the instance runs;"
        " with the instance off there is none, and no restore in place",
        "move the volumes to a pool of files (NFS, local, shared mount point)",
        _ids(volumes),
    )


def _volume_flags(instance: CloudInstance) -> list[Flag]:
    disks = disks_of(instance)
    flags = []
    encrypted = [volume for volume in disks if volume.encryption]
    if encrypted:
        flags.append(_encrypted_flag(instance, encrypted))
    late = [volume for volume in disks if volume.state != "Ready"]
    if late:
        states = ", ".join(sorted({volume.state or "unknown" for volume in late}))
        flags.append(
            Flag(
                FlagCode.NOT_READY_VOLUMES,
                Severity.BLOCKS,
                f"{_names(late)} not Ready but {states}: a backup waits until they are",
                "wait; if it stays so, look at the volume's events in CloudStack",
                _ids(late),
            )
        )
    return flags


def _encrypted_flag(instance: CloudInstance, volumes: list[CloudVolume]) -> Flag:
    return Flag(
        FlagCode.ENCRYPTED_DISK,
        Severity.WARNING if instance.running else Severity.BLOCKS,
        f"{_names(volumes)} encrypted by CloudStack, which keeps the key: they are read through"
        " the running guest only, a point holds them in clear text (sealed by the repository's"
        " key if it has one), and they are not restored in place",
        "take backups while it runs, into an encrypted repository",
        _ids(volumes),
    )


def _snapshot_flags(instance: CloudInstance) -> list[Flag]:
    flags = []
    if instance.memory_snapshots:
        flags.append(
            Flag(
                FlagCode.MEMORY_SNAPSHOTS,
                Severity.WARNING,
                f"{instance.memory_snapshots} VM snapshot(s) with memory: reverting to one while a"
                " disk has a bitmap ends QEMU, and the guest with it. So bitmaps are removed as"
                " soon as the snapshot is seen, and none is made: backups read all data, and store"
                " what changed. Until it is seen (see cloud webhooks), a revert is a danger",
                "wait a minute before you revert a new one; delete VM snapshots that are no longer"
                " needed",
            )
        )
    if instance.disk_snapshots:
        flags.append(
            Flag(
                FlagCode.DISK_SNAPSHOTS,
                Severity.WARNING,
                f"{instance.disk_snapshots} VM snapshot(s) of disks: its files change with each,"
                " so the next backup may read all; and no restored disk can be attached meanwhile",
                "delete the VM snapshots when they are no longer needed",
            )
        )
    return flags


def _rule_flags(instance: CloudInstance) -> list[Flag]:
    flags = []
    if instance.backup_offering:
        flags.append(
            Flag(
                FlagCode.CLOUDSTACK_BACKUP,
                Severity.BLOCKS,
                f"CloudStack backs it up itself ({instance.backup_offering}). One backup at a time"
                " is all that libvirt has, so it is left alone unless the policy says otherwise",
                "take it off the backup offering, or allow both in the policy and keep the"
                " schedules apart",
            )
        )
    if instance.delete_protection:
        flags.append(
            Flag(
                FlagCode.DELETE_PROTECTION,
                Severity.INFO,
                "CloudStack refuses to destroy it; backups and restores are not concerned",
            )
        )
    return flags


def _host_flags(instance: CloudInstance, sight: HostSight) -> list[Flag]:
    host, name = sight.host, sight.host.name if sight.host is not None else "its host"
    if host is not None and (host.kind, host.hypervisor) != ("Routing", "KVM"):
        words = f"{name} is no KVM host ({host.hypervisor or 'unknown'}): nothing can be read there"
        return [Flag(FlagCode.UNSUPPORTED_HOST, Severity.BLOCKS, words)]
    flags = []
    if host is not None and not host.usable:
        flags.append(
            Flag(
                FlagCode.UNSUPPORTED_HOST,
                Severity.BLOCKS,
                f"{name} is {host.state}, {host.resource_state}: no backup begins there",
                "bring the host back in CloudStack, or let the instance move",
            )
        )
    if sight.agent is None:
        flags.append(
            Flag(
                FlagCode.NO_AGENT,
                Severity.BLOCKS,
                f"no agent answers on {name}, so {instance.shown_name} cannot be read there",
                "deploy the agent to the host",
            )
        )
    elif not sight.agent.incremental:
        flags.append(
            Flag(
                FlagCode.OLD_HOST,
                Severity.WARNING,
                f"libvirt on {name} has no incremental backup ({sight.agent.versions}):"
                " backups read all data, and store what changed",
                "libvirt 7.6 and QEMU 6.1 or later have it",
            )
        )
    return flags


def _survey_flags(instance: CloudInstance, survey: Survey) -> list[Flag]:
    flags = []
    raw = [item.disk.target for item in survey.disks if item.disk.format == "raw"]
    if raw:
        flags.append(
            Flag(
                FlagCode.RAW_DISK,
                Severity.WARNING,
                f"{', '.join(raw)}: raw images hold no dirty bitmap. Each backup reads all of"
                " them, and stores what changed",
                "convert the volumes to qcow2",
            )
        )
    if any(item.memory_snapshot for item in survey.disks) and not instance.memory_snapshots:
        flags.append(
            Flag(
                FlagCode.MEMORY_SNAPSHOTS,
                Severity.WARNING,
                "an image holds an internal snapshot that CloudStack does not list: no bitmap is"
                " kept, because it would break the revert to it",
                "look at it with: qemu-img snapshot -l",
            )
        )
    foreign = [name for name in survey.checkpoints if not is_own(name)]
    if foreign:
        flags.append(
            Flag(
                FlagCode.FOREIGN_CHECKPOINTS,
                Severity.WARNING,
                f"{len(foreign)} checkpoint(s) of others ({', '.join(foreign[:3])}): something else"
                " backs it up too. They are never touched; two backups at once are refused",
                "keep the schedules apart",
            )
        )
    return flags


def _names(volumes: Iterable[CloudVolume]) -> str:
    return ", ".join(volume.name for volume in volumes)


def _ids(volumes: Iterable[CloudVolume]) -> tuple[str, ...]:
    return tuple(volume.id for volume in volumes)
