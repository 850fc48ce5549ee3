"""What was used lately is held, up to a bound."""

from __future__ import annotations

from sendense.repository.dedup.recent import Recent


def test_the_least_recently_used_goes_first():
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert recent.get("b") is None
    assert (recent.get("a"), recent.get("c")) == (1, 3)
    assert (len(recent), recent.weight) == (2, 2)


def test_values_are_weighed():
    recent: Recent[str, bytes] = Recent(10, len)
    recent.put("a", bytes(4))
    recent.put("b", bytes(6))
    assert recent.weight == 10
    recent.put("c", bytes(5))
    assert (recent.get("a"), recent.get("b")) == (None, None)
    assert recent.weight == 5


def test_a_value_that_is_put_again_counts_once():
    recent: Recent[str, bytes] = Recent(10, len)
    recent.put("a", bytes(4))
    recent.put("a", bytes(8))
    assert (recent.weight, len(recent)) == (8, 1)


def test_one_that_is_too_heavy_is_held_until_the_next():
    recent: Recent[str, bytes] = Recent(10, len)
    recent.put("a", bytes(20))
    assert recent.get("a") == bytes(20)
    recent.put("b", b"b")
    assert recent.get("a") is None
    assert recent.weight == 1
