"""Random histories of two repositories: what both have is equal, whatever came between.

Each step makes a point in the source, deletes some there or in the target, or copies.  At the end
all is copied, and every point of the target restores what a model remembers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendense.model.decision import Method
from sendense.model.point import latest_image
from sendense.repository.protocol import VerifyLevel
from tests.support.copy_site import KINDS, Site, repository_of, verdicts, without_errors
from tests.support.memory_folder import memory_folder
from tests.support.points import BLOCK, Write, data, disk, zeroes

SECTOR = 512
DISKS = (disk("vda"), disk("vdb"))
STEPS = ["backup", "backup", "backup", "copy", "copy", "delete", "delete in target"]


@dataclass
class History:
    """A site, and what the disks of its machine hold now."""

    site: Site
    random: Random
    disks: dict[str, bytearray]
    fine: bool
    """The source keeps blocks of 4 KiB apart."""
    names: list[str] = field(default_factory=list)
    """The source's points, in their order."""
    bases: dict[str, str] = field(default_factory=dict)
    """The last point of each disk."""

    def backup(self) -> None:
        """Change some disks, and make a point of them."""
        name = f"p{len(self.names) + 1}"
        chosen = [item for item in DISKS if self.random.random() < 0.8] or [DISKS[0]]
        self.site.backup(name, *(self._write(item) for item in chosen))
        self.names.append(name)
        self.bases.update((item.target, name) for item in chosen)

    def delete(self) -> None:
        """Delete points in the source."""
        self._delete_in(self.site.source)

    def delete_in_target(self) -> None:
        """Delete points in the target."""
        self._delete_in(self.site.target)

    def copy(self) -> None:
        """Copy all, the last few, or also what is older."""
        wanted: dict[str, Any] = self.random.choice(
            [{}, {}, {"last": 1}, {"last": 2}, {"older": True}]
        )
        before = [point.id for point in self.site.target.points()]
        results = without_errors(self.site.copy(**wanted))
        added = [point.id for point in self.site.target.points()][len(before) :]
        copied = [name for name, word in verdicts(results).items() if word == "copy"]
        assert added == copied
        self.check()
        again = without_errors(self.site.copy(**wanted))
        assert "copy" not in verdicts(again).values()

    def check(self) -> None:
        """Hold the target against the model."""
        self.site.check()
        for point in self.site.target.points():
            assert self.site.target.verify(point.id, VerifyLevel.DATA).sound

    def _delete_in(self, repository) -> None:
        there = [point.id for point in repository.points()]
        count = min(len(there), self.random.choice((1, 1, 2)))
        if count:
            repository.delete(self.random.sample(there, count))

    def _write(self, item) -> Write:
        content = self.disks[item.target]
        method = self._method(item.target)
        self._resize(content, shrink=method is Method.EVERYTHING)
        granularity = self.random.choice([4096, BLOCK]) if self.fine else BLOCK
        step = granularity if method is Method.BITMAP else BLOCK
        changed = self._change(content, step)
        chunks = [
            self._chunk(content, start, step)
            for start in range(0, len(content), step)
            if method is not Method.BITMAP or start in changed
        ]
        return Write(item, len(content), tuple(chunks), method, granularity)

    def _method(self, target: str) -> Method:
        """Choose a method.  A bitmap counts from the last point of the disk, if it is there."""
        last = self.bases.get(target)
        there = {point.id: point for point in self.site.source.points()}
        latest = latest_image(tuple(there.values()), f"serial:serial-{target}")
        if latest is None or len(self.disks[target]) < latest[1].size:
            return Method.EVERYTHING
        method: Method = self.random.choice([Method.BITMAP, Method.BITMAP, *Method])
        return Method.COMPARE if method is Method.BITMAP and last not in there else method

    def _resize(self, content: bytearray, *, shrink: bool) -> None:
        dice = self.random.random()
        if dice < 0.2:
            content += bytes(self.random.choice((SECTOR, 4096, BLOCK, 100 * SECTOR)))
        elif dice < 0.3 and shrink:
            del content[len(content) // 2 // SECTOR * SECTOR :]

    def _change(self, content: bytearray, step: int) -> set[int]:
        changed = set()
        for start in range(0, len(content), step):
            end = min(start + step, len(content))
            dice = self.random.random() / 0.3
            if dice < 0.6:
                content[start:end] = self.random.randbytes(end - start)
            elif dice < 0.9:
                content[start:end] = bytes(end - start)
            elif dice < 1:
                content[start : start + SECTOR] = b"x" * min(SECTOR, end - start)
            else:
                continue
            changed.add(start)
        return changed

    def _chunk(self, content: bytearray, start: int, step: int):
        block = bytes(content[start : start + step])
        if not any(block) and self.random.random() < 0.7:
            return zeroes(start, len(block))
        return data(start, block)


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=14),
    size=st.sampled_from([BLOCK, 16 * BLOCK, 16 * BLOCK + 4608, 300 * SECTOR, 66 * BLOCK]),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
)
def test_what_both_have_is_equal(seed, steps, size, kinds):
    with memory_folder() as folder:
        source, target = kinds
        site = Site(
            repository_of(source, folder, "source"), repository_of(target, folder, "target")
        )
        disks = {item.target: bytearray(size) for item in DISKS}
        history = History(site, Random(seed), disks, fine=source == "chain")
        history.backup()
        for step in steps:
            getattr(history, step.replace(" ", "_"))()
        results = without_errors(site.copy(older=True))
        history.check()
        there = {point.id for point in site.target.points()}
        assert {point.id for point in site.source.points()} <= there
        assert set(verdicts(results).values()) <= {"copy", "present"}
        for closed in (site.source, site.target):
            closed.close()
