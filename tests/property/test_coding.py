"""Values that travel between machines come out as they went in, or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import NotAllowed, Rejected, SendenseError
from sendense.model.agent_status import AgentFacts, CaptureStatus, Events, Heartbeat, RestoreStatus
from sendense.model.coding import decode, encode
from sendense.model.machine import Machine
from sendense.model.secret import Secret
from sendense.model.survey import Survey
from sendense.model.ticket import (
    Action,
    CaptureOrder,
    Limits,
    RestoreOrder,
    Ticket,
    check,
    sign,
)

KINDS = [
    Machine, Survey, CaptureOrder, RestoreOrder, Limits, CaptureStatus, RestoreStatus, AgentFacts,
    Heartbeat, Events,
]  # fmt: skip
SECRET = Secret("of this agent")

LATEST = datetime(9000, 1, 1, tzinfo=UTC).timestamp()
st.register_type_strategy(
    datetime, st.floats(1e5, LATEST).map(lambda moment: datetime.fromtimestamp(moment, UTC))
)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


def tried(act, *arguments):
    """Give what a call gives, or how it is refused."""
    try:
        return act(*arguments), ""
    except SendenseError as error:
        return None, str(error)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_value_comes_out_as_it_went_in(kind, data):
    value = data.draw(st.from_type(kind))
    wire = json.loads(json.dumps(encode(value)))
    assert decode(kind, wire) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", KINDS)
@given(content=JSON)
def test_what_does_not_fit_is_refused_in_our_words(kind, content):
    value, refused = tried(decode, kind, content)
    assert value is not None or kind.__name__ in refused


@given(data=st.data())
def test_a_value_with_one_piece_spoiled_is_refused_or_whole(data):
    """Never a value of another type in a field: what is read later must not have to doubt it."""
    value = data.draw(st.from_type(CaptureOrder))
    wire = json.loads(json.dumps(encode(value)))
    name = data.draw(st.sampled_from(sorted(wire)))
    wire[name] = data.draw(JSON)
    read, refused = tried(decode, CaptureOrder, wire)
    if read is None:
        assert f"CaptureOrder.{name}" in refused
    else:
        assert type(getattr(read, name)) is type(getattr(value, name))
        assert decode(CaptureOrder, encode(read)) == read


def test_an_unknown_field_is_left_aside_and_a_missing_one_named():
    wire = encode(Limits(5, 6))
    assert decode(Limits, {**wire, "of_a_later_version": 1}) == Limits(5, 6)
    assert decode(Limits, {}) == Limits()
    with pytest.raises(Rejected, match=r"CaptureOrder.machine is missing"):
        decode(CaptureOrder, {})


def test_a_secret_is_never_encoded():
    with pytest.raises(TypeError):
        encode({"of": [Secret("x")]})


def a_ticket(**changes):
    until = datetime(2030, 1, 1, tzinfo=UTC)
    return Ticket(**{"id": "t1", "agent": "a1", "action": Action.LOOK, "expires_at": until,
                     **changes})  # fmt: skip


@given(data=st.data())
def test_a_signed_ticket_is_read_and_a_changed_one_is_not(data):
    text = sign(a_ticket(job=data.draw(st.text(max_size=20))), SECRET)
    assert sign(check(text, SECRET), SECRET) == text
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda it: it != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    read, refused = tried(check, changed, SECRET)
    # The last digit of base64 may hold bits that mean nothing.
    assert read in (None, check(text, SECRET))
    assert SECRET.reveal().decode() not in refused


@given(st.text(max_size=200))
def test_any_text_is_no_ticket(text):
    with pytest.raises(SendenseError):
        check(text, SECRET)


def test_a_ticket_of_another_secret_is_refused():
    with pytest.raises(NotAllowed):
        check(sign(a_ticket(), Secret("of another agent")), SECRET)


@pytest.mark.parametrize("action", [Action.CAPTURE, Action.RESTORE, Action.RELEASE])
def test_a_ticket_that_acts_says_on_what(action):
    with pytest.raises(Rejected):
        check(sign(a_ticket(action=action), SECRET), SECRET)
