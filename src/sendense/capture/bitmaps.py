"""The dirty bitmaps of a running domain, as QEMU itself knows them.

libvirt has no call that shows a bitmap's state, so this module asks QEMU's
monitor (``query-named-block-nodes``, QMP reference).  libvirt marks a domain
that was asked so as *tainted*, a note in its log without any effect.  Nodes are
found by the path of their file: node names change with every snapshot or
attachment (libvirt.md F3.2).  Nodes that a backup job inserts are named
``#block...`` and are never images of a disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

import libvirt_qemu

from sendense.capture.images import plain_path
from sendense.errors import SendenseError
from sendense.model.survey import Bitmap, is_own


@dataclass(frozen=True)
class ImageNode:
    """One image that QEMU has open, by its format node."""

    node: str
    path: str
    format: str
    cluster_size: Optional[int]
    virtual_size: int
    read_only: bool
    """Whether QEMU has it open for reading only: a backing file; its bitmaps cannot be changed."""
    memory_snapshots: bool
    """Whether the image holds internal snapshots."""
    bitmaps: tuple[Bitmap, ...]


def query_images(domain: Any) -> dict[str, ImageNode]:
    """List the images that QEMU has open, by path."""
    nodes = _command(domain, "query-named-block-nodes", {"flat": True})
    images: dict[str, ImageNode] = {}
    for node in nodes:
        if node["drv"] in ("file", "host_device") or node["node-name"].startswith("#"):
            continue
        if node["drv"] in ("copy-before-write", "snapshot-access", "throttle"):
            continue
        image = _image(node)
        images[image.path] = image
    return images


def _image(node: dict[str, Any]) -> ImageNode:
    image = node.get("image", {})
    return ImageNode(
        node=node["node-name"],
        path=plain_path(node.get("file", "")),
        format=node["drv"],
        cluster_size=image.get("cluster-size"),
        virtual_size=int(image.get("virtual-size", 0)),
        read_only=bool(node.get("ro")),
        memory_snapshots=bool(image.get("snapshots")),
        bitmaps=tuple(_bitmaps(node.get("dirty-bitmaps", []))),
    )


def _bitmaps(entries: Iterable[dict[str, Any]]) -> Iterable[Bitmap]:
    for entry in entries:
        if not entry.get("name"):
            continue  # unnamed ones belong to running jobs
        yield Bitmap(
            name=entry["name"],
            granularity=int(entry["granularity"]),
            dirty_bytes=int(entry["count"]),
            recording=bool(entry["recording"]),
            persistent=bool(entry["persistent"]),
            inconsistent=bool(entry.get("inconsistent", False)),
        )


def add_bitmap(domain: Any, node: str, name: str, *, granularity: int) -> None:
    """Add a persistent, recording bitmap of our own."""
    _command(
        domain,
        "block-dirty-bitmap-add",
        {"node": node, "name": name, "persistent": True, "granularity": granularity},
    )


def remove_bitmap(domain: Any, node: str, name: str) -> None:
    """Remove a bitmap of our own; anything else is refused."""
    if not is_own(name):
        raise ValueError(f"bitmap {name!r} is not ours to remove")
    _command(domain, "block-dirty-bitmap-remove", {"node": node, "name": name})


def _command(domain: Any, command: str, arguments: dict[str, Any]) -> Any:
    """Run one monitor command; QEMU's refusals come as :class:`SendenseError`."""
    request = json.dumps({"execute": command, "arguments": arguments})
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, request, 0))
    if "error" in answer:
        # libvirt hands QMP errors through as answers of a raw monitor command.
        raise SendenseError(f"QEMU refuses {command}: {answer['error'].get('desc')}")
    return answer["return"]
