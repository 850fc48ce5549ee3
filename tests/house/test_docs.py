"""What a user can type, set or be told is in the documentation, and nothing else is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
import typer
from pydantic_settings import BaseSettings

from sendense import errors
from sendense.agent.settings import load_settings
from sendense.cli.exitcodes import ExitCode, exit_code_of
from sendense.cli.failures import BUG
from sendense.cli.main import app
from sendense.model.decision import Reason
from sendense.server.settings import ServerSettings
from sendense.settings import Settings
from sendense.units import parse_size, parse_span
from tests.house import agent_settings
from tests.house.tree import ROOT

CLI = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
EXIT_CODES = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
SERVER = (ROOT / "docs/server.md").read_text(encoding="utf-8")
PEER = (ROOT / "docs/peer-options.md").read_text(encoding="utf-8")

GLOBAL = "Options of every command"
PROGRAM = typer.main.get_command(app)


def commands(command: Any = PROGRAM, path: tuple[str, ...] = ("sendense",)) -> Iterator[Any]:
    """Walk over all commands that are no groups, as ("sendense vm list", command)."""
    for name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from commands(child, (*path, name))
        else:
            yield " ".join((*path, name)), child


COMMANDS = dict(commands())


def options(command: Any) -> set[str]:
    """Name the options of a command, without those of every command."""
    return {
        option
        for item in command.params
        for option in (*item.opts, *item.secondary_opts)
        if option.startswith("-") and not is_shared(item) and option not in ("--help", "-h")
    }


def is_shared(item: Any) -> bool:
    """Tell whether an option is one of every command, or of every one that asks a server."""
    return str(getattr(item, "rich_help_panel", "")).startswith(GLOBAL)


def section(heading: str) -> str:
    """Give the part of docs/cli.md under a heading that begins so."""
    found = re.search(
        rf"^## `?{re.escape(heading)}(?: [^\n]*|`)?\n(.*?)(?=^## |\Z)",
        CLI,
        re.MULTILINE | re.DOTALL,
    )
    assert found, f"docs/cli.md has no section for {heading}"
    return found.group(1)


def documented_options(text: str) -> set[str]:
    """Name the options in the first column of the tables of a text."""
    cells = re.findall(r"^\| (`-[^|]*) \|", text, re.MULTILINE)
    return {option for cell in cells for option in re.findall(r"`(--?[\w-]+)", cell)}


@pytest.mark.parametrize("name", COMMANDS)
def test_command_and_its_options(name):
    assert documented_options(section(name)) == options(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_says_what_it_does(name):
    mute = [item.name for item in COMMANDS[name].params if item.opts and not item.help]
    assert [option for option in mute if option not in ("ctx", "help")] == []
    assert COMMANDS[name].help


def test_options_of_every_command():
    text = section(GLOBAL)
    typed = {option for item in PROGRAM.params for option in item.opts}
    assert {option for option in typed if f"`{option}" not in text} == set()


def test_no_command_is_only_in_the_documentation():
    headings = re.findall(r"^## `(sendense(?: [a-z][a-z-]*)+)", CLI, re.MULTILINE)
    assert set(headings) == set(COMMANDS)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.value)
def test_reason(reason):
    assert f"| `{reason.value}` |" in ERRORS


PAGES: list[tuple[type[BaseSettings], str]] = [(Settings, SETTINGS), (ServerSettings, SERVER)]
FIELDS = [(page, text, name) for page, text in PAGES for name in page.model_fields]


def defaults(text: str) -> dict[str, str]:
    """Give each setting of a page with its default."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
    return {name: default.strip("`") for name, default in rows}


@pytest.mark.parametrize(("settings", "text"), PAGES)
def test_no_setting_is_only_in_the_documentation(settings, text):
    assert set(defaults(text)) == set(settings.model_fields)


@pytest.mark.parametrize(("settings", "page", "name"), FIELDS)
def test_setting_and_its_default(settings, page, name):
    default, text = settings.model_fields[name].default, defaults(page)[name]
    if default is None or default == "":
        assert text == "none"
    elif isinstance(default, bool):
        assert text == str(default).lower()
    elif isinstance(default, timedelta):
        assert parse_span(text) == default
    elif isinstance(default, (int, float)):
        assert parse_size(text) == default
    else:
        assert text == (default.value if isinstance(default, Enum) else str(default))


AGENT = (ROOT / "docs/agent.md").read_text(encoding="utf-8")
AGENT_ROWS = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (yes|no) \| (.*?) \|$", AGENT, re.MULTILINE)


def test_no_setting_of_the_agent_is_only_in_the_documentation():
    assert [row[0] for row in AGENT_ROWS] == [row.key for row in agent_settings.ROWS]


@pytest.mark.parametrize("row", agent_settings.ROWS, ids=lambda row: row.key)
def test_setting_of_the_agent(row):
    live = "yes" if row.live else "no"
    assert (row.key, row.default, live, row.about) in AGENT_ROWS


def test_the_example_of_the_agent_s_settings_is_right(tmp_path):
    (example,) = re.findall(r"^```yaml\n(.*?)^```", AGENT, re.MULTILINE | re.DOTALL)
    file = tmp_path / "agent.yaml"
    file.write_text(example)
    assert load_settings(file).performance.backup_window is not None


ERROR_CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.SendenseError)
]


def test_no_error_is_only_in_the_documentation():
    headings = re.findall(r"^## `([\w-]+)`$", ERRORS, re.MULTILINE)
    assert set(headings) == {kind.code for kind in ERROR_CLASSES} | {BUG}


@pytest.mark.parametrize("kind", ERROR_CLASSES, ids=lambda kind: kind.code)
def test_error_names_its_exit_code(kind):
    part = ERRORS.split(f"## `{kind.code}`")[1].split("\n## ")[0]
    number = int(exit_code_of(kind("")))
    assert re.search(rf"Exit\s+code\s+{number}\.", part)
    row = re.search(rf"^\| {number} \|.*", EXIT_CODES, re.MULTILINE)
    assert row
    assert f"`{kind.code}`" in row.group()


def test_exit_codes():
    rows = re.findall(r"^\| (\d+) \|", EXIT_CODES, re.MULTILINE)
    assert [int(row) for row in rows] == [int(code) for code in ExitCode]


# virtnbdbackup's options, by their long name where they have one: facts of version 2.
BACKUP = """domain level type raw output checkpointdir scratchdir start-domain pause include exclude
socketfile noprogress compress worker freeze-mountpoint strict no-sparse-detection threshold uri
user password ssh-user ssh-port ssh-private-key nbd-port nbd-ip tls tls-cert syslog quiet nocolor
qemu startonly killonly printonly v V"""
RESTORE = """action input output until sequence disk noprogress socketfile raw adjust-config define
config-file name buffsize preallocate compress"""
MAP = """file blocksize device export-name threads listen-address listen-port noprogress logfile
readonly hexdump v V"""


@pytest.mark.parametrize(
    ("program", "theirs"),
    [
        (program, name)
        for program, names in (
            ("virtnbdbackup", BACKUP),
            ("virtnbdrestore", RESTORE),
            ("virtnbdmap", MAP),
        )
        for name in names.split()
    ],
)
def test_option_of_the_peer(program, theirs):
    part = PEER.split(f"## {program}\n")[1].split("\n## ")[0]
    option = f"`-{theirs}`" if len(theirs) == 1 else f"`--{theirs}`"
    assert any(option in line.split("|")[1] for line in part.splitlines() if line.startswith("|"))


def test_our_options_that_the_peer_page_names_exist():
    ours = {
        option for command in COMMANDS.values() for item in command.params for option in item.opts
    }
    ours |= {option for item in PROGRAM.params for option in item.opts}
    cells = [
        line.split("|")[2]
        for line in PEER.split("## virtnbdmap")[0].splitlines()
        if line.startswith("| `")
    ]
    named = {option for cell in cells for option in re.findall(r"`(--[a-z-]+)", cell)}
    assert named - ours == set()
