"""The two things that ``qemu-img`` does here: commit a layer downwards, check an image.

Both run as children with explicit formats, so that no image is ever probed.  A check
opens one file alone.  A commit follows the backing names in the headers, which the
caller has held against the manifests right before.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from sendense import clock
from sendense.errors import Busy, Damaged, OutOfSpace, Unsupported
from sendense.model.progress import Progress, ProgressListener
from sendense.repository.chain.locks import Lock

PROGRAM = "qemu-img"
_PERCENT = re.compile(rb"\(\s*([0-9.]+)/100%\)")
_LEAKS_ONLY = 3


def commit(upper: Path, lower: Path, *, lock: Lock, progress: ProgressListener) -> None:
    """Write what ``upper`` states into its backing file ``lower``; ``upper`` stays as it is.

    The child inherits the machine's lock: should we be killed, nobody else touches
    these files until it has ended.
    """
    # A commit that was killed may have left clusters that nothing uses.
    _run([PROGRAM, "check", "-q", "-r", "leaks", _alone(lower)], lock, accept={0, 3})
    total = upper.stat().st_size
    started = clock.monotonic()
    command = [PROGRAM, "commit", "-p", "-d", "-f", "qcow2", str(upper)]
    with _start(command, lock) as process:
        pipe = process.stdout
        while pipe is not None and (text := os.read(pipe.fileno(), 4096)):
            for found in _PERCENT.findall(text)[-1:]:
                done = int(total * float(found) / 100)
                elapsed = clock.monotonic() - started
                progress(Progress("merge", upper.stem, done, total, elapsed))
        message = process.stderr.read() if process.stderr is not None else b""
    _judge(command, process.returncode, message)


def check(path: Path) -> str | None:
    """Check an image's metadata; give what is wrong with it."""
    command = [PROGRAM, "check", "-U", "--output=json", _alone(path)]
    try:
        result = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise _missing() from error
    if result.returncode in (0, _LEAKS_ONLY):
        return None
    try:
        told = json.loads(result.stdout)
        return f"{told.get('corruptions', 0)} corruptions, {told.get('check-errors', 0)} errors"
    except ValueError:
        return result.stderr.decode(errors="replace").strip()[-300:] or "it cannot be checked"


def _run(command: list[str], lock: Lock, *, accept: set[int]) -> None:
    with _start(command, lock) as process:
        _, message = process.communicate()
    if process.returncode not in accept:
        _judge(command, process.returncode, message)


def _start(command: list[str], lock: Lock) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(lock.fd,),
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)},
        )
    except FileNotFoundError as error:
        raise _missing() from error


def _judge(command: list[str], status: int, message: bytes) -> None:
    """Turn a failure into the error that tells what to do."""
    if status == 0:
        return
    text = message.decode(errors="replace").strip()[-500:]
    if "No space left" in text or "Disk quota" in text or "File too large" in text:
        raise OutOfSpace(
            "the repository has no room left to merge two points",
            hint="free space there; the next backup or deletion goes on with it",
        )
    if '"write" lock' in text or "lock" in text.lower():
        raise Busy(f"another program has an image of the repository open: {text}")
    raise Damaged(f"{command[0]} {command[1]} failed on {command[-1]}: {text}", file=command[-1])


def _alone(path: Path) -> str:
    """Name an image so that QEMU opens it without its backing file."""
    node = {
        "driver": "qcow2",
        "backing": None,
        "file": {"driver": "file", "filename": str(path)},
    }
    return f"json:{json.dumps(node)}"


def _missing() -> Unsupported:
    return Unsupported(
        f"{PROGRAM} is not installed here", hint="install the package qemu-utils (or qemu-img)"
    )
