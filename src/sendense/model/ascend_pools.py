"""Which pool each new file of a restore goes to, and how it is named there.

The pool of the point is taken if it is there, Up and has room: the rest of the instance's life, its
offering's storage tags among it, was made for it.  Else it is the pool with the most room that the
new instance can reach.  All disks have to be reachable from one host, so a cluster that one of them
is bound to binds the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional, Union

from sendense.model.ascend import AscendRequest, CloudView, FeatureSet, Refusal, RefusalCode
from sendense.model.ascend_steps import NewFile, Step, VerifyDisk
from sendense.model.cloud import CloudPool, CloudVolume
from sendense.model.places import FILE_POOLS, NoPlace, file_in
from sendense.units import format_size

INSTANCE_POOLS = frozenset({"NetworkFilesystem", "Filesystem"})
"""Kinds of pools that ``importVm`` takes a root disk from."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class FilePlan:
    """Where one new file goes."""

    pool: CloudPool
    name: str
    path: str
    reason: str

    def steps(self, volume: CloudVolume) -> list[Step]:
        """Write it and read it back: until it is imported, nobody else can write to it."""
        return [
            NewFile(
                volume.id, self.pool.id, self.name, self.path, volume.size, volume.name, self.reason
            ),
            VerifyDisk(volume.id, volume.size, volume.name),
        ]


@dataclass(frozen=True)
class FilePlans:
    """Where all new files go, by volume of the point; with refusals not all have a place."""

    places: dict[str, FilePlan]
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()


def importable_pools(features: FeatureSet) -> frozenset[str]:
    """Give the kinds of pools that ``importVolume`` takes files of.

    Shared mount points came with 4.22.1, and nothing but the version tells.
    """
    return FILE_POOLS if version_of(features.version) >= (4, 22, 1) else INSTANCE_POOLS


def version_of(text: str) -> tuple[int, ...]:
    """Give a version's leading numbers: ``4.20.1.0-SNAPSHOT`` as (4, 20, 1, 0)."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def check_file_names(volumes: Iterable[CloudVolume], request: AscendRequest) -> tuple[Refusal, ...]:
    """Refuse new files without a name of their own."""
    refusals, names = [], set()
    for volume in volumes:
        name = request.file_names.get(volume.id, "")
        if not _UUID.fullmatch(name) or name in names:
            refusals.append(
                Refusal(
                    RefusalCode.REQUEST,
                    f"the new file of volume {volume.name} has no name of its own ({name!r})",
                    "give each volume another new UUID",
                )
            )
        names.add(name)
    return tuple(refusals)


class PoolChooser:
    """Chooses pools for one restore after another of its files, and remembers what they take."""

    def __init__(
        self,
        view: CloudView,
        request: AscendRequest,
        *,
        zone_id: str,
        kinds: frozenset[str],
        cluster_id: str = "",
    ) -> None:
        """Choose among pools of a zone; a cluster binds where it is given."""
        self._view = view
        self._request = request
        self._zone_id = zone_id
        self._kinds = kinds
        self._cluster_id = cluster_id
        self._local_pool = ""
        self._taken: dict[str, int] = {}

    def place(self, volumes: Iterable[CloudVolume]) -> FilePlans:
        """Give each volume a pool and a name."""
        places: dict[str, FilePlan] = {}
        refusals: list[Refusal] = []
        warnings: list[str] = []
        for volume in volumes:
            name = self._request.file_names.get(volume.id, "")
            found = self._pool(volume)
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            pool, reason = found
            place = file_in(pool, name or "unnamed")
            if isinstance(place, NoPlace):
                refusals.append(Refusal(RefusalCode.POOL, place.reason, place.hint))
                continue
            if not self._has_room(pool, volume.size):
                warnings.append(f"pool {pool.name} has less room than {volume.name} may need")
            self._take(pool, volume.size)
            places[volume.id] = FilePlan(pool, name, place.path, reason)
        return FilePlans(places, tuple(refusals), tuple(warnings))

    def _pool(self, volume: CloudVolume) -> Union[tuple[CloudPool, str], Refusal]:
        forced = self._request.pool_id
        if forced:
            pool = self._view.pool(forced)
            doubt = "it is not there" if pool is None else self._doubt(pool)
            if pool is not None and not doubt:
                return pool, f"pool {pool.name} was asked for"
            return self._refusal(volume, f"pool {pool.name if pool else forced}: {doubt}")
        pool = self._view.pool(volume.pool_id)
        doubt = "it is not there" if pool is None else self._doubt(pool, volume.size)
        if pool is not None and not doubt:
            return pool, f"pool {pool.name} is where it was"
        fitting = [each for each in self._view.pools if not self._doubt(each, volume.size)]
        if not fitting:
            words = f"its pool {volume.pool or volume.pool_id or 'of then'}: {doubt}; no other fits"
            return self._refusal(volume, words)
        best = min(fitting, key=lambda each: (each.scope == "HOST", -self._room(each), each.id))
        return best, f"pool {best.name} has the most room ({volume.pool or 'its own'}: {doubt})"

    def _refusal(self, volume: CloudVolume, words: str) -> Refusal:
        kinds = ", ".join(sorted(self._kinds))
        return Refusal(
            RefusalCode.POOL,
            f"no pool takes volume {volume.name} ({format_size(volume.size)}): {words}",
            f"bring a pool of the zone Up that has room and is of one of these kinds: {kinds}",
        )

    def _doubt(self, pool: CloudPool, size: Optional[int] = None) -> str:
        """Say why a pool does not fit; nothing where it does."""
        doubts = (
            (pool.state != "Up", f"it is {pool.state or 'in no known state'}"),
            (pool.zone_id != self._zone_id, "it is in another zone"),
            (pool.kind not in self._kinds, f"it is of kind {pool.kind}, which this way cannot use"),
            (not self._in_reach(pool), "the other disks are in another cluster or on one host"),
            (size is not None and not self._has_room(pool, size), "it has too little room"),
        )
        return next((words for so, words in doubts if so), "")

    def _in_reach(self, pool: CloudPool) -> bool:
        if pool.scope == "ZONE":
            return True
        if pool.scope == "HOST" and self._local_pool not in ("", pool.id):
            return False
        return self._cluster_id in ("", pool.cluster_id)

    def _take(self, pool: CloudPool, size: int) -> None:
        self._taken[pool.id] = self._taken.get(pool.id, 0) + size
        if pool.scope != "ZONE":
            self._cluster_id = self._cluster_id or pool.cluster_id
        if pool.scope == "HOST":
            self._local_pool = pool.id

    def _room(self, pool: CloudPool) -> int:
        return pool.size - pool.used - self._taken.get(pool.id, 0)

    def _has_room(self, pool: CloudPool, size: int) -> bool:
        # A pool that says no size (some do until their first report) is not thought full.
        return not pool.size or self._room(pool) >= size
