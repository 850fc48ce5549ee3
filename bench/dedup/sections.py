"""The parts of this bench, which can be chosen one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.dedup.beside import measure_beside
from bench.dedup.copying import measure_copies, measure_mixed, measure_on_disk
from bench.dedup.growth import measure_growth
from bench.dedup.plan import DedupPlan
from bench.dedup.remote import measure_remote
from bench.dedup.scale import measure_index, measure_scale
from bench.dedup.stage import DedupStage
from bench.figures import Figure

ALL = "dedup"
_PREFIX = "sendense-bench-"


def _on_disk(stage: DedupStage, disk: Path) -> Iterator[Figure]:
    with TemporaryDirectory(prefix=_PREFIX, dir=disk) as folder:
        yield from measure_on_disk(stage, Path(folder))


_SECTIONS: Mapping[str, Callable[[DedupStage, Path], Iterator[Figure]]] = {
    "dedup-copy": lambda stage, _: measure_copies(stage),
    "dedup-mixed": lambda stage, _: measure_mixed(stage),
    "dedup-disk": _on_disk,
    "dedup-s3": lambda stage, _: measure_remote(stage),
    "dedup-growth": lambda stage, _: measure_growth(stage),
    "dedup-peers": lambda stage, _: measure_beside(stage),
    "dedup-index": lambda stage, _: measure_index(stage),
    "dedup-scale": lambda stage, _: measure_scale(stage),
}
SECTIONS = tuple(_SECTIONS)


def measure_dedup(
    plan: DedupPlan, wanted: set[str], *, memory: Path, disk: Path
) -> Iterator[Figure]:
    """Run what is wanted, in a folder in memory and one on a disk."""
    chosen = [name for name in SECTIONS if name in wanted or ALL in wanted]
    if not chosen:
        return
    with TemporaryDirectory(prefix=_PREFIX, dir=memory) as folder:
        stage = DedupStage(Path(folder), plan)
        for name in chosen:
            yield from _SECTIONS[name](stage, disk)
