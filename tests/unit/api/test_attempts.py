"""Whose failed attempts count together."""

from __future__ import annotations

import pytest

from sendense.api.attempts import Attempts
from sendense.model.secret import Secret


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("testclient", "testclient", True),
        ("", "testclient", False),
    ],
)
def test_who_has_a_whole_network_has_one_address(one, other, together):
    attempts = Attempts(allowed=1)
    attempts.failed(one)
    assert (attempts.wait_s(other, Secret("x")) > 0) is together
