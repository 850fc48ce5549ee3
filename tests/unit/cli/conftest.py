"""A stage for each test, and an environment that no settings of this machine reach."""

from __future__ import annotations

import os
import subprocess

import pytest

from sendense.repository.dedup import slots
from sendense.repository.dedup.slot_wrapping import Argon2
from tests.unit.cli.stage import PASSPHRASE, Stage, a_secret_file


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith("SENDENSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("sendense.settings.DEFAULT_FILE", tmp_path / "none.yaml")
    monkeypatch.setattr("sendense.cli.configuration.DEFAULT_FILE", tmp_path / "none.yaml")
    monkeypatch.setenv("SENDENSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SENDENSE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def stage():
    return Stage()


@pytest.fixture
def real_stage(monkeypatch):
    """Give a stage whose repositories are real ones; a guess at their passphrases is cheap."""
    for change in (slots.add_passphrase, slots.change_passphrase, slots.rotate):
        monkeypatch.setitem(change.__kwdefaults__, "argon2", Argon2(64, 1, 1))
    return Stage(real=True)


@pytest.fixture
def passphrase_file(tmp_path):
    """Give a file with the passphrase that tests use."""
    return a_secret_file(tmp_path / "passphrase", PASSPHRASE)


@pytest.fixture
def dedup(real_stage, tmp_path, passphrase_file):
    """Make a dedup repository that is the default one; gives its directory."""
    folder = tmp_path / "dedup"
    assert real_stage.run("repo", "init", folder, "--passphrase-file", passphrase_file, "-q") == 0
    return folder


@pytest.fixture
def make_image(tmp_path):
    """Make empty QCOW2 images of 1 MiB."""

    def make(name: str):
        path = tmp_path / name
        command = ["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"]
        subprocess.run(command, check=True)
        return path

    return make
