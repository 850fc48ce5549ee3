"""``repo list`` and names: what the settings name, and whether it can be used from here."""

from __future__ import annotations

from pathlib import Path

import pytest

from sendense.cli.places import Place
from sendense.errors import Unavailable
from tests.support.builders import a_point
from tests.unit.cli.stage import document


@pytest.fixture
def name(tmp_path, monkeypatch):
    """Write what the settings say."""
    path = tmp_path / "sendense.yaml"

    def write(text: str) -> None:
        path.write_text(text)
        monkeypatch.setenv("SENDENSE_CONFIG", str(path))

    return write


@pytest.fixture
def listed(capsys):
    def look(stage, *options: object):
        capsys.readouterr()
        assert stage.run("repo", "list", "--json", *options) == 0
        return document(capsys.readouterr())["repositories"]

    return look


def test_nothing_is_named(stage, capsys):
    assert stage.run("repo", "list") == 0
    assert "no repository" in capsys.readouterr().out


def test_those_of_the_settings(stage, name, listed, capsys):
    stage.add(a_point("p1"), location="/nas")
    stage.add(location="/usb").error = Unavailable("the stick is away")
    name("repository: nas\nrepositories: {nas: /nas, usb: /usb, gone: {url: /gone}}\n")
    seen = {item["name"]: item for item in listed(stage)}
    assert list(seen) == ["nas", "usb", "gone"]
    assert [item["default"] for item in seen.values()] == [True, False, False]
    assert (seen["nas"]["state"], seen["nas"]["points"]) == ("ok", 1)
    assert seen["gone"]["state"] == "not-found"
    assert "/gone" in seen["gone"]["error"]["message"]
    assert stage.run("repo", "list") == 0
    assert "there is no repository at /gone" in capsys.readouterr().out


@pytest.mark.parametrize("default", ["/nas", "nas"])
def test_the_default_is_listed_once(stage, name, listed, default):
    stage.add(location="/nas")
    name(f"repository: {default}\nrepositories: {{nas: /nas}}\n")
    (seen,) = listed(stage)
    assert (seen["name"], seen["default"]) == ("nas", True)


def test_the_default_without_a_name(stage, name, listed):
    stage.add(location="/one")
    stage.add(location="/two")
    name("repository: /one\nrepositories: {two: /two}\n")
    assert [(item["name"], item["url"]) for item in listed(stage)] == [
        (None, "/one"),
        ("two", "/two"),
    ]


def test_a_repository_by_its_name(stage, name, capsys):
    stage.add(location="/nas")
    name("repositories: {nas: /nas}\n")
    assert stage.run("repo", "info", "-r", "nas", "--json") == 0
    assert document(capsys.readouterr())["repository"]["location"] == "/nas"
    assert stage.run("repo", "info", "-r", "nsa") == 3
    assert "did you mean nas?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "name", "again"),
    [
        ("/nas", None, "/nas"),
        ("nas/x", None, str(Path.cwd() / "nas/x")),
        ("s3://bucket/x", None, "s3://bucket/x"),
        ("nas/x", "nas", "nas"),
    ],
)
def test_what_names_it_from_any_directory(url, name, again):
    assert Place(url, name).again == again


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("dedup:/r", "/r"),
        ("qcow2:/r", "/r"),
        ("file:///r", "/r"),
        ("s3://bucket/x?region=r&endpoint=https://h", "s3://bucket/x?endpoint=https://h&region=r"),
        ("ftp://x", "ftp://x"),
    ],
)
def test_what_a_repository_calls_its_location(url, location):
    assert Place(url).location == location


def test_nobody_is_asked(real_stage, dedup, name, listed, passphrase_file):
    """Neither is a repository without a passphrase an error of the list."""
    name(f"repository: {dedup}\nrepositories: {{chain: 'qcow2:{dedup.parent / 'c'}'}}\n")
    assert real_stage.run("repo", "init", "chain") == 0
    first, second = listed(real_stage)
    assert (first["state"], first["kind"], first["points"]) == ("locked", "dedup", None)
    assert (second["state"], second["kind"], second["points"]) == ("ok", "qcow2-chain", 0)
    name(f"repositories: {{nas: {{url: {dedup}, passphrase_file: {passphrase_file}}}}}\n")
    assert [item["state"] for item in listed(real_stage)] == ["ok"]


def test_a_wrong_passphrase_is_told(real_stage, dedup, name, listed, tmp_path):
    (tmp_path / "wrong").write_text("not this one\n")
    (tmp_path / "wrong").chmod(0o600)
    name(f"repositories: {{nas: {{url: {dedup}, passphrase_file: {tmp_path / 'wrong'}}}}}\n")
    (seen,) = listed(real_stage)
    assert (seen["state"], seen["error"]["exit_code"]) == ("not-allowed", 10)


def test_everything_is_closed_at_the_end(stage, name):
    first, second = stage.add(location="/one"), stage.add(location="/two")
    name("repositories: {one: /one, two: /two}\n")
    assert stage.run("repo", "list") == 0
    assert (first.closed, second.closed) == (1, 1)
    first.error = Unavailable("away")
    assert stage.run("points", "list", "-r", "one") == 5
    assert (first.closed, second.closed) == (2, 1)
