"""``version``: ours in any case, the host's where it can be reached."""

from __future__ import annotations

from sendense import __version__
from sendense.errors import Unavailable
from tests.unit.cli.stage import document


def test_version(stage, capsys):
    assert stage.run("version") == 0
    assert capsys.readouterr().out == "sendense x, libvirt 9.0.0, QEMU 7.2.0\n"


def test_version_without_a_host(stage, capsys):
    stage.host_error = Unavailable("libvirt is not there")
    assert stage.run("version", "--json") == 0
    shown = document(capsys.readouterr())
    assert shown["sendense"] == __version__
    assert shown["host_error"] == "libvirt is not there"


def test_version_option(stage, capsys):
    assert stage.run("-V") == 0
    assert capsys.readouterr().out == f"sendense {__version__}\n"
