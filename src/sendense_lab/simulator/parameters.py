"""Parameters of commands: what each takes in which version, and how values are read.

A command says what it takes in one line of words: `id:uuid/zone! name volumeid:uuid/volume@4.21`.
`!` marks what is required, `@` since when it is known. What a version does not know, it does not
see: CloudStack drops unknown parameters without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sendense_lab.simulator.errors import bad, unknown_entity
from sendense_lab.simulator.records import (
    Account,
    AffinityGroup,
    BackupOffering,
    Cluster,
    DiskOffering,
    Domain,
    Host,
    Instance,
    Network,
    Nic,
    OsType,
    Pod,
    Pool,
    Project,
    Record,
    Role,
    RoleRule,
    SecurityGroup,
    ServiceOffering,
    Snapshot,
    Template,
    User,
    UserData,
    VmSnapshot,
    Volume,
    Webhook,
    Zone,
)
from sendense_lab.simulator.world import World

KINDS: dict[str, type[Record]] = {
    "account": Account,
    "affinity": AffinityGroup,
    "backupoffering": BackupOffering,
    "cluster": Cluster,
    "diskoffering": DiskOffering,
    "domain": Domain,
    "host": Host,
    "instance": Instance,
    "network": Network,
    "nic": Nic,
    "offering": ServiceOffering,
    "ostype": OsType,
    "pod": Pod,
    "pool": Pool,
    "project": Project,
    "role": Role,
    "rule": RoleRule,
    "securitygroup": SecurityGroup,
    "snapshot": Snapshot,
    "template": Template,
    "user": User,
    "userdata": UserData,
    "vmsnapshot": VmSnapshot,
    "volume": Volume,
    "webhook": Webhook,
    "zone": Zone,
}

PAGED = "page:integer pagesize:integer keyword"
OWNED = "account domainid:uuid/domain isrecursive:boolean listall:boolean projectid:uuid/project"
FOR_OWNER = "account domainid:uuid/domain projectid:uuid/project"

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MAP = re.compile(r"^([a-z0-9]+)\[(\d+)\]\.(.+)$", re.IGNORECASE)

Value = str | int | bool | Record | list[Record] | list[str] | list[dict[str, str]]


@dataclass(frozen=True)
class Param:
    """One parameter of a command."""

    name: str
    kind: str = "string"
    table: str = ""
    required: bool = False
    since: str = ""

    def known_to(self, world: World) -> bool:
        """Tell whether a server has it."""
        return not self.since or world.since(self.since)


def declared(*words: str) -> tuple[Param, ...]:
    """Read the line that a command says its parameters with."""
    return tuple(_param(word) for word in " ".join(words).split())


def _param(word: str) -> Param:
    word, _, since = word.partition("@")
    required = word.endswith("!")
    name, _, kind = word.removesuffix("!").partition(":")
    kind, _, table = kind.partition("/")
    return Param(name, kind or "string", table, required, since)


def check_text(given: Mapping[str, str]) -> None:
    """Refuse control characters."""
    for name, value in given.items():
        if _CONTROL.search(value):
            raise bad(f"Received value {value!r} for parameter {name} is invalid, contains illegal "
                      "ASCII non-printable characters")  # fmt: skip


def bind(
    world: World, command: str, params: tuple[Param, ...], given: Mapping[str, str]
) -> dict[str, Value]:
    """Read what was sent; names count in any case, ids become rows."""
    lowered = {name.lower(): value for name, value in given.items()}
    maps = _maps(given)
    bound: dict[str, Value] = {}
    for param in params:
        if not param.known_to(world):
            continue
        if param.kind == "map":
            if param.name in maps:
                bound[param.name] = maps[param.name]
            continue
        text = lowered.get(param.name, "")
        if text:
            bound[param.name] = _value(world, command, param, text)
        elif param.required:
            raise bad(
                f"Unable to execute API command {command.lower()} due to missing parameter "
                f"{param.name}"
            )
    return bound


def _maps(given: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    """Collect `details[0].key=value` by name and number."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for name, value in given.items():
        parts = _MAP.match(name)
        if parts:
            rows = found.setdefault(parts[1].lower(), {})
            rows.setdefault(int(parts[2]), {})[parts[3]] = value
    return {name: [rows[number] for number in sorted(rows)] for name, rows in found.items()}


def _value(world: World, command: str, param: Param, text: str) -> Value:
    if param.kind == "uuid":
        if param.name == "projectid" and text == "-1":
            return -1
        return _row(world, command, param, text)
    if param.kind == "uuids":
        return [_row(world, command, param, part.strip()) for part in text.split(",")]
    if param.kind == "list":
        return [part.strip() for part in text.split(",") if part.strip()]
    if param.kind == "integer":
        return _integer(command, param, text)
    if param.kind == "boolean":
        return text.lower() == "true"
    return text


def _integer(command: str, param: Param, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise bad(
            f"Unable to execute API command {command.lower()} due to invalid value {text} for "
            f"parameter {param.name}"
        ) from None


def _row(world: World, command: str, param: Param, text: str) -> Record:
    row = world.find(KINDS[param.table], text)
    if row is None:
        raise unknown_entity(command, param.name, text)
    return row
