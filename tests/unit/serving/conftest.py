"""The folders of these tests are short and lie in memory: the path of a socket has 107 bytes."""

from __future__ import annotations

import pytest

from tests.support.memory_folder import memory_folder


@pytest.fixture
def tmp_path():
    with memory_folder() as folder:
        yield folder
