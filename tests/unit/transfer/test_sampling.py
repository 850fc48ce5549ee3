"""Choosing clean blocks: uniform, within the clean ones, and repeatable."""

from __future__ import annotations

from collections import Counter
from random import Random

from sendense.model.extents import Flagged
from sendense.transfer.sampling import BLOCK, choose_clean_blocks


def run(first, count, *, zero=False, dirty=False):
    return Flagged(first * BLOCK, count * BLOCK, zero, dirty)


def test_only_clean_blocks_most_with_data():
    runs = [run(0, 10, dirty=True), run(10, 50), run(60, 1000, zero=True), run(1060, 40)]
    chosen = [offset // BLOCK for offset in choose_clean_blocks(runs, count=16, random=Random(1))]
    assert chosen == sorted(set(chosen))
    assert sum(10 <= block < 60 or block >= 1060 for block in chosen) == 12
    assert sum(60 <= block < 1060 for block in chosen) == 4


def test_fewer_clean_blocks_than_wanted_are_all_taken():
    runs = [run(0, 3), run(3, 5, dirty=True), run(8, 1, zero=True)]
    chosen = choose_clean_blocks(runs, count=16, random=Random(1))
    assert chosen == (0, BLOCK, 2 * BLOCK, 8 * BLOCK)


def test_nothing_wanted_or_nothing_clean():
    assert choose_clean_blocks([run(0, 9)], count=0, random=Random(1)) == ()
    assert choose_clean_blocks([run(0, 9, dirty=True)], count=9, random=Random(1)) == ()


def test_every_block_has_the_same_chance_however_the_runs_are_cut():
    random = Random(1)
    seen: Counter[int] = Counter()
    runs = [run(0, 1), run(1, 17), run(18, 2), run(20, 40), run(60, 40)]
    for _ in range(4000):
        seen.update(choose_clean_blocks(runs, count=4, random=random))
    # 3 of 100 blocks each time: 120 expected for each, with a deviation of 11.
    assert len(seen) == 100
    assert all(75 < times < 165 for times in seen.values())


def test_the_same_randomness_gives_the_same_sample():
    runs = [run(0, 1 << 25)]
    assert choose_clean_blocks(runs, count=16, random=Random(3)) == choose_clean_blocks(
        runs, count=16, random=Random(3)
    )
