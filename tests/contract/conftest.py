"""Every implementation of each seam.  Folders lie in memory: a commit syncs a dozen files."""

from __future__ import annotations

import pytest

from sendense.repository.opening import RepositorySettings, create_repository
from tests.support.memory_folder import memory_folder
from tests.support.memory_repository import MemoryRepository


@pytest.fixture
def tmp_path():
    with memory_folder() as folder:
        yield folder


@pytest.fixture(params=["plain", "compressed", "memory"])
def repository(request, tmp_path):
    if request.param == "memory":
        return MemoryRepository()
    level = 1 if request.param == "compressed" else None
    return create_repository(
        f"qcow2:{tmp_path / 'repository'}", RepositorySettings(compression_level=level)
    )
