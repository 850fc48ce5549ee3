"""Other builds of the agent: a later one, and one that does not start."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace

from sendense.fleet.bundle import Bundle, build_bundle


def later() -> Bundle:
    """A build that differs in its name only."""
    return _rebuilt("9.9.9-0123456789ab", lambda _name, data: data)


def broken() -> Bundle:
    """A build that takes its settings and then ends."""

    def spoil(name: str, data: bytes) -> bytes:
        if not name.endswith("agent/daemon.py"):
            return data
        begin = b"def run(self) -> None:"
        assert begin in data
        return data.replace(begin, begin + b"\n        1/0")

    return _rebuilt("0.0.1-broken", spoil)


def _rebuilt(name: str, change: Callable[[str, bytes], bytes]) -> Bundle:
    source = build_bundle()
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(source.data)) as before,
        tarfile.open(fileobj=made, mode="w") as after,
    ):
        for member in before:
            content = before.extractfile(member)
            assert content is not None
            data = change(member.name, content.read())
            member.name = member.name.replace(source.name, name)
            member.size = len(data)
            after.addfile(member, io.BytesIO(data))
    return replace(source, name=name, data=gzip.compress(made.getvalue()))
