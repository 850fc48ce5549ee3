"""Which index objects to replace: a decision without I/O.

Those that name a pack which is to go.  Many small ones, because whoever opens the repository
without a cache fetches each.  And those that name the same packs: a run that was broken off
has left both an index object and its successor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

MOST_ENTRIES = 100_000
"""Of one index object, save for a pack that has more: some 5 MB."""
SMALL_ENTRIES = MOST_ENTRIES // 2
MOST_SMALL = 16
"""Small index objects that are left alone."""


def replaced_objects(
    objects: Mapping[str, Sequence[tuple[str, int]]], gone: frozenset[str]
) -> tuple[str, ...]:
    """Choose among index objects, given with the packs that they name and their entries."""
    named = Counter(pack for packs in objects.values() for pack, _ in packs)
    small = [
        name
        for name, packs in objects.items()
        if sum(entries for _, entries in packs) < SMALL_ENTRIES
    ]
    joined = frozenset(small if len(small) > MOST_SMALL else ())
    return tuple(
        name
        for name, packs in objects.items()
        if name in joined or not packs or any(pack in gone or named[pack] > 1 for pack, _ in packs)
    )
