"""Random histories of a machine: every point that is left restores what a model remembers.

Each step writes a point (any method, any granularity, the disk may grow) or deletes
some.  A sample of the results is held against QEMU's own reading of the chain.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendense.model.decision import Method
from sendense.repository.opening import RepositorySettings, create_repository
from sendense.repository.protocol import Repository, VerifyLevel
from tests.support.memory_folder import memory_folder
from tests.support.points import BLOCK, MACHINE_UUID, Write, data, disk, restored, store, zeroes

SECTOR = 512
GRANULARITIES = (512, 4096, 8192, BLOCK, 16 * BLOCK)


@dataclass
class History:
    """A repository, and what each of its points must hold."""

    repository: Repository
    random: Random
    disk: bytearray
    contents: dict[str, bytes] = field(default_factory=dict)
    written: int = 0

    def backup(self) -> None:
        """Change the disk, and write a point of it."""
        self.written += 1
        if self.random.random() < 0.3:
            self.disk += bytes(self.random.choice((SECTOR, 4096, BLOCK, 100 * SECTOR)))
        method = self._method()
        granularity = self.random.choice(GRANULARITIES)
        step = min(max(granularity, 4096), BLOCK) if method is Method.BITMAP else BLOCK
        changed = self._change(step)
        chunks = []
        for start in range(0, len(self.disk), step):
            if method is Method.BITMAP and start not in changed:
                continue
            block = bytes(self.disk[start : start + step])
            if not any(block) and self.random.random() < 0.7:
                chunks.append(zeroes(start, len(block)))
            else:
                chunks.append(data(start, block))
        name = f"p{self.written}"
        write = Write(disk(), len(self.disk), tuple(chunks), method, granularity)
        store(self.repository, name, write)
        self.contents[name] = bytes(self.disk)

    def delete(self) -> None:
        """Delete some points."""
        count = min(len(self.contents), self.random.choice((1, 1, 2, 3)))
        chosen = self.random.sample(sorted(self.contents), count)
        self.repository.delete(chosen)
        for name in chosen:
            del self.contents[name]

    def check(self) -> None:
        """Read every point."""
        assert [point.id for point in self.repository.points()] == list(self.contents)
        for name, content in self.contents.items():
            assert restored(self.repository, name) == content

    def _method(self) -> Method:
        """Choose a method.  A bitmap counts from the point before, which must be there."""
        if not self.contents:
            return Method.EVERYTHING
        method = self.random.choice(list(Method))
        if method is Method.BITMAP and f"p{self.written - 1}" not in self.contents:
            return Method.COMPARE
        return method

    def _change(self, step: int) -> set[int]:
        changed = set()
        share = 0.3 if self.written > 1 else 0.7
        for start in range(0, len(self.disk), step):
            end = min(start + step, len(self.disk))
            dice = self.random.random() / share
            if dice < 0.6:
                self.disk[start:end] = self.random.randbytes(end - start)
            elif dice < 0.8:
                self.disk[start:end] = bytes(end - start)
            elif dice < 1:
                self.disk[start : start + SECTOR] = self.random.randbytes(SECTOR)
            else:
                continue
            changed.add(start)
        return changed


@pytest.mark.slow
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.sampled_from(["backup", "backup", "delete"]), min_size=4, max_size=14),
    size=st.sampled_from([BLOCK, 16 * BLOCK, 16 * BLOCK + 4608, 300 * SECTOR]),
    compressed=st.booleans(),
)
def test_every_point_that_is_left_restores(seed, steps, size, compressed):
    with memory_folder() as folder:
        level = 1 if compressed else None
        repository = create_repository(f"qcow2:{folder / 'r'}", RepositorySettings(level))
        history = History(repository, Random(seed), bytearray(size))
        history.backup()
        for step in steps:
            if step == "delete" and history.contents:
                history.delete()
                history.check()
            else:
                history.backup()
        history.check()
        for name, content in history.contents.items():
            assert repository.verify(name, VerifyLevel.DATA).sound
            qemu_agrees(folder, name, content)


def qemu_agrees(folder: Path, name: str, content: bytes) -> None:
    """Hold QEMU's reading of a point against the model."""
    raw = folder / "model.raw"
    raw.write_bytes(content)
    image = folder / "r/machines" / MACHINE_UUID / name / "vda.qcow2"
    command = ["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(raw)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result
