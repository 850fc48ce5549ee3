"""Points that are served by a real nbdkit, from repositories of each kind."""

from __future__ import annotations

import pytest

from tests.integration.serving.site import KINDS, Site
from tests.support.memory_folder import memory_folder


@pytest.fixture
def tmp_path():
    """In memory, and short: the path of a socket has 107 bytes."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture(params=KINDS)
def site(request, tmp_path):
    """A repository of each kind."""
    with Site(tmp_path, request.param) as made:
        yield made


@pytest.fixture(params=["chain", "dedup"])
def either(request, tmp_path):
    """A repository of each kind, uncompressed."""
    with Site(tmp_path, request.param) as made:
        yield made


@pytest.fixture
def dedup(tmp_path):
    """A dedup repository."""
    with Site(tmp_path, "dedup") as made:
        yield made
