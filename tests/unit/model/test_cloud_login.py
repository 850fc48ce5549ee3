"""Whose password is tried: one user, however it is written."""

from __future__ import annotations

import pytest

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


def test_others_are_others():
    ways = [("ann", "acme"), ("ann", ""), ("anna", "acme"), ("ann", "acme/lab")]
    assert len({CloudLogin(user, PASSWORD, domain).subject for user, domain in ways}) == 4


def test_the_password_is_not_shown():
    assert "t0psecret" not in repr(CloudLogin("ann", Secret("t0psecret"), "acme"))
