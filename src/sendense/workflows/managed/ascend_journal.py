"""What a restore into a cloud remembers of itself, so that another process can go on with it.

Three kinds of facts are written, each before what it speaks of can be missed::

    plan    all steps, with the ids that they name
    begun   a piece of work begins: what is needed to find out whether it happened
    done    it is done, with the ids of what it made

Pieces are done one after another.  Whoever comes after a process that died goes on with the first
that is not done; if it was begun, it looks first what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sendense import steps
from sendense.model.ascend_steps import (
    NEW,
    NewFile,
    Step,
    VerifyDisk,
    WriteDisk,
    step_from_json,
    step_to_json,
)
from sendense.model.coding import encode
from sendense.model.job import Json
from sendense.workflows.managed.task import Task

_KEY = "ascend"


@dataclass(frozen=True)
class Piece:
    """Steps that are done together, or one."""

    number: int
    """Of its first step, from 1."""
    steps: tuple[Step, ...]


def pieces_of(steps: tuple[Step, ...]) -> tuple[Piece, ...]:
    """Put steps together: disks that are written, and read back while they are still held."""
    found: list[list[Step]] = []
    starts: list[int] = []
    for number, step in enumerate(steps, 1):
        if found and _joins(found[-1], step):
            found[-1].append(step)
        else:
            found.append([step])
            starts.append(number)
    return tuple(Piece(start, tuple(each)) for start, each in zip(starts, found, strict=True))


def _joins(piece: list[Step], step: Step) -> bool:
    if isinstance(step, WriteDisk):
        return isinstance(piece[-1], WriteDisk)
    if not isinstance(step, VerifyDisk):
        return False
    return any(
        isinstance(each, (WriteDisk, NewFile)) and each.source == step.source for each in piece
    )


@dataclass(frozen=True)
class Course:
    """The plan that is being carried out."""

    cloud_id: str
    way: str
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    allow_larger: bool = False


@dataclass
class Journal:
    """The facts of one restore, read once and added to."""

    task: Task
    course: Course | None = None
    made: dict[str, str] = field(default_factory=dict)
    """Ids of what was made, by what the plan names it."""
    done: dict[int, Json] = field(default_factory=dict)
    """What is to be said of the pieces that are done, by number."""
    _begun: dict[int, list[Json]] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task) -> Journal:
        """Read what was remembered."""
        journal = cls(task)
        for fact in task.facts:
            journal._take(fact)
        return journal

    def inherit(self, facts: tuple[Json, ...]) -> None:
        """Go on with what another job remembered; from now on it is remembered here too."""
        self._add({_KEY: "inherited", "facts": list(facts)})

    def begun(self, piece: Piece) -> tuple[Json, ...]:
        """Give what was remembered each time that a piece was begun, oldest first."""
        return tuple(self._begun.get(piece.number, ()))

    def things(self) -> list[Json]:
        """Give kind, name and id of what was made, the instance first.

        What CloudStack named itself goes by the name that it has in the plan.
        """
        names = _labels(self.course.steps if self.course else ())
        called = {
            str(said[kind]): str(said["name"])
            for said in self.done.values()
            for kind in ("instance", "volume")
            if kind in said and "name" in said
        }
        return [
            {
                "kind": "instance" if source == NEW else "volume",
                "name": called.get(made) or names.get(source, source),
                "id": made,
            }
            for source, made in sorted(self.made.items(), key=lambda each: each[0] != NEW)
        ]

    def plan(self, course: Course) -> None:
        """Remember what will be done."""
        self._add(
            {
                _KEY: "plan",
                "cloud_id": course.cloud_id,
                "way": course.way,
                "steps": [step_to_json(step) for step in course.steps],
                "warnings": list(course.warnings),
                "allow_larger": course.allow_larger,
            }
        )

    def begin(self, piece: Piece, **what: Any) -> None:
        """Remember that a piece begins."""
        self._add({_KEY: "begun", "piece": piece.number, **encode(what)})
        steps.reached("ascend-piece-begun")

    def finish(self, piece: Piece, made: Mapping[str, str], said: Json) -> None:
        """Remember that a piece is done."""
        self._add(
            {_KEY: "done", "piece": piece.number, "made": dict(made), "said": encode(dict(said))}
        )

    def _add(self, fact: Json) -> None:
        self.task.remember(fact)
        self._take(fact)

    def _take(self, fact: Json) -> None:
        kind = fact.get(_KEY)
        if kind == "plan":
            self.course = Course(
                cloud_id=str(fact["cloud_id"]),
                way=str(fact["way"]),
                steps=tuple(step_from_json(step) for step in fact["steps"]),
                warnings=tuple(fact["warnings"]),
                allow_larger=bool(fact["allow_larger"]),
            )
        elif kind == "inherited":
            for each in fact["facts"]:
                self._take(each)
        elif kind == "begun":
            self._begun.setdefault(int(fact["piece"]), []).append(fact)
        elif kind == "done":
            self.made.update(fact["made"])
            self.done[int(fact["piece"])] = fact["said"]


def _labels(planned: tuple[Step, ...]) -> dict[str, str]:
    """Give the names of volumes, by what the plan calls them."""
    return {
        step.source: step.label
        for step in planned
        if isinstance(step, (NewFile, WriteDisk, VerifyDisk)) and step.label
    }


def started_before(facts: tuple[Json, ...]) -> bool:
    """Tell whether a restore, by its facts, would have started its instance in the end."""
    return any(step.get("step") == "StartInstance" for step in _planned(facts))


def writes_in_place(facts: tuple[Json, ...]) -> bool:
    """Tell whether a restore, by its facts, writes over disks that it did not make itself."""
    return any(step.get("step") == "WriteDisk" and step["volume_id"] for step in _planned(facts))


def points_begun(facts: Iterable[Json]) -> Iterator[str]:
    """Give the ids of the points that a restore, by its facts, made or is about to make."""
    for fact in facts:
        if "attempt" in fact:
            yield str(fact["attempt"]["point"])
        yield from points_begun(fact.get("facts", ()))


def _planned(facts: Iterable[Json]) -> Iterator[Json]:
    for fact in facts:
        if fact.get(_KEY) == "plan":
            yield from fact["steps"]
        # One that went on with another has that one's facts in its own, however often.
        yield from _planned(fact.get("facts", ()))
