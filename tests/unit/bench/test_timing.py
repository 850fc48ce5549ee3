"""Commands under the clock, and turns."""

from __future__ import annotations

import sys

import pytest

from bench.timing import GIB, BenchFailed, Cost, middle, rates, run_timed, take_turns


def test_a_command_is_timed_and_its_output_kept():
    done = run_timed([sys.executable, "-c", "print(sum(range(10**6)))"])
    assert done.output.strip() == "499999500000"
    assert done.cost.processor_s > 0
    assert done.cost.seconds > 0


def test_a_command_that_fails_ends_the_bench_with_what_it_said():
    with pytest.raises(BenchFailed, match="no luck"):
        run_timed([sys.executable, "-c", "raise SystemExit('no luck')"])


def test_contestants_take_turns():
    order = []

    def contestant(name):
        order.append(name)
        return Cost(float(len(order)), 0.0)

    runs = take_turns({"a": lambda: contestant("a"), "b": lambda: contestant("b")}, rounds=2)
    assert order == ["a", "b", "a", "b"]
    assert [cost.seconds for cost in runs["a"]] == [1.0, 3.0]


def test_the_middle_of_none_is_none():
    assert middle([]) is None
    assert middle([5.0, 1.0, 2.0]) == 2.0


def test_rates_are_per_second():
    assert rates([Cost(2.0, 1.0)], 4 * GIB) == (2.0,)
