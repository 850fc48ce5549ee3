"""A sealed document is byte for byte what was written, or it is damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Damaged, NotFound, Unsupported
from sendense.repository import sealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text("abc"), JSON, max_size=4))
def test_read_as_written(content):
    assert sealed.parse(sealed.render("kind", content), "kind", name="file") == content


@given(st.binary(max_size=200))
def test_any_bytes(data):
    with pytest.raises(Damaged, match="file"):
        sealed.parse(data, "kind", name="file")


@given(JSON)
def test_any_json(content):
    data = sealed.render("kind", {})
    for value in (content, {"blake3": content, "version": 1, "format": "kind"}):
        changed = sealed._readable(value if isinstance(value, dict) else {"content": value})
        if changed != data:
            with pytest.raises((Damaged, Unsupported)):
                sealed.parse(changed, "kind", name="file")


def test_every_flipped_byte_and_every_cut():
    good = sealed.render("kind", {"name": "value", "list": [1, 2.5, None]})
    for place in range(len(good)):
        flipped = bytearray(good)
        flipped[place] ^= 1
        with pytest.raises((Damaged, Unsupported)):
            sealed.parse(bytes(flipped), "kind", name="file")
        with pytest.raises(Damaged):
            sealed.parse(good[:place], "kind", name="file")


def test_deep_nesting():
    with pytest.raises(Damaged):
        sealed.parse(b"[" * 100_000, "kind", name="file")


def test_another_kind_and_a_newer_version():
    with pytest.raises(Damaged):
        sealed.parse(sealed.render("other", {}), "kind", name="file")
    with pytest.raises(Unsupported):
        sealed.parse(sealed.render("kind", {}, version=2), "kind", name="file")


def test_no_file(tmp_path):
    with pytest.raises(NotFound):
        sealed.read(tmp_path / "none", "kind")
    with pytest.raises(Damaged):
        sealed.read(tmp_path, "kind")
