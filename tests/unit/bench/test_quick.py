"""The whole bench on small disks, as ``make bench ARGS=--quick`` runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.house.tree import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(600)]

KEYS = {"name", "unit", "ours", "peer", "peer_name", "ratio"}
QUESTIONS = (
    "full backup",
    "sparse",
    "incremental",
    "restore",
    "memory",
    "guest frozen",
    "dedup, first backup",
    "dedup, first backup to disk",
    "dedup, restore from S3",
    "dedup, packs per touched granule",
    "dedup, ten clones",
    "dedup, 1 % changed, by bitmap",
    "dedup, local index",
    "dedup, plan a collection",
)


def test_every_question_gets_a_figure(tmp_path):
    output = tmp_path / "bench.json"
    command = [sys.executable, "bench/bench.py", "--quick", "--output", str(output)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(output.read_text())
    assert all(figure.keys() >= KEYS for figure in figures)
    assert all(figure["ours"] > 0 and figure["unit"] is not None for figure in figures)
    assert all((figure["peer"] is None) == (figure["ratio"] is None) for figure in figures)
    names = {(figure["name"], figure["peer_name"]) for figure in figures}
    assert len(names) == len(figures)
    for question in QUESTIONS:
        assert any(name.startswith(question) for name, _ in names)
