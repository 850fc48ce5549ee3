"""A stage for each test, and an environment that no settings of this machine reach."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.unit.cli.stage import Stage


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith("SENDENSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("sendense.settings.DEFAULT_FILE", tmp_path / "none.yaml")
    monkeypatch.setattr("sendense.cli.configuration.DEFAULT_FILE", tmp_path / "none.yaml")
    monkeypatch.setenv("SENDENSE_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def make_image(tmp_path):
    """Make empty QCOW2 images of 1 MiB."""

    def make(name: str):
        path = tmp_path / name
        command = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"]
        subprocess.run(command, check=True)
        return path

    return make
