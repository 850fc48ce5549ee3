"""Commands whose modules are imported when they are named, and not at every start.

What asks a server, or is one, has a lot to import, and a command for one host should not wait for
it.  The program knows the names of those commands, and the module that brings each: it has a
``register(app)``, as all modules of commands have.  Whoever asks for all commands (``--help``, the
completion of a shell, the tests) gets all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

LATER: Final[Mapping[str, str]] = {
    "login": "sendense.cli.remote.login",
    "logout": "sendense.cli.remote.login",
    "whoami": "sendense.cli.remote.login",
    "status": "sendense.cli.remote.status",
    "cloud": "sendense.cli.remote.clouds",
    "host": "sendense.cli.remote.hosts",
    "instance": "sendense.cli.remote.instances",
    "point": "sendense.cli.remote.holds",
    "repository": "sendense.cli.remote.repositories",
    "policy": "sendense.cli.remote.policies",
    "job": "sendense.cli.remote.jobs",
    "tenant": "sendense.cli.remote.tenants",
    "user": "sendense.cli.remote.users",
    "token": "sendense.cli.remote.tokens",
    "audit": "sendense.cli.remote.audit",
}
"""The module that brings each command or group of commands."""


class Program(TyperGroup):
    """The commands that are there, and those that come when they are named."""

    _there: MutableMapping[str, Any]

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """Give all commands."""
        for name in LATER:
            self._bring(name)
        return self._there

    @commands.setter
    def commands(self, commands: MutableMapping[str, Any]) -> None:
        self._there = commands

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - Typer's own types
        """Give one command."""
        self._bring(cmd_name)
        return self._there.get(cmd_name)

    def _bring(self, name: str) -> None:
        if name in self._there or name not in LATER:
            return
        own = typer.Typer()
        import_module(LATER[name]).register(own)
        brought = typer.main.get_group(own).commands
        self._there.update({each: brought[each] for each in brought if each not in self._there})
