"""The commands: what each is called, takes, and whom it is for by itself.

Modules `commands_*` register theirs by decorator. A command answers at once with a body, or gives
`Work` for a job: steps that are a generator under the world's lock. Whatever takes time outside
(a host's work) it yields as a function, which is called without the lock, and gets the result of.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sendense_lab.simulator.parameters import Param, declared
from sendense_lab.simulator.world import World

if TYPE_CHECKING:
    from sendense_lab.simulator.call import Call

Body = Mapping[str, object]
Steps = Generator[Callable[[], object], object, Body]


ADMIN = frozenset({"Admin"})
OPERATORS = frozenset({"Admin", "ResourceAdmin", "DomainAdmin"})
EVERYONE = frozenset({"Admin", "ResourceAdmin", "DomainAdmin", "User"})


@dataclass
class Work:
    """What a job does."""

    steps: Steps
    object_id: str = ""
    """Of what the command created before the job began; shown with the job's id."""
    queue: str = ""
    """Id of the instance that the job waits its turn at."""
    about: tuple[str, str] = ("None", "")
    """`jobinstancetype` and `jobinstanceid`."""
    event: str = ""
    """Type of the event that tells of it."""
    words: str = ""
    """What the event says."""
    owner: str = ""
    """Id of the account that it belongs to, where that is not the caller's."""


@dataclass(frozen=True)
class Command:
    """One API."""

    name: str
    params: tuple[Param, ...]
    run: Callable[[Call], Body | Work]
    access: frozenset[str]
    since: str = ""
    is_async: bool = False
    envelope: str = ""
    """Top-level key of its answers where it is not made of the name."""
    setting: str = ""
    """Only there while this setting is on."""
    java: str = ""
    description: str = ""
    shown: tuple[str, ...] = field(default=())
    """Fields of its answer, as `listApis` tells of them."""

    @property
    def key(self) -> str:
        """Give the top-level key of its answers."""
        return self.envelope or f"{self.name.lower()}response"

    @property
    def changes(self) -> bool:
        """Tell whether it is no mere question."""
        return not self.name.startswith(("list", "get", "query", "is", "find"))

    def known_to(self, world: World) -> bool:
        """Tell whether a server has it."""
        if self.setting and not world.is_set(self.setting):
            return False
        return not self.since or world.since(self.since)

    def java_class(self, *, by_admin: bool) -> str:
        """Give the name of its class, as jobs show it: often another for administrators."""
        if self.java:
            return f"{_PACKAGE}.{self.java}"
        topic = _TOPICS.get(self.run.__module__.rpartition("_")[2], "resource")
        if "VMSnapshot" in self.name:
            topic = "vmsnapshot"
        short = self.name[0].upper() + self.name[1:].replace("VirtualMachine", "VM")
        if self.access == ADMIN:
            return f"{_PACKAGE}.admin.{topic}.{short}Cmd"
        if by_admin and topic in {"vm", "volume"}:
            return f"{_PACKAGE}.admin.{topic}.{short}CmdByAdmin"
        return f"{_PACKAGE}.user.{topic}.{short}Cmd"


_PACKAGE = "org.apache.cloudstack.api.command"
_TOPICS = {
    "hosts": "host", "import": "volume", "instances": "vm", "power": "vm", "snapshots": "snapshot",
    "tags": "tag", "tenants": "account", "volumes": "volume",
}  # fmt: skip
"""Packages of commands, by the module that has them here."""

COMMANDS: dict[str, Command] = {}
"""All, by name in lower case: CloudStack takes any case."""


def command(
    name: str,
    params: str = "",
    *,
    access: frozenset[str] = EVERYONE,
    since: str = "",
    is_async: bool = False,
    **more: str,
) -> Callable[[Callable[[Call], Body | Work]], Callable[[Call], Body | Work]]:
    """Register a command."""

    def register(run: Callable[[Call], Body | Work]) -> Callable[[Call], Body | Work]:
        text = (run.__doc__ or name).strip().split("\n")[0]
        COMMANDS[name.lower()] = Command(
            name,
            declared(params),
            run,
            access,
            since,
            is_async,
            description=text,
            **more,  # type: ignore[arg-type]
        )
        return run

    return register


def find(name: str, world: World) -> Command | None:
    """Give a command that a server knows."""
    found = COMMANDS.get(name.lower())
    return found if found and found.known_to(world) else None
