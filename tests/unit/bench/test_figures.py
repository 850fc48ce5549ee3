"""What a figure says of itself."""

from __future__ import annotations

import json

import pytest

from bench.figures import Better, Figure, Goal, figures_table, write_figures


def speed(ours, peer=None, goal=None):
    return Figure("copy", "GiB/s", Better.HIGHER, ours, peer, "cp" if peer else None, goal)


def seconds(ours, peer=None, goal=None):
    return Figure("copy", "s", Better.LOWER, ours, peer, "cp" if peer else None, goal)


def test_the_ratio_is_above_one_where_we_win_whatever_the_unit():
    assert speed(3.0, 2.0).ratio == 1.5
    assert seconds(2.0, 3.0).ratio == 1.5


@pytest.mark.parametrize("figure", [speed(1.0), speed(0.0, 1.0), seconds(1.0, 0.0)])
def test_there_is_no_ratio_to_nothing(figure):
    assert figure.ratio is None


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (speed(3.0, goal=Goal(3.0)), "reached"),
        (speed(1.5, goal=Goal(3.0)), "short by 50%"),
        (seconds(2.0, goal=Goal(1.5)), "short by 25%"),
        (seconds(0.0, goal=Goal(1.5)), "reached"),
        (speed(0.3, 1.0, Goal(0.6, of_ratio=True)), "short by 50%"),
        (speed(0.7, 1.0, Goal(0.6, of_ratio=True)), "reached"),
        (speed(0.7, None, Goal(0.6, of_ratio=True)), "not measured"),
        (speed(0.7, 1.0), ""),
    ],
)
def test_a_goal_is_reached_or_missed_by_a_part(figure, verdict):
    assert figure.verdict == verdict


def test_figures_are_written_as_a_list(tmp_path):
    write_figures(tmp_path / "build/bench.json", [speed(3.0, 2.0, Goal(0.6, of_ratio=True))])
    (found,) = json.loads((tmp_path / "build/bench.json").read_text())
    expected = {"name": "copy", "unit": "GiB/s", "ours": 3.0, "peer": 2.0, "peer_name": "cp"}
    assert expected.items() <= found.items()
    assert (found["ratio"], found["goal"], found["goal_of"]) == (1.5, 0.6, "ratio")


def test_the_table_has_a_row_for_each_figure():
    assert figures_table([speed(3.0), seconds(1.0, 2.0)]).row_count == 2
