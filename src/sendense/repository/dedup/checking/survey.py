"""What a check and a repair both begin with: all that is not data, and whom it touches.

The order matters, because others write meanwhile.  Points are listed first, then the index, then
the packs: what a point needs was indexed before it was there, and stored before it was
indexed.  Nothing of it is removed: a check and the collection of garbage exclude each other.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

from sendense import clock
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.dedup import damages
from sendense.repository.dedup.checking import pack_listing, small_objects
from sendense.repository.dedup.checking.blame import Blame, Cause
from sendense.repository.dedup.checking.findings import What
from sendense.repository.dedup.checking.fresh_index import FreshIndex, read_fresh
from sendense.repository.dedup.checking.pack_listing import PackListing, list_packs
from sendense.repository.dedup.checking.point_look import PointsSeen, look_at_points
from sendense.repository.dedup.checking.rereading import Refused
from sendense.repository.dedup.checking.tree_walk import TreeWalk
from sendense.repository.dedup.damages import DamageNote
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.unnamed_packs import read_packs

Check = Callable[[], None]


@dataclass
class Survey:
    """A repository, looked at."""

    parts: Parts
    """With an index of its own, which was read for this."""
    points: PointsSeen
    fresh: FreshIndex
    packs: PackListing
    notes: tuple[DamageNote, ...]
    others: list[Refused]
    """Small objects that cannot be read, and are neither points nor index objects."""
    blame: Blame = field(init=False)
    adopted: bool = False
    """Packs that no index object names were looked into."""

    def __post_init__(self) -> None:
        """Enter what is missing already."""
        self.blame = Blame(self.fresh.index)
        pack_listing.enter(self.packs, self.fresh.index, self.blame)

    def close(self) -> None:
        """Give files back."""
        self.fresh.close()

    @property
    def needed(self) -> frozenset[str]:
        """Give the packs that no index object names, and points need; after the walk."""
        return frozenset(
            pack
            for pack, cause in self.blame.packs.items()
            if cause.points and pack in self.packs.unnamed
        )

    def touched(self) -> frozenset[str]:
        """Give the points in whose way something is, as far as they can be read; after the walk."""
        return self.damaged() | self._points(lambda cause: cause.what is What.PACK_UNREADABLE)

    def damaged(self) -> frozenset[str]:
        """Give those of which something is bad, rather than not to be had just now."""
        attached = {item.id for item in self.points.readable if item.attachments}
        bad = self._points(
            lambda cause: not cause.readable and cause.what is not What.PACK_UNREADABLE
        )
        return bad | attached

    def _points(self, chosen: Callable[[Cause], bool]) -> frozenset[str]:
        causes = filter(chosen, self.blame.causes())
        return frozenset(point for cause in causes for point in cause.points)


def survey(parts: Parts, check: Check) -> Survey:
    """Look at everything but the trees and the data."""
    points = look_at_points(parts, check)
    fresh = read_fresh(parts, check)
    try:
        fresh.unreadable = {
            name: small_objects.explained(refused, parts)
            for name, refused in fresh.unreadable.items()
        }
        return Survey(
            replace(parts, index=fresh.index),
            points,
            fresh,
            list_packs(parts, fresh.index),
            damages.read_all(parts, []),
            [
                small_objects.explained(refused, parts)
                for refused in small_objects.look_at_others(parts)
            ],
        )
    except BaseException:
        fresh.close()
        raise


def enter_notes(found: Survey, read: Container[str]) -> None:
    """Take for bad what notes say of packs that were not ``read`` since."""
    noted = damages.together(found.notes)
    there = {item.head.id: item.head.name for item in found.fresh.index.packs()}
    for pack in sorted(noted.packs):
        if pack in there and pack not in read and found.blame.whole(pack) is None:
            told = f"{there[pack]} was found bad by an earlier check"
            cause = Cause(What.PACK_NOTED, there[pack], told, readable=True)
            found.blame.pack(pack, cause)
    for record, pack in sorted(noted.records):
        if pack in there and pack not in read:
            told = "they were found bad by an earlier check"
            found.blame.bad(pack, there[pack], [record], told)


def adopt(found: Survey) -> None:
    """Look into the packs that no index object names, and take what they hold for there."""
    found.adopted = True
    for record in read_packs(found.parts, found.packs.unnamed.values()):
        name = record.head.name
        found.blame.pack(
            record.head.id,
            Cause(What.PACK_UNNAMED, name, f"{name} is named by no index object", readable=True),
        )
        found.fresh.index.add_own(record)


def walk(found: Survey, check: Check, progress: ProgressListener) -> None:
    """Walk over all trees; afterwards each cause knows the points that it touches."""
    if found.fresh.unreadable and not found.adopted:
        adopt(found)
    _walk(found, check, progress)
    if found.blame.missing.points and found.packs.unnamed and not found.adopted:
        adopt(found)
        found.blame.forget_walk()
        _walk(found, check, progress)


def _walk(found: Survey, check: Check, progress: ProgressListener) -> None:
    found.blame.settle()
    total = found.fresh.index.totals().meta.stored_bytes
    began = clock.monotonic()
    done = 0

    def read(size: int) -> None:
        nonlocal done
        done += size
        elapsed = clock.monotonic() - began
        progress(Progress("check", "trees", done, max(done, total), elapsed))

    with TreeWalk(found.parts, found.blame, check=check, progress=read) as walking:
        for point in found.points.readable:
            check()
            for cause in walking.trees(point.trees):
                cause.points.add(point.id)
