"""What a copy costs: memory that does not grow with the disk."""

from __future__ import annotations

import subprocess
import sys

from sendense.transfer.extents import flagged_ranges
from sendense.transfer.source import ReadOptions, open_source
from tests.integration.transfer.servers import nbdkit

GIB = 1 << 30
PROGRAM = """
import resource, sys
from sendense.model.decision import Method
from sendense.model.export import DiskExport
from sendense.transfer.copy import CopyOptions, copy_disk

class Sink:
    block_size = 65536
    def write(self, offset, data): pass
    def zero(self, offset, length): pass

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
copy_disk(
    DiskExport("vda", sys.argv[1], "", int(sys.argv[2])), Sink(), method=Method.EVERYTHING,
    options=CopyOptions(connections=4),
)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_bounded_by_the_buffers(tmp_path):
    with nbdkit(tmp_path, GIB, "pattern", GIB) as export:
        used_kib = int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, export.socket, str(GIB)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
    # 4 x 16 x 256 KiB are 16 MiB; the rest is threads and extents.
    assert used_kib < 32 * 1024


def test_many_small_extents(tmp_path):
    plugin = [
        "eval", f"get_size=echo {GIB}", "can_extents=exit 0", "pread=head -c $3 /dev/zero",
        "extents=awk 'BEGIN { for (i = 0; i < 8192; i++)"
        ' { printf "%d 65536 \\n%d 65536 zero\\n", i * 131072, i * 131072 + 65536 } }\'',
    ]  # fmt: skip
    with nbdkit(tmp_path, GIB, *plugin) as export, open_source(export, ReadOptions()) as source:
        ranges = list(flagged_ranges(source, dirty=False))
    assert len(ranges) == 16384
    assert sum(item.length for item in ranges if item.zero) == GIB // 2
