"""``repo stats``: who takes what, and how it grew."""

from __future__ import annotations

import pytest

from sendense.model.decision import Mode
from sendense.workflows.repository_facts import Sizes
from tests.support.builders import GIB, a_machine, a_point, an_image
from tests.unit.cli.stage import document

OTHER = a_machine(uuid="ffffffff-0000-4000-8000-000000000001", name="other")


def image(new: int, stored: int):
    return an_image(data_bytes=new, stored_bytes=stored)


@pytest.fixture
def repository(stage):
    return stage.add(
        a_point("aa11", 1, disks=(image(4000, 1000),)),
        a_point("aa22", 3, mode=Mode.INCREMENTAL, disks=(image(400, 100),)),
        a_point("bb33", 2, machine=OTHER, disks=(image(40, 10),)),
    )


def test_sums(stage, capsys, repository):
    assert stage.run("repo", "stats", "-r", "mem", "--json") == 0
    shown = document(capsys.readouterr())
    assert "points" not in shown
    statistics = shown["statistics"]
    assert statistics["logical_bytes"] == 3 * GIB
    assert (statistics["unique_bytes"], statistics["stored_bytes"]) == (4440, 1110)
    assert statistics["compression_ratio"] == 4.0
    assert statistics["packs"] is None
    assert [(item["name"], item["points"], item["new_bytes"]) for item in shown["machines"]] == [
        ("i-2-10-VM", 2, 4400),
        ("other", 1, 40),
    ]


def test_growth_is_in_the_order_of_time(stage, capsys, repository):
    assert stage.run("repo", "stats", "--points", "-r", "mem", "--json") == 0
    points = document(capsys.readouterr())["points"]
    assert [(point["id"], point["new_bytes"]) for point in points] == [
        ("aa11", 4000),
        ("bb33", 40),
        ("aa22", 400),
    ]
    assert points[2]["mode"] == "incremental"


def test_for_people(stage, capsys, repository):
    assert stage.run("repo", "stats", "--points", "-r", "mem") == 0
    told = capsys.readouterr().out
    assert "compressed 4.00 to 1" in told
    assert "aa22" in told


def test_an_empty_repository(stage, capsys):
    stage.add()
    assert stage.run("repo", "stats", "--points", "-r", "mem") == 0
    assert "to 1" not in capsys.readouterr().out


def test_ratios_of_nothing():
    empty = Sizes(0, 0, 0)
    assert (empty.dedup_ratio, empty.compression_ratio, empty.total_ratio) == (None, None, None)
    some = Sizes(300, 100, 50)
    assert (some.dedup_ratio, some.compression_ratio, some.total_ratio) == (3.0, 2.0, 6.0)
