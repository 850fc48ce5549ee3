"""What a copy asks of the two stores: as much as changed, however large the disk is."""

from __future__ import annotations

import pytest

from sendense.model.decision import Method
from sendense.repository.dedup import format as fmt
from sendense.storage.counting import Counters, Counting
from sendense.transfer.comparing import first_difference
from sendense.units import GIB, KIB, MIB
from sendense.workflows.point_copier import CopyOptions
from tests.support.copy_site import Site, memory, quick_dedup, verdicts, without_errors
from tests.support.dedup import reopened
from tests.support.points import BLOCK, Write, data, disk, noise, store


class Counted:
    """Two dedup repositories, each in a store that counts."""

    def __init__(self) -> None:
        self.source, self.target = Counters(), Counters()
        self.site = Site(self._made("source", self.source), self._made("target", self.target))

    @staticmethod
    def _made(name, counters):
        made = quick_dedup(memory(), name)
        return reopened(Counting(made.parts.store, counters), made)

    def put(self, point_id, write, **options):
        """Store a point in the source; its content is too large to be kept."""
        store(self.site.source, point_id, write, **options)

    def check(self):
        """Hold the target against the source."""
        for point in self.site.target.points():
            identity = point.disks[0].disk.identity
            with self.site.source.open(point.id) as one, self.site.target.open(point.id) as other:
                chunks = one.disk(identity).chunks(), other.disk(identity).chunks()
                assert first_difference(*chunks) is None

    def copy(self):
        """Copy all; gives what was asked of the source and of the target since."""
        before = self.source.all(), self.target.all()
        results = without_errors(self.site.copy())
        after = self.source.all(), self.target.all()
        return results, *(
            {
                verb: (
                    count.requests - (old[verb].requests if verb in old else 0),
                    count.bytes - (old[verb].bytes if verb in old else 0),
                )
                for verb, count in new.items()
            }
            for old, new in zip(before, after, strict=True)
        )


def sparse(size, seed=1):
    """A block in each leaf: a tree with all its nodes."""
    places = range(0, size, fmt.LEAF_BYTES)
    return tuple(data(at, noise(BLOCK, seed + at // fmt.LEAF_BYTES)) for at in places)


def one_block(size, at, seed=1 << 20):
    return Write(disk(), size, (data(at, noise(BLOCK, seed)),), Method.BITMAP)


@pytest.fixture(params=[64 * MIB, 512 * MIB], ids=["64 MiB", "512 MiB"])
def size(request):
    return request.param


def test_an_incremental_costs_what_changed(size):
    counted = Counted()
    counted.put("p1", Write(disk(), size, sparse(size)))
    counted.copy()
    counted.put("p2", one_block(size, 5 * BLOCK))
    results, source, target = counted.copy()
    assert verdicts(results) == {"p1": "present", "p2": "copy"}
    assert results[-1].read_bytes == BLOCK
    read = source["read_into"]
    assert read[0] <= 10
    assert read[1] <= BLOCK + 24 * KIB
    assert source["get"][0] <= 20
    assert source["list"][0] <= 60
    assert target["read_into"][0] <= 20
    assert target["read_into"][1] <= 64 * KIB
    assert target["put"][1] <= BLOCK + 64 * KIB
    assert target["list"][0] <= 60
    counted.check()


def test_requests_do_not_grow_with_the_disk():
    asked = []
    for size in (512 * MIB, 2 * GIB):
        counted = Counted()
        counted.put("p1", Write(disk(), size, sparse(size)))
        counted.copy()
        counted.put("p2", one_block(size, 5 * BLOCK))
        _, source, target = counted.copy()
        asked.append(
            [{verb: count[0] for verb, count in side.items()} for side in (source, target)]
        )
    for small, large in zip(*asked, strict=True):
        for verb, requests in large.items():
            assert requests <= small[verb] + 4


def test_copied_again_nothing_is_written_or_read():
    counted = Counted()
    counted.put("p1", Write(disk(), 64 * MIB, sparse(64 * MIB)))
    counted.copy()
    _, source, target = counted.copy()
    assert target.get("put", (0, 0))[0] == 0
    assert source.get("put", (0, 0))[0] == 0
    assert source["read_into"] == (0, 0)
    assert target["read_into"] == (0, 0)


def test_a_clone_brings_only_what_is_its_own():
    """The target finds by itself what it has of another machine."""
    counted = Counted()
    size = 64 * MIB
    content = tuple(data(at, noise(MIB, at // MIB)) for at in range(0, size, MIB))
    counted.put("p1", Write(disk(), size, content))
    own = (data(0, noise(MIB, 1000)), *content[1:])
    counted.put("o1", Write(disk(), size, own), uuid="6f2d3f4e-0000-4000-8000-000000000009")
    counted.copy()
    assert counted.site.target.info().stored_bytes <= size + 3 * MIB
    counted.check()


def test_read_back_reads_what_was_stored():
    counted = Counted()
    size = 512 * MIB
    counted.put("p1", Write(disk(), size, sparse(size)))
    counted.copy()
    counted.put("p2", one_block(size, 5 * BLOCK))
    before = counted.target["read_into"].bytes
    results = without_errors(counted.site.copy(options=CopyOptions(read_back=True)))
    found = results[-1].verification
    assert found is not None
    assert found.checked_bytes == BLOCK
    assert counted.target["read_into"].bytes - before <= 2 * BLOCK
