"""A recovery key survives paper, typing and a stranger; a mistake is found where it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sendense.errors import Rejected, Unsupported
from sendense.model.secret import Secret
from sendense.repository.dedup import recovery
from sendense.repository.dedup.recovery import RecoveryKey, is_recovery_key, parse_recovery_key
from sendense.repository.dedup.recovery_sheet import SheetFacts, recovery_sheet

KEY = RecoveryKey(Secret(bytes(range(32))))
TEXT = """\
04005-20G38-0G2GV-C1R8A-14505
P30D5-1R7HK-048J6-2CA1D-A5GQM
30CHD-M6RWB-3MF1K-ZY8J4-A2YGX"""
PUBLIC = "8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f"

KEYS = st.binary(min_size=32, max_size=32).map(lambda data: RecoveryKey(Secret(data)))


def parse(text: str) -> RecoveryKey:
    return parse_recovery_key(Secret(text))


def test_a_key_and_its_text_never_change():
    assert KEY.to_text().reveal().decode() == TEXT
    assert KEY.public.hex() == PUBLIC
    assert parse(TEXT) == KEY


@given(KEYS)
def test_read_as_written(key):
    assert parse_recovery_key(key.to_text()) == key
    assert is_recovery_key(key.to_text())


def test_generated_at_random():
    one, other = RecoveryKey.generate(), RecoveryKey.generate()
    assert one != other
    private = X25519PrivateKey.from_private_bytes(one.private.reveal())
    assert private.public_key().public_bytes_raw() == one.public


@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        lambda text: text.replace("-", " "),
        lambda text: text.replace("-", "").replace("\n", ""),
        lambda text: text.replace("\n", "\r\n\r\n") + "\n",
        lambda text: text.replace("-", "\u2013"),
        lambda text: text.replace("0", "O").replace("1", "l"),
        lambda text: text.replace("0", "o").replace("1", "I"),
        lambda text: "\ufeff" + text,
        lambda text: " ".join(text),
        lambda text: f"dear colleague,\n{recovery.BEGIN.lower()}\n{text}\n{recovery.END}\nyours",
        lambda text: f"{recovery.BEGIN}\n{text}",
    ],
)
def test_typed_in_another_way(change):
    assert parse(change(TEXT)) == KEY


def test_every_wrong_character_is_found_in_its_group():
    groups = re.split(r"[-\n]", TEXT)
    for number, group in enumerate(groups):
        for place in range(5):
            for letter in recovery._ALPHABET:
                if letter == group[place]:
                    continue
                wrong = list(groups)
                wrong[number] = group[:place] + letter + group[place + 1 :]
                with pytest.raises(Rejected, match=rf"group {number + 1} \(") as caught:
                    parse("-".join(wrong))
                assert wrong[number] not in caught.value.message


@given(KEYS, st.integers(0, 14), st.integers(0, 4), st.integers(0, 4))
def test_two_characters_that_changed_places_are_found(key, number, one, other):
    groups = re.split(r"[-\n]", key.to_text().reveal().decode())
    letters = list(groups[number])
    letters[one], letters[other] = letters[other], letters[one]
    if "".join(letters) == groups[number]:
        return
    groups[number] = "".join(letters)
    with pytest.raises(Rejected, match=rf"group {number + 1} \("):
        parse(" ".join(groups))


def test_groups_that_changed_places_are_found():
    groups = re.split(r"[-\n]", TEXT)
    groups[6], groups[7] = groups[7], groups[6]
    with pytest.raises(Rejected, match=r"group 7 \(line 2, group 2 of 5\)"):
        parse("-".join(groups))


def test_something_is_missing_or_too_much():
    with pytest.raises(Rejected, match=r"group 3 \(line 1, group 3 of 5\) has 4 characters"):
        parse(TEXT[:12] + TEXT[13:])
    without = TEXT.replace("-", "").replace("\n", "")
    with pytest.raises(Rejected, match=r"group [3-9] .* or something is missing before it"):
        parse(without[:12] + without[13:])
    with pytest.raises(Rejected, match="80 characters, not 75"):
        parse(TEXT + "-" + TEXT[:5])
    with pytest.raises(Rejected, match="0 characters, not 75"):
        parse("")
    with pytest.raises(Rejected, match="50 characters, not 75"):
        parse(TEXT[: TEXT.rindex("\n")])


def test_a_character_that_never_is_in_a_key():
    with pytest.raises(Rejected, match=r"group 2 .* never") as caught:
        parse(TEXT[:8] + "U" + TEXT[9:])
    assert "U" not in caught.value.message


def test_bytes_that_are_no_text_and_text_without_end():
    for data in (b"\xff\xfe", b"A" * 70_000):
        with pytest.raises(Rejected):
            parse_recovery_key(Secret(data))


def forged(content: bytes) -> str:
    return "-".join(recovery._to_groups(content))


def test_a_newer_version():
    known = b"\x02" + bytes(32)
    with pytest.raises(Unsupported, match="version 2"):
        parse(forged(known + recovery._checksum(known)))


def test_right_groups_that_are_no_key():
    with pytest.raises(Rejected, match="together they are no key"):
        parse(forged(b"\x01" + bytes(36)))
    groups = forged(b"\x01" + bytes(36)).split("-")
    last = [0, 0, 0, 1]
    letters = [recovery._ALPHABET[value] for value in [*last, recovery._check(last, 14)]]
    with pytest.raises(Rejected, match="last group"):
        parse("-".join([*groups[:-1], "".join(letters)]))


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_any_text(data):
    with pytest.raises(Rejected):
        parse_recovery_key(Secret(data))


@given(st.text(recovery._ALPHABET + "- \nouil", min_size=60, max_size=95))
def test_any_text_that_looks_like_a_key(text):
    assert not is_recovery_key(Secret(text))


@given(st.integers(0, 88), st.characters())
def test_a_character_of_any_kind_in_any_place(place, letter):
    try:
        parsed = parse(TEXT[:place] + letter + TEXT[place + 1 :])
    except Rejected:
        return
    assert parsed == KEY


def test_nothing_of_it_is_shown():
    shown = f"{KEY} {KEY!r} {[KEY]}"
    assert PUBLIC in shown
    assert KEY.private.reveal().hex() not in shown
    assert TEXT not in shown
    assert str(KEY.to_text()) == "<secret>"


# --- the sheet ---

FACTS = SheetFacts(
    repository_id="5f0c1d52-8b1e-4f1c-9d7a-0a2b3c4d5e6f",
    location="s3:https://objects.example.com/" + "a-long-name/" * 12,
    fingerprint="0123456789abcdef",
    made_at=datetime(2026, 1, 31, 12, 0, tzinfo=UTC),
    label="safe, \x1b[31msecond floor",
)


def test_the_sheet_is_one_page_of_plain_lines():
    text = recovery_sheet(KEY, FACTS).reveal().decode()
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 62
    assert text.isascii()
    assert all(line.isprintable() for line in lines)


def test_the_sheet_says_all_that_is_needed():
    text = recovery_sheet(KEY, FACTS).reveal().decode()
    for part in (FACTS.repository_id, FACTS.fingerprint, "2026-01-31 12:00 UTC", PUBLIC):
        assert part in text
    assert FACTS.location in re.sub(r"\n {14}", "", text)
    for command in (
        "    sendense repo info -r URL --recovery-key-file FILE\n",
        "    sendense repo key add-passphrase -r URL --recovery-key-file FILE\n",
    ):
        assert command in text
    assert "docs/format.md" in text


def test_the_whole_sheet_is_read_as_its_key():
    assert parse_recovery_key(recovery_sheet(KEY, FACTS)) == KEY


def test_the_sheet_is_a_secret():
    assert TEXT[:5] not in repr(recovery_sheet(KEY, FACTS))


def test_the_key_can_be_read_by_the_sheet_alone():
    """What the sheet says under "without the program", done by hand."""
    letters = TEXT.replace("-", "").replace("\n", "")
    kept = "".join(letter for place, letter in enumerate(letters) if place % 5 != 4)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    bits = "".join(f"{alphabet.index(letter):05b}" for letter in kept)
    content = bytes(int(bits[at : at + 8], 2) for at in range(0, 296, 8))
    assert content[0] == 1
    assert content[1:33] == KEY.private.reveal()
    assert bits[296:] == "0000"
