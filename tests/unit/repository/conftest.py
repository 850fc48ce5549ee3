"""The folders of these tests lie in memory: each commit syncs a dozen files."""

from __future__ import annotations

import pytest

from tests.support.memory_folder import memory_folder


@pytest.fixture
def tmp_path():
    with memory_folder() as folder:
        yield folder
