"""Who somebody of a cloud is here."""

from __future__ import annotations

from dataclasses import replace

from sendense.model.cloud import Owner
from sendense.model.cloud_check import CloudIdentity
from sendense.model.cloud_user import user_name

ANN = CloudIdentity("c1", "ann", Owner("d1", "ROOT/acme", "ann"), account_id="a1")


def test_a_name_is_of_one_account_alone():
    others = [
        replace(ANN, cloud_id="c2"),
        replace(ANN, owner=Owner("d2", "ROOT/acme", "ann")),
        replace(ANN, account_id="a2"),
        replace(ANN, account_id=""),
        replace(ANN, owner=Owner("d1", "ROOT/acme", "a1"), account_id=""),
        replace(ANN, owner=Owner("d1", "ROOT/acme", "/ann"), account_id=""),
        replace(ANN, owner=Owner("d1", "ROOT/acme", "a" * 300), account_id=""),
        replace(ANN, owner=Owner("d1", "ROOT/acme", "a" * 301), account_id=""),
        replace(ANN, cloud_id="c1:d1", owner=Owner("", "", "ann")),
    ]
    names = {user_name(each) for each in (ANN, *others)}
    assert len(names) == 1 + len(others)
    assert max(len(name) for name in names) <= 255


def test_a_name_stays_whatever_things_are_called():
    renamed = replace(ANN, owner=Owner("d1", "ROOT/other", "zoe"), user="zoe")
    assert user_name(renamed) == user_name(ANN)
