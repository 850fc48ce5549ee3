"""A secret takes any text, and never shows it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.model.secret import Secret


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc80 and \ud83d"])
def test_text_that_is_no_text_is_a_secret_all_the_same(text):
    assert Secret(text).reveal()
    assert str(Secret(text)) == "<secret>"


def test_bytes_of_the_environment_come_back():
    assert Secret(os.fsdecode(b"caf\xe9")).reveal() == b"caf\xe9"


@given(st.text(st.characters()))
def test_every_text_is_itself_only(text):
    assert Secret(text) == Secret(text)
    assert Secret(text) != Secret(text + "x")
