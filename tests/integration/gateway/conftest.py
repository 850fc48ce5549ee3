"""Folders short enough for unix sockets, and disks with content."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.integration.gateway.site import MIB, content_of, image_of


@pytest.fixture
def place():
    """Give a folder of its own with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="sg-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def disk(place):
    """Give a QCOW2 image and its content."""
    content = content_of(random.Random(7), 24 * MIB + 512)
    return image_of(place, content), content
