"""The command line against a real server with one of everything in its catalogue."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import pytest

from sendense.cli.main import run
from sendense.model.access import Role
from tests.support.api_site import ApiSite, api_site, fill
from tests.support.catalogs import catalog_at, new_urls


@dataclass(frozen=True)
class Answer:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Give what it wrote with --json."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


class Person:
    """Somebody who types commands, and sees what they write."""

    def __init__(self, site: ApiSite, capsys, monkeypatch) -> None:
        self.site = site
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.be(Role.ADMIN)

    def be(self, role: Role) -> None:
        """Ask with the token of this role from now on."""
        self._monkeypatch.setenv("SENDENSE_TOKEN", self.site.tokens[role])

    def __call__(self, *arguments: object) -> Answer:
        """Run a command line."""
        self._capsys.readouterr()
        code = run([str(each) for each in arguments])
        shown = self._capsys.readouterr()
        for token in self.site.tokens.values():
            assert token not in shown.out + shown.err
        return Answer(code, shown.out, shown.err)

    def ok(self, *arguments: object) -> str:
        """Run a command line that has to do its work; gives what it shows."""
        answer = self(*arguments)
        assert answer.code == 0, answer
        return answer.out

    def json(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        """Run a command line for its document."""
        answer = self(*arguments, "--json")
        assert answer.code == code, answer
        return answer.document

    def refused(self, *arguments: object, code: int, says: str) -> Answer:
        """Run a command line that fails, with a message, a hint, and never a traceback."""
        answer = self(*arguments)
        assert answer.code == code, answer
        assert says in answer.err, answer
        assert "Traceback" not in answer.err
        assert "bug" not in answer.err
        return answer


@pytest.fixture(scope="session")
def new_url():
    with new_urls("sqlite") as urls:
        yield urls


@pytest.fixture
def site(new_url, tmp_path):
    with catalog_at(new_url()) as catalog:
        fill(catalog)
        with api_site(catalog, tmp_path) as served:
            yield served


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Give an environment and a configuration that no login of this machine reaches."""
    for name in os.environ:
        if name.startswith("SENDENSE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("sendense.settings.DEFAULT_FILE", tmp_path / "none.yaml")
    monkeypatch.setattr("sendense.cli.configuration.DEFAULT_FILE", tmp_path / "none.yaml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def person(site, home, capsys, monkeypatch):
    monkeypatch.setenv("SENDENSE_SERVER", site.url)
    return Person(site, capsys, monkeypatch)
