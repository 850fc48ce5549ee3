"""What notes say after a check: decided from what was noted and what was proven."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.repository.dedup.checking.notes import (
    NOWHERE,
    SOMETHING,
    Proven,
    deciding_packs,
    settle,
)
from sendense.repository.dedup.damages import DamageNote

R1, R2 = b"1" * 32, b"2" * 32
HERE = frozenset({"p1", "p2"})


def note(points=(), records=(), packs=(), name="damage/a"):
    return DamageNote(name, frozenset(points), frozenset(records), frozenset(packs))


def proven(**changes):
    nothing = Proven(frozenset(), frozenset(), frozenset(), untouched=HERE, there=HERE)
    values: dict[str, Any] = {
        key: frozenset(value) if isinstance(value, set) else value for key, value in changes.items()
    }
    return replace(nothing, **values)


def test_nothing_noted_and_nothing_found():
    done = settle([], proven(everything=True))
    assert (done.note, done.obsolete, done.healed) == (None, (), frozenset())


def test_what_is_found_is_noted():
    done = settle([], proven(records={(R1, "a")}, touched={"p1"}, untouched={"p2"}))
    assert done.note == note({"p1"}, {(R1, "a")}, name="")


def test_what_is_found_again_is_not_noted_again():
    old = note({"p1"}, {(R1, "a")})
    done = settle([old], proven(records={(R1, "a")}, touched={"p1"}, untouched={"p2"}, read={"a"}))
    assert (done.note, done.obsolete) == (None, ())


def test_a_structure_check_proves_nothing_whole():
    done = settle([note({"p1"}, {(R1, "a")})], proven())
    assert (done.note, done.obsolete, done.healed) == (None, (), frozenset())
    assert done.kept == {"p1"}


def test_a_record_that_was_read_and_is_whole():
    done = settle([note({"p1"}, {(R1, "a")})], proven(read={"a"}, places=lambda record: ["a"]))
    assert done.healed == {"p1"}
    assert (done.note, done.obsolete) == (None, ("damage/a",))


def test_a_record_that_is_whole_elsewhere_heals_the_point_and_stays_noted():
    done = settle(
        [note({"p1"}, {(R1, "a")})],
        proven(records={(R1, "a")}, read={"a", "b"}, places=lambda record: ["a", "b"]),
    )
    assert done.healed == {"p1"}
    assert done.note == note((), {(R1, "a")}, name="")


def test_a_record_whose_other_place_was_not_read_heals_nobody():
    old = note({"p1"}, {(R1, "a")})
    done = settle([old], proven(records={(R1, "a")}, read={"a"}, places=lambda record: ["a", "b"]))
    assert done.healed == frozenset()
    assert done.note is None


def test_a_pack_that_nobody_looks_into_any_more_is_forgotten():
    done = settle([note((), {(R1, "a")}, {"b"})], proven(forgotten=lambda pack: pack in ("a", "b")))
    assert (done.note, done.obsolete) == (None, ("damage/a",))


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_nowhere_is_known_only_after_everything_was_read(everything):
    old = note({"p1"}, {(R1, NOWHERE), (SOMETHING, NOWHERE)})
    done = settle([old], proven(everything=everything))
    assert done.healed == ({"p1"} if everything else frozenset())
    assert done.obsolete == (("damage/a",) if everything else ())


def test_a_note_without_evidence_is_left_to_verifications():
    done = settle([note({"p1"})], proven(everything=True))
    assert (done.note, done.obsolete, done.healed) == (None, (), frozenset())
    assert done.bare == {"p1"}


def test_points_that_were_deleted_leave_the_notes():
    done = settle([note({"p1", "p9"}, {(R1, "a")})], proven())
    assert done.note == note({"p1"}, {(R1, "a")}, name="")
    assert done.healed == frozenset()


def test_what_decides():
    found = deciding_packs(
        [note({"p1"}, {(R1, "a"), (R2, NOWHERE)}, {"c"})],
        lambda record: ["b"] if record == R1 else ["d"],
    )
    assert found == {"a", "b", "c", "d"}


ids = st.sampled_from([R1, R2, SOMETHING])
packs = st.sampled_from(["a", "b", NOWHERE])
points = st.frozensets(st.sampled_from(["p1", "p2", "p3"]))
records = st.frozensets(st.tuples(ids, packs))
notes = st.lists(
    st.builds(note, points, records, st.frozensets(st.sampled_from(["a", "b"]))), max_size=3
)


@given(notes, records, points, st.frozensets(st.sampled_from(["a", "b"])), st.booleans())
def test_nothing_is_forgotten_that_was_not_proven(held, bad, touched, read, everything):
    """Whatever was found stays found, and settling once more changes nothing."""
    touched &= HERE
    held = [replace(item, name=f"damage/{number}") for number, item in enumerate(held)]
    given_ = proven(
        records=bad,
        touched=touched,
        untouched=HERE - touched,
        read=read,
        everything=everything,
    )
    done = settle(held, given_)
    bare = {point for item in held if not item.records and not item.packs for point in item.points}
    assert not done.healed & touched
    assert not done.healed & bare
    kept = [item for item in held if item.name not in done.obsolete]
    after = [*kept, *([done.note] if done.note else [])]
    noted = {record for item in after for record in item.records}
    assert bad <= noted
    assert touched <= {point for item in after for point in item.points}
    for record, pack in {record for item in held for record in item.records} - noted:
        assert pack in read if pack != NOWHERE else everything
        assert (record, pack) not in bad
