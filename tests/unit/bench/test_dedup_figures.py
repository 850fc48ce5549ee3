"""What the bench of the dedup repository computes from what it has measured."""

from __future__ import annotations

import random
import zlib

import pytest

from bench.dedup import growth_work
from bench.dedup.figuring import Peer, less, memory, processor, single, speed
from bench.dedup.images import choose_granules, mixed_disk, program_bytes, touched_bytes
from bench.dedup.jobs import Run, read_run, requests_per_gib
from bench.dedup.points import GRANULE
from bench.dedup.sections import ALL, SECTIONS
from bench.dedup.stage import touch_memory
from bench.figures import Goal
from bench.timing import GIB, BenchFailed, Cost
from sendense.units import KIB, MIB


def a_run(seconds, *, processor_s=1.0, peak=MIB, requests=None):
    return Run(Cost(seconds, processor_s), Cost(seconds + 1, processor_s), peak, 0, requests or {})


def test_a_speed_is_of_the_medians():
    ours = [Cost(2.0, 1.0), Cost(1.0, 1.0), Cost(4.0, 1.0)]
    figure = speed("copy", 2 * GIB, ours, Peer("peer", [Cost(4.0, 1.0)]), Goal(1.5, of_ratio=True))
    assert (figure.ours, figure.peer, figure.ratio) == (1.0, 0.5, 2.0)
    assert figure.verdict == "reached"
    assert figure.runs == (1.0, 2.0, 0.5)


def test_processor_time_is_told_for_a_gib():
    figure = processor("copy", 2 * GIB, [Cost(9.0, 3.0)], Peer("peer", [Cost(9.0, 1.0)]))
    assert (figure.ours, figure.peer) == (1.5, 0.5)
    assert figure.ratio == pytest.approx(1 / 3)


def test_memory_is_the_most_of_all_runs():
    figure = memory("copy", [a_run(1, peak=3 * MIB), a_run(1, peak=300 * MIB)])
    assert figure.ours == 300
    assert figure.verdict.startswith("short")


def test_what_is_better_the_less_it_is_wins_below_one():
    assert less("time", "s", [1.0, 3.0, 2.0], [4.0], "peer").ratio == 2.0
    assert single("growth", "", 1.05, goal=Goal(1.1)).verdict == "reached"


def test_requests_are_told_by_kind_for_a_gib():
    run = a_run(1, requests={"put": 10, "read_into": 4, "info": 0})
    assert requests_per_gib(run, 2 * GIB) == "PUT 5, GET of a range 2"


def test_what_a_worker_prints_is_read():
    printed = {
        "seconds": 2.0,
        "processor_s": 1.0,
        "peak": 5,
        "working": 4,
        "counts": {"put": [3, 4096]},
        "facts": {"stored": 7},
    }
    run = read_run(printed, Cost(3.0, 2.0))
    assert (run.cost.seconds, run.command.seconds, run.peak, run.working) == (2.0, 3.0, 5, 4)
    assert (run.requests, run.facts) == ({"put": 3}, {"stored": 7})


def test_a_design_with_fixed_chunks_stores_each_touched_chunk_once():
    of_4_mib = 4 * MIB // GRANULE
    granules = [0, 1, of_4_mib - 1, of_4_mib, 10 * of_4_mib]
    assert touched_bytes(granules, 4 * MIB) == 3 * 4 * MIB
    assert touched_bytes(granules, GRANULE) == 5 * GRANULE


def test_granules_are_chosen_inside_the_disk_and_always_alike():
    chosen = choose_granules(100 * GRANULE, 30, seed=1)
    assert chosen == sorted(set(chosen)) == choose_granules(100 * GRANULE, 30, seed=1)
    assert len(chosen) == 30
    assert max(chosen) < 100


def test_a_mixed_disk_holds_a_third_of_each(tmp_path):
    path = tmp_path / "disk.raw"
    mixed_disk(path, 48 * MIB)
    content = path.read_bytes()
    pieces = [content[at : at + 4 * MIB] for at in range(0, len(content), 4 * MIB)]
    assert len(pieces) == 12
    assert all(not any(piece) for piece in pieces[2::3])
    assert all(len(zlib.compress(piece, 1)) > 0.99 * len(piece) for piece in pieces[1::3])
    assert all(any(piece) for piece in pieces[0::3])
    assert path.stat().st_blocks * 512 < 48 * MIB


def test_programs_are_the_content_of_files_in_a_row(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 6)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b").write_bytes(b"y" * 6)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    pieces = program_bytes([tmp_path], 5)
    assert [next(pieces), next(pieces)] == [b"xxxxx", b"xyyyy"]
    with pytest.raises(BenchFailed, match="too little"):
        next(pieces)


def test_numbered_blocks_differ_and_compress():
    blocks = [growth_work.numbered_block(number) for number in range(3)]
    assert len(set(blocks)) == 3
    assert all(any(block) and len(block) == 64 * KIB for block in blocks)
    assert all(len(zlib.compress(block)) < KIB for block in blocks)


def test_own_blocks_of_a_clone_are_the_share_that_is_asked_for():
    rng = random.Random(1)
    for run in (1, 8):
        places = list(growth_work.own_places(4096, 0.01, run, rng))
        blocks = {block for first, count in places for block in range(first, first + count)}
        assert len(blocks) == round(4096 * 0.01 / run) * run
        assert max(blocks) < 4096


def test_sections_have_names_of_their_own():
    assert len(set(SECTIONS)) == len(SECTIONS)
    assert all(name.startswith(f"{ALL}-") for name in SECTIONS)


def test_memory_is_touched_and_given_back():
    touch_memory(MIB)
