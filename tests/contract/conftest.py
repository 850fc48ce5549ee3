"""Every implementation of each seam.  Folders lie in memory: a commit syncs a dozen files."""

from __future__ import annotations

import secrets

import pytest

from sendense.repository.opening import RepositorySettings, create_repository
from sendense.storage.urls import open_store
from tests.support.dedup import dedup_repository
from tests.support.memory_folder import memory_folder
from tests.support.memory_repository import MemoryRepository
from tests.support.s3_servers import CREDENTIALS, rclone_server


@pytest.fixture
def tmp_path():
    with memory_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def s3():
    with rclone_server() as server:
        yield server


@pytest.fixture(params=["plain", "compressed", "memory", "dedup", "dedup-compressed", "dedup-s3"])
def repository(request, tmp_path):
    level = 1 if request.param.endswith("compressed") else None
    if request.param == "memory":
        yield MemoryRepository()
    elif request.param == "dedup":
        made = dedup_repository(open_store(f"memory:{secrets.token_hex(4)}"))
        yield made
        made.close()
    elif request.param == "dedup-s3":
        server, bucket = request.getfixturevalue("s3"), f"contract-{secrets.token_hex(4)}"
        server.make_bucket(bucket)
        made = dedup_repository(open_store(server.url(bucket, "a/prefix"), CREDENTIALS))
        yield made
        made.close()
    elif request.param == "dedup-compressed":
        made = dedup_repository(
            open_store(str(tmp_path / "repository")), level=level, cache=tmp_path / "cache"
        )
        yield made
        made.close()
    else:
        yield create_repository(
            f"qcow2:{tmp_path / 'repository'}", RepositorySettings(compression_level=level)
        )
