"""Whose password is tried: one user, however it is written."""

# ruff: noqa: RUF001 - letters that look like others are what this is about
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.model.cloud_login import CloudLogin
from sendense.model.secret import Secret

PASSWORD = Secret("x")


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("", "/"),
        ("/", "/"),
        ("ROOT", "/"),
        ("root/", "/"),
        ("acme", "/acme"),
        ("ROOT/acme", "/acme"),
        ("ROOT/acme/lab/", "/acme/lab"),
        ("/acme//lab/", "/acme/lab"),
        ("/ROOT/acme", "/ROOT/acme"),
        ("ROOT/ROOT/acme", "/ROOT/acme"),
        ("rooted", "/rooted"),
    ],
)
def test_the_path_of_a_domain(written, path):
    assert CloudLogin("ann", PASSWORD, written).path == path


def test_one_user_is_one_however_it_is_written():
    ways = [("ann", "acme"), ("ANN", "/Acme/"), ("Ánn", "ROOT/acme"), ("ann  ", "acme")]
    assert len({CloudLogin(user, PASSWORD, domain).subject for user, domain in ways}) == 1


ALIKE = [
    ["a", "A", "á", "ª", "ａ", "a\u0301", "\u200ba", "a\xad", "ᵃ", "ⓐ", "𝐚", "a\ufe0f"],
    ["e", "É", "ẽ", "ℯ", "\u2060e"],
    ["i", "ı", "İ", "ï", "ⁱ", "I"],
    ["o", "Ø", "ø", "º", "o\u0338", "ố"],
    ["l", "ł", "Ł", "ℓ"],
    ["d", "đ", "Đ", "ð"],
    ["h", "ħ", "Ħ"],
    ["s", "ß", "ẞ", "ss", "ſ", "ſs", "ẛ"],
    ["ae", "æ", "Æ", "ǽ", "Ae"],
    ["oe", "œ", "Œ"],
    ["b", "\u1de8", "ᴮ", "Ḃ"],
    ["1", "①", "١", "１", "¹"],
    ["σ", "ς", "Σ"],
    ["α", "ᾳ", "ά", "Ἀ"],
    ["е", "Ё", "ё"],
    ["か", "カ", "ガ", "ｶ"],
    ["や", "ャ", "ゃ"],
    ["豈", "\uf900"],
]
"""What one or another collation of MySQL takes for the same."""
SHARED = "?"


@given(
    st.lists(st.sampled_from(ALIKE).flatmap(lambda each: st.tuples(*[st.sampled_from(each)] * 2))),
    st.sampled_from(["", " ", "   "]),
)
def test_no_spelling_of_a_user_is_counted_apart(letters, end):
    """It is counted for that user, or with all names that are told by nobody."""
    one, other = ("".join(each) for each in zip(*letters, strict=True)) if letters else ("", "")
    for first, second in (
        (CloudLogin(one, PASSWORD, "acme"), CloudLogin(f"{other}{end}", PASSWORD, "Ácme")),
        (CloudLogin("ann", PASSWORD, f"/{one}"), CloudLogin("ann", PASSWORD, f"/{other}{end}/")),
    ):
        assert len({first.subject, second.subject} - {SHARED}) <= 1


@pytest.mark.parametrize(
    "user",
    ["müller", "straße", "søren", "łukasz", "đorđe", "ıpek", "æsa", "иван", "ніна", "王伟",
     "やまだ", "김철수", "γιώργος", "nguyễn", "o'neill", "ann.b@example.org"],
)  # fmt: skip
def test_usual_names_are_counted_by_themselves(user):
    assert CloudLogin(user, PASSWORD).subject not in {SHARED, CloudLogin("", PASSWORD).subject}


@given(st.text(), st.text())
def test_any_name_has_a_subject(user, domain):
    found = CloudLogin(user, PASSWORD, domain).subject
    assert found == SHARED or found.startswith("/")


def test_others_are_others():
    ways = [("ann", "acme"), ("ann", ""), ("anna", "acme"), ("ann", "acme/lab")]
    assert len({CloudLogin(user, PASSWORD, domain).subject for user, domain in ways}) == 4


def test_the_password_is_not_shown():
    assert "t0psecret" not in repr(CloudLogin("ann", Secret("t0psecret"), "acme"))
