"""What a restore into a cloud says of what it made."""

from __future__ import annotations

from types import SimpleNamespace

from sendense.model.ascend_steps import NEW, NewFile, WriteDisk, step_to_json
from sendense.workflows.managed.ascend_journal import Journal

PLAN = [
    step_to_json(each)
    for each in (
        NewFile("was-data", "pool", "file", "/pool/file", 1, label="DATA-27"),
        WriteDisk("was-root", "", "pool", "", 1, label="ROOT-28"),
        WriteDisk("unnamed", "", "pool", "", 1),
    )
]


def journal(*done):
    """Read a journal whose pieces were done: what each made, and what is said of it."""
    facts = [
        {"ascend": "plan", "cloud_id": "west", "way": "x", "steps": PLAN, "warnings": [],
         "allow_larger": False},
    ]  # fmt: skip
    facts += [
        {"ascend": "done", "piece": number, "made": made, "said": said}
        for number, (made, said) in enumerate(done, 1)
    ]
    return Journal.of(SimpleNamespace(facts=tuple(facts)))


def test_things_have_kind_name_and_id_and_the_instance_is_first():
    found = journal(
        ({"was-data": "v7"}, {"volume": "v7", "name": "DATA-28"}),
        ({NEW: "i9", "was-root": "v8"}, {"instance": "i9", "name": "web1-copy"}),
        ({}, {"volume": "v7", "instance": "i9"}),
        ({}, {"started": True}),
    )
    assert found.things() == [
        {"kind": "instance", "name": "web1-copy", "id": "i9"},
        {"kind": "volume", "name": "DATA-28", "id": "v7"},
        {"kind": "volume", "name": "ROOT-28", "id": "v8"},
    ]


def test_a_volume_that_nobody_named_goes_by_what_the_plan_calls_it():
    assert journal(({"unnamed": "v1"}, {})).things() == [
        {"kind": "volume", "name": "unnamed", "id": "v1"}
    ]


def test_where_nothing_was_made_there_are_none():
    assert journal(({}, {"started": True})).things() == []
