"""What ``qemu-img`` knows about an image, and what it may do to one that is off.

QEMU locks the *files* it has open, so that a second writer cannot destroy them.
The lock is visible on every host that shares the storage (where that carries
locks), which makes it the best answer to "is this machine really off?": opening
the image without ``--force-share`` fails while anybody has it open for writing
(libvirt.md F4.4).  Of a block device it locks the *node* in ``/dev`` (measured:
``qemu-img info -f qcow2`` of a loop device fails beside a writable ``qemu-nbd``
on the same node, and succeeds by another node of the same device).  So there the
lock says nothing of whoever opened the volume by another node, be it on another
host, or a guest of this one, to which libvirt gives a ``/dev`` of its own.

The format is always given, never probed: a guest can write the header of
another format into its raw disk and so make a prober open any file of the host
as its backing file.

A tool that hangs on dead storage sits in the kernel and cannot even be killed.
:func:`run_tool` gives up on it after a time-out, and leaves it behind.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from sendense.errors import (
    Busy,
    Damaged,
    NotAllowed,
    NotFound,
    OutOfSpace,
    Rejected,
    SendenseError,
    Stalled,
    Unsupported,
)
from sendense.model.survey import Bitmap, is_own

log = logging.getLogger(__name__)

_QCOW2 = b"QFI\xfb"
_TIMEOUT_S = 30.0
"""Metadata only: 7 ms where it was measured; storage that needs longer than this is ill."""

_FAILURES: tuple[tuple[str, type[SendenseError], Optional[str]], ...] = (
    (
        "Is another process using the image",
        Busy,
        "a machine that uses it runs, here or on another host, or a tool has it open",
    ),
    ("Permission denied", NotAllowed, "run as root, or as the user that owns the image"),
    ("Operation not permitted", NotAllowed, "run as root, or as the user that owns the image"),
    ("No such file or directory", NotFound, "is the storage pool mounted on this host?"),
    ("No space left on device", OutOfSpace, "free space on the storage of the image"),
    ("Disk quota exceeded", OutOfSpace, "free space on the storage of the image"),
    ("Input/output error", Damaged, "look at the host's storage: 'dmesg' names the device"),
    ("not in qcow2 format", Damaged, "the machine's XML calls it qcow2; look at it"),
    ("is inconsistent and cannot be used", Damaged, None),
    ("is corrupt", Damaged, "'qemu-img check' tells more"),
)


@dataclass(frozen=True)
class ImageFacts:
    """One image of a chain, by its metadata."""

    path: str
    format: str
    size: int
    """Virtual size in bytes."""
    allocated_bytes: int
    backing: Optional[str]
    bitmaps: tuple[Bitmap, ...]
    """As saved; of an image that is in use, QEMU knows better."""
    snapshots: tuple[str, ...]
    """Internal snapshots; one of a machine's disks also holds the memory."""


def run_tool(command: Sequence[str], *, timeout_s: float = _TIMEOUT_S) -> tuple[int, str, str]:
    """Run a tool of the host; gives its exit code, output and complaint.

    Raises :class:`Stalled` after ``timeout_s``, without waiting for the tool to die.
    """
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Complaints are told apart by their English words.
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise NotFound(
            f"the program {command[0]} is not installed",
            hint="install qemu-utils (Debian, Ubuntu) or qemu-img (RHEL)",
        ) from error
    try:
        output, complaint = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        process.kill()
        # Not `wait`: a process in the kernel's D state ends when its storage answers, or never.
        threading.Thread(target=process.communicate, name="left-behind", daemon=True).start()
        raise Stalled(
            f"{command[0]} did not answer within {timeout_s:.0f} s",
            hint="the storage may hang: look for processes in state D",
            command=" ".join(command),
        ) from error
    return process.returncode, output.decode(errors="replace"), complaint.decode(errors="replace")


def image_chain(
    path: str, image_format: str, *, shared: bool = False, timeout_s: float = _TIMEOUT_S
) -> tuple[ImageFacts, ...]:
    """Read the metadata of an image and its backing files, top first.

    ``shared`` reads past the lock of a running machine: what it gives may be
    half-written and is for information, never for a decision.
    """
    command = ["qemu-img", "info", "--output=json", "--backing-chain", "-f", image_format]
    command += ["-U"] if shared else []
    output = _qemu_img([*command, "--", path], path=path, timeout_s=timeout_s)
    try:
        return tuple(_facts(entry) for entry in json.loads(output))
    except (ValueError, KeyError, TypeError) as error:
        raise SendenseError(f"qemu-img gave no usable answer about {path}") from error


def ensure_unused(path: str, image_format: str, *, timeout_s: float = _TIMEOUT_S) -> None:
    """Raise :class:`Busy` while anybody, on any host that shares its locks, writes the image.

    A raw image may be *read* beside its writer, so for raw the lock shows only to who
    asks to write as well (measured: ``qemu-img info -f raw`` succeeds beside a running
    QEMU).  Asking changes nothing.
    """
    command = ["qemu-img", "info", "--output=json", "-f", image_format, "--", path]
    _qemu_img(command, path=path, timeout_s=timeout_s)
    if image_format == "raw":
        _qemu_img(["qemu-io", "-f", "raw", "-c", "quit", "--", path], path=path)


def ensure_is_raw(path: str) -> None:
    """Refuse an image that is named as raw, and has the header of a QCOW2 image.

    Whoever named it takes it for something else than it is: its header and tables would be read, or
    written over, as if they were the disk.
    """
    try:
        with Path(path).open("rb") as file:
            begins = file.read(len(_QCOW2))
    except OSError as error:
        log.debug("%s is left to qemu-img, which says what is wrong: %s", path, error)
        return
    if begins == _QCOW2:
        raise Rejected(
            f"{path} was named as raw, and begins as a qcow2 image does",
            hint="look at the volume with 'qemu-img info'",
        )


def add_bitmap(path: str, name: str, *, granularity: int) -> None:
    """Add a persistent bitmap, which records from the next opening on, also by QEMU."""
    size = str(granularity)
    command = ["qemu-img", "bitmap", "--add", "-g", size, "-f", "qcow2", "--", path, name]
    _qemu_img(command, path=path)


def remove_bitmap(path: str, name: str) -> None:
    """Remove a bitmap of ours; works on an inconsistent one too (libvirt.md F2.6)."""
    if not is_own(name):
        raise ValueError(f"bitmap {name!r} is not ours to remove")
    command = ["qemu-img", "bitmap", "--remove", "-f", "qcow2", "--", path, name]
    _qemu_img(command, path=path)


def remove_bitmap_if_idle(path: str, name: str) -> bool:
    """Remove a bitmap of ours, if it is there; raises :class:`Busy` where the image is in use.

    Gives whether there was one.
    """
    try:
        top = image_chain(path, "qcow2")[0]
    except NotFound:
        return False
    if all(bitmap.name != name for bitmap in top.bitmaps):
        return False
    remove_bitmap(path, name)
    return True


def bitmaps_supported() -> bool:
    """Tell whether this host's qemu-img can add bitmaps to images that are off (QEMU 5.1)."""
    if shutil.which("qemu-img") is None:
        return False
    return " bitmap " in run_tool(["qemu-img", "--help"])[1]


def plain_path(name: str) -> str:
    """Give the path inside QEMU's name of an image.

    QEMU names an image ``json:{...}`` where its options say more than its own
    header.  Measured with QEMU 7.2: any image whose header names its backing
    file relatively, since libvirt opens that file by its full path.
    """
    if not name.startswith("json:"):
        return name
    try:
        options = json.loads(name[len("json:") :])
        while "filename" not in options:
            options = options["file"]
        return str(options["filename"])
    except (ValueError, KeyError, TypeError):
        return name


def block_device_size(path: str) -> int:
    """Give the bytes of a block device (or a file): where its end is."""
    try:
        with Path(path).open("rb") as device:
            return device.seek(0, os.SEEK_END)
    except FileNotFoundError as error:
        raise NotFound(f"there is no device {path}") from error
    except PermissionError as error:
        raise NotAllowed(f"the device {path} may not be read", hint="run as root") from error


def _qemu_img(command: Sequence[str], *, path: str, timeout_s: float = _TIMEOUT_S) -> str:
    status, output, complaint = run_tool(command, timeout_s=timeout_s)
    if status != 0:
        raise failure_of(complaint.strip() or output.strip(), path)
    return output


def failure_of(complaint: str, path: str) -> SendenseError:
    """Give the error for a complaint of a QEMU tool; of several lines the first says it."""
    said = complaint.partition("\n")[0].partition(": ")[2] or complaint
    for words, kind, hint in _FAILURES:
        if words in complaint:
            what = f"the image {path} is in use" if kind is Busy else f"the image {path}"
            return kind(f"{what}: {said}", hint=hint, path=path)
    if "Is a directory" in complaint or "regular file" in complaint:
        return Unsupported(f"{path} is neither a file nor a block device: {said}", path=path)
    return SendenseError(f"the image {path}: {said}", path=path)


def _facts(entry: dict[str, Any]) -> ImageFacts:
    specific = entry.get("format-specific", {}).get("data", {})
    return ImageFacts(
        path=plain_path(str(entry["filename"])),
        format=str(entry["format"]),
        size=int(entry["virtual-size"]),
        allocated_bytes=int(entry.get("actual-size", 0)),
        backing=entry.get("full-backing-filename", entry.get("backing-filename")),
        bitmaps=tuple(_bitmap(item) for item in specific.get("bitmaps", ())),
        snapshots=tuple(str(item["name"]) for item in entry.get("snapshots", ())),
    )


def _bitmap(entry: dict[str, Any]) -> Bitmap:
    flags = entry["flags"]
    return Bitmap(
        name=str(entry["name"]),
        granularity=int(entry["granularity"]),
        # qemu-img does not count.
        dirty_bytes=0,
        recording="auto" in flags and "in-use" not in flags,
        persistent=True,
        inconsistent="in-use" in flags,
    )
