"""Options win over the environment, which wins over the file; mistakes are named."""

from __future__ import annotations

import json

import pytest

from sendense.settings import Settings
from tests.support.builders import a_machine_survey
from tests.unit.cli.stage import document


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sendense.yaml"
    path.write_text("uri: qemu+file:///system\nrepository: from-file\n")
    return path


@pytest.mark.parametrize(
    ("environment", "options", "uri"),
    [
        ({}, [], "qemu+file:///system"),
        ({"SENDENSE_URI": "qemu+env:///system"}, [], "qemu+env:///system"),
        ({"SENDENSE_URI": "qemu+env:///system"}, ["--uri", "qemu+opt:///"], "qemu+opt:///"),
    ],
)
def test_precedence(stage, monkeypatch, file, environment, options, uri):
    stage.surveys = [a_machine_survey()]
    stage.add(location="from-file")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert stage.run("vm", "list", "--config", file, *options) == 0
    assert {settings.uri for settings in stage.used} == {uri}


@pytest.mark.parametrize(
    "source",
    [
        ({}, [], "from-file"),
        ({"SENDENSE_REPOSITORY": "from-env"}, [], "from-env"),
        ({"SENDENSE_REPOSITORY": "from-env"}, ["-r", "from-option"], "from-option"),
    ],
    ids=lambda source: source[2],
)
def test_repository(stage, capsys, monkeypatch, file, source):
    environment, options, location = source
    for name in ("from-file", "from-env", "from-option"):
        stage.add(location=name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for arguments in (
        ["--config", file, "repo", "info", "--json", *options],
        [*options, "repo", "info", "--json", "--config", file],
    ):
        assert stage.run(*arguments) == 0
        assert document(capsys.readouterr())["repository"]["location"] == location


def test_the_later_of_two_options_wins(stage, capsys):
    stage.add(location="one")
    stage.add(location="two")
    assert stage.run("-r", "one", "repo", "info", "-r", "two", "--json") == 0
    assert document(capsys.readouterr())["repository"]["location"] == "two"


def test_config_variable(stage, capsys, monkeypatch, file):
    stage.add(location="from-file")
    monkeypatch.setenv("SENDENSE_CONFIG", str(file))
    assert stage.run("repo", "info") == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("uri: qemu:///system\n  mode: auto\n", ["line 2"]),
        ("repo: x\n", ["repo"]),
        ("granularity: lots\n", ["'lots' is not a size"]),
        ("parallel_disks: 99\n", ["parallel_disks", "16"]),
        ("mode: sometimes\n", ["mode", "'auto', 'full' or 'incremental'"]),
        ("keep_within: 30\n", ["keep_within", "36h, 14d or 8w"]),
        ("keep_daily: -1\n", ["keep_daily"]),
        ("timezone: Mars/Olympus\n", ["timezone", "'Mars/Olympus'"]),
        ("- uri\n- mode\n", ["setting: value"]),
        ("just words", ["setting: value"]),
    ],
)
def test_a_file_with_a_mistake(stage, capsys, tmp_path, content, words):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    assert stage.run("repo", "info", "--json", "--config", path) == 2
    error = document(capsys.readouterr())["error"]
    assert error["code"] == "rejected"
    assert all(word in error["message"] for word in words), error["message"]
    assert error["hint"]


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_file_that_is_not_there(stage, capsys, monkeypatch, tmp_path, how):
    missing = str(tmp_path / "missing.yaml")
    options = ["--config", missing] if how == "option" else []
    if how == "environment":
        monkeypatch.setenv("SENDENSE_CONFIG", missing)
    assert stage.run("repo", "info", "--json", *options) == 2
    assert missing in document(capsys.readouterr())["error"]["message"]


def test_no_repository_named(stage, capsys):
    assert stage.run("repo", "info") == 2
    assert "SENDENSE_REPOSITORY" in capsys.readouterr().err


def test_a_repository_is_never_made_on_the_way(stage, capsys):
    stage.surveys = [a_machine_survey()]
    assert stage.run("backup", "i-2-10-VM", "-r", "typo") == 3
    assert "sendense repo init typo" in capsys.readouterr().err
    assert not stage.repositories


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SENDENSE_REPOSITRY", "SENDENSE_REPOSITORY"),
        ("SENDENSE_REPO", "SENDENSE_REPOSITORY"),
        ("SENDENSE_CONFG", "SENDENSE_CONFIG"),
        ("SENDENSE_SCRATCHDIR", "SENDENSE_SCRATCH_DIR"),
        ("SENDENSE_FULL_EVRY", "SENDENSE_FULL_EVERY"),
    ],
)
def test_a_misspelt_variable_is_named(stage, capsys, monkeypatch, name, meant):
    stage.add()
    monkeypatch.setenv(name, "x")
    assert stage.run("repo", "info", "-r", "mem") == 2
    told = capsys.readouterr().err
    assert f"{name} is no setting" in told
    assert f"did you mean {meant}?" in told


@pytest.mark.parametrize("name", ["SENDENSE_LAB_CACHE", "SENDENSE_HOME", "SENDENSE_PORT"])
def test_a_variable_of_somebody_else_is_left_alone(stage, monkeypatch, name):
    stage.add()
    monkeypatch.setenv(name, "x")
    assert stage.run("repo", "info", "-r", "mem") == 0


@pytest.mark.parametrize("span", ["14d", "36h", "8w", "0h"])
def test_spans_are_written_as_they_are_read(span):
    settings = Settings(keep_within=span, keep_safety=span)
    again = Settings(**json.loads(settings.model_dump_json()))
    assert again == settings
    assert Settings(**json.loads(Settings().model_dump_json())) == Settings()
