"""A file that may not be read now is no damage: damage is remembered, and forces a full."""

from __future__ import annotations

import errno
import os

import pytest

from sendense.errors import Damaged, NotAllowed, Unavailable
from sendense.formats.refused import unreadable


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, NotAllowed),
        (errno.EPERM, NotAllowed),
        (errno.ESTALE, Unavailable),
        (errno.EMFILE, Unavailable),
        (errno.EIO, Damaged),
        (errno.EISDIR, Damaged),
    ],
)
def test_each_refusal_has_its_kind(number, kind):
    error = unreadable("the map x", OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert error.message == f"the map x cannot be read: {os.strerror(number)}"
