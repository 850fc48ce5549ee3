"""What a worker can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.dedup import copy_work, growth_work, scale_work
from bench.dedup.task import Task

VERBS: Mapping[str, Callable[[Task], None]] = {
    "init": copy_work.init,
    "backup": copy_work.backup,
    "restore": copy_work.restore,
    "fetch": copy_work.fetch,
    "scattered": growth_work.scattered,
    "clones": growth_work.clones,
    "index": scale_work.index,
    "grow": scale_work.grow,
    "change": scale_work.change,
    "open": scale_work.open_and_list,
    "plan": scale_work.plan,
    "collect": scale_work.collect_one,
}
