"""What is handed to the server arrives, and nothing of it is left."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from sendense.errors import Rejected
from sendense.model.secret import Secret
from sendense.repository.opening import NO_ACCESS, Access
from sendense.serving.handover import Handover, secret_for

HANDOVER = Handover(
    url="s3://bucket/backup",
    point="p1",
    disks=("serial:a", "serial:b"),
    folder=Path("/run/x"),
    overlay_dir=Path("/var/tmp"),
    cache=Path("/var/cache/sendense"),
    secret=Secret(b"\xff\0pass"),
    credentials={"access_key_id": Secret("key")},
    attempts=3,
    patience_s=10.0,
    download_limit=1000,
    ready_fd=5,
    log_fd=6,
    log_level=20,
    syslog=False,
    detached=True,
)
BARE = dataclasses.replace(
    HANDOVER, overlay_dir=None, cache=None, secret=None, credentials={}, download_limit=0
)


@pytest.mark.parametrize("handover", [HANDOVER, BARE], ids=["all", "bare"])
def test_what_is_laid_down_is_taken_up(handover):
    fd = handover.lay_down()
    assert not os.get_inheritable(fd)
    assert Handover.take_up(fd) == handover
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_it_shows_no_secret():
    assert "pass" not in repr(HANDOVER)
    assert "key'" not in repr(HANDOVER).replace("access_key_id'", "")


def test_the_repository_is_opened_as_the_command_would():
    access = HANDOVER.access()
    assert access.secret(False) == HANDOVER.secret
    assert (access.cache, access.credentials) == (HANDOVER.cache, HANDOVER.credentials)
    assert (access.store.attempts, access.store.patience_s) == (3, 10.0)
    with pytest.raises(Rejected):
        BARE.access().secret(False)


def test_a_chain_asks_for_no_secret():
    assert secret_for("qcow2:/srv/backup", NO_ACCESS) is None
    assert secret_for("dedup:/srv/x", Access(secret=lambda _new: Secret("a"))) == Secret("a")
