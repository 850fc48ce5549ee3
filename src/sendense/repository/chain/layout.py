"""Where everything is in a QCOW2 chain repository: the names of its files.

::

    sendense-repository.json            what this directory is
    machines/<machine uuid>/
        .lock .readers .holding         who works here (flock)
        .machine.json                   the highest sequence ever given out
        .catalog.json                   a cache of the manifests; may be deleted
        .merge.json                     a merge under way; finished by the next who comes
        .partial-<point id>/            a point under way; swept by the next writer
        .trash-<point id>/              a deleted point; swept by the next writer
        <point id>/
            manifest.json               makes the point visible
            manifest.deleted            instead of it: a point that is being deleted
            damaged.json                what a verification found wrong
            holds.json                  what keeps the point from deletion
            <target>.qcow2 <target>.map one pair for each disk
            domain.xml nvram.fd ...     attachments

An image names its parent as ``../<parent point id>/<target>.qcow2``: the directory
can be moved as a whole, and any point opens with plain QEMU tools.
"""

from __future__ import annotations

from pathlib import Path

from sendense.errors import Rejected
from sendense.model.point import DiskImage
from sendense.repository.names import check_name

REPOSITORY = "sendense-repository.json"
MACHINES = "machines"
LOCK = ".lock"
READERS = ".readers"
HOLDING = ".holding"
MACHINE = ".machine.json"
CATALOG = ".catalog.json"
JOURNAL = ".merge.json"
PARTIAL = ".partial-"
TRASH = ".trash-"
MANIFEST = "manifest.json"
TOMBSTONE = "manifest.deleted"
DAMAGE = "damaged.json"
HOLDS = "holds.json"

_OWN_FILES = {MANIFEST, TOMBSTONE, DAMAGE, HOLDS}
_OWN_ENDINGS = (".qcow2", ".map", ".new", ".merged")


def check_attachment(name: str) -> str:
    """Give ``name`` back, or refuse it because it means a file of ours."""
    if name in _OWN_FILES or name.endswith(_OWN_ENDINGS):
        raise Rejected(f"{name!r} is no name for an attachment: the repository uses it")
    return check_name(name, "an attachment")


def image_file(target: str) -> str:
    """Give the name of a disk's layer."""
    return f"{target}.qcow2"


def map_file(target: str) -> str:
    """Give the name of a layer's block map."""
    return f"{target}.map"


def backing_name(parent_id: str, parent: DiskImage) -> str:
    """Give the name by which a layer finds its parent's."""
    return f"../{parent_id}/{image_file(parent.disk.target)}"


def machine_folder(root: Path, machine: str) -> Path:
    """Give a machine's directory."""
    return root / MACHINES / check_name(machine, "a machine")
