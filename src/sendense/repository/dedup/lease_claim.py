"""What a lease says: who works on what, and which condemnations its holder has seen.

A lease is a sealed JSON document::

    {"kind": "write", "machine": "<tag>", "points": [], "text": "a backup of i-2-10-VM",
     "holder": {"host": "kvm1", "user": "root", "boot": "<id>", "pid_namespace": 4026531836,
                "pid": 123, "started": 4567},
     "taken_at": "2026-01-31T12:00:00.000000Z", "settled": true, "seen": ["<condemnation>"]}

Nothing in it decides by a clock: ``taken_at`` is for people.  How old a lease is, is what the store
says of the object.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sendense.errors import Damaged
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.canonical_json import Content


class LeaseKind(str, Enum):
    """What somebody does with the repository."""

    WRITE = "write"
    """A backup, or the target of a copy: points of one machine are made."""
    READ = "read"
    """A restore, a mount, a verification, or the source of a copy."""
    DELETE = "delete"
    GC = "gc"
    CHECK = "check"
    REPAIR = "repair"
    KEYS = "keys"


@dataclass(frozen=True)
class Wish:
    """What somebody wants to be free to do."""

    kind: LeaseKind
    text: str
    """For the message to those who are refused: ``a backup of i-2-10-VM``."""
    machine: str | None = None
    """The tag of the machine; who writes or deletes names it."""
    points: frozenset[str] = frozenset()
    """Ids of the points that are read or deleted."""

    def __post_init__(self) -> None:
        """Refuse a wish that would exclude nobody."""
        if self.kind in (LeaseKind.WRITE, LeaseKind.DELETE) and self.machine is None:
            raise ValueError(f"to {self.kind.value} takes the tag of a machine")


@dataclass(frozen=True)
class Holder:
    """A process, so that others on its host can tell whether it still lives."""

    host: str
    user: str
    boot: str
    """The id of this run of the kernel; empty where it is not known."""
    pid_namespace: int
    pid: int
    started: int
    """In clock ticks after the boot: a process number that is used again has another."""


@dataclass(frozen=True)
class Claim:
    """What a lease says."""

    wish: Wish
    holder: Holder
    taken_at: str
    """By the holder's clock: for people."""
    settled: bool = False
    """Renewed at least once, so it is held and not merely asked for."""
    seen: frozenset[str] = frozenset()
    """The condemnations that the holder saw before it referred to anything."""

    def to_json(self) -> Content:
        """Give the claim as the values of a JSON document."""
        return {
            "kind": self.wish.kind.value,
            "machine": self.wish.machine,
            "points": sorted(self.wish.points),
            "text": self.wish.text,
            "holder": dict(vars(self.holder)),
            "taken_at": self.taken_at,
            "settled": self.settled,
            "seen": sorted(self.seen),
        }

    @classmethod
    def from_json(cls, content: Content, name: str) -> Claim:
        """Read what :meth:`to_json` gave; ``name`` is for the error.

        A kind that a later version made is an error as well: nobody here can tell
        what it excludes.
        """
        try:
            return _claim(content)
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"{name} is no lease that is known", file=name) from error


@dataclass(frozen=True)
class LeaseRecord:
    """A lease as it was found in the store."""

    id: str
    """32 hex digits."""
    modified: datetime
    """When it was renewed, by the store's clock."""
    claim: Claim | None
    """None where it cannot be read: damaged, or of an epoch or a version that is not known."""

    @property
    def name(self) -> str:
        """Give the name of its object."""
        return f"{fmt.LEASES}{self.id}"

    @property
    def seen(self) -> frozenset[str]:
        """Give the condemnations that its holder has seen for certain."""
        return frozenset() if self.claim is None else self.claim.seen

    def described(self) -> str:
        """Say who holds it, for people."""
        if self.claim is None:
            return f"somebody whose lease cannot be read ({self.id})"
        who = self.claim.holder
        return (
            f"{self.claim.wish.text} ({who.user}@{who.host}, process {who.pid}, "
            f"since {self.claim.taken_at})"
        )


def _claim(content: Content) -> Claim:
    machine = content["machine"]
    wish = Wish(
        kind=LeaseKind(content["kind"]),
        text=_text(content["text"]),
        machine=None if machine is None else _text(machine),
        points=_texts(content["points"]),
    )
    who = content["holder"]
    holder = Holder(
        host=_text(who["host"]),
        user=_text(who["user"]),
        boot=_text(who["boot"]),
        pid_namespace=_number(who["pid_namespace"]),
        pid=_number(who["pid"]),
        started=_number(who["started"]),
    )
    return Claim(
        wish=wish,
        holder=holder,
        taken_at=_text(content["taken_at"]),
        settled=content["settled"] is True,
        seen=_texts(content["seen"]),
    )


def _text(value: Any) -> str:  # noqa: ANN401 - JSON
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(values: Any) -> frozenset[str]:  # noqa: ANN401 - JSON
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise TypeError(f"{values!r} is no list")
    return frozenset(map(_text, values))


def _number(value: Any) -> int:  # noqa: ANN401 - JSON
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value
