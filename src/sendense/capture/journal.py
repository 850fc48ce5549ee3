"""What is under way on this host, on disk, so that a crash leaves no orphan.

One entry per machine: a JSON file with the facts needed to take a capture back,
and a lock file that the kernel frees when its holder dies, however it dies.
That lock is also what keeps two captures of one machine apart, and names the
holder in the *busy* error.

A fact is written *before* the act it describes: the reaper may find an act
announced that never happened, never one that happened unannounced.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from pathlib import Path
from typing import Any, Optional

from sendense import clock
from sendense.errors import Busy, NotAllowed

Facts = dict[str, Any]


class JournalEntry:
    """The claim on one machine: its lock, and the facts of what runs under it.

    For several threads: a thaw notes its end while the capture notes its steps.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Wrap an entry whose lock is held; use :func:`claim`."""
        self._path = path
        self._lock = lock
        self.facts: Facts = _read(path) or {}
        self._about: Facts = {}
        self._writing = threading.RLock()

    @property
    def stale(self) -> bool:
        """Tell whether a dead run left facts that have to be taken back first."""
        return bool(self.facts)

    def about(self, **facts: Any) -> None:
        """Note what the run is about; written with its first act, not before."""
        self._about = facts

    def update(self, **facts: Any) -> None:
        """Add facts and make them durable."""
        with self._writing:
            self.facts = {**self.facts, **self._about, **facts}
            write_durably(self._path, self.facts)

    def clear(self) -> None:
        """Forget the facts: nothing is left to take back."""
        with self._writing:
            self.facts = {}
            self._path.unlink(missing_ok=True)

    def settle(self, *, may_be_frozen: bool) -> None:
        """Forget all but a freeze that nobody could take back yet."""
        if not may_be_frozen:
            self.clear()
            return
        with self._writing:
            kept = {key: self.facts[key] for key in ("kind", "uri", "machine", "name")}
            self.facts = {**kept, "may_be_frozen": True}
            write_durably(self._path, self.facts)

    def release(self) -> None:
        """Give the machine free."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def claim(state_dir: Path, machine: str, *, operation: str, wait_s: float = 0.0) -> JournalEntry:
    """Take the claim on a machine; :class:`Busy` names who holds it.

    The facts of a dead run are in the entry that comes back: the caller must
    have them reaped before it starts.
    """
    folder = _folder(state_dir)
    lock_path = folder / f"{machine}.lock"
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = clock.monotonic() + wait_s
    while not _try_lock(lock):
        if clock.monotonic() >= deadline:
            holder = os.pread(lock, 4096, 0).decode(errors="replace").strip()
            os.close(lock)
            raise Busy(
                f"the machine is held by {holder or 'another run'}",
                hint="wait for it to end, or stop it; a lock of a dead run frees itself",
                machine=machine,
            )
        clock.sleep(0.1)
    holder = f"{operation} (process {os.getpid()} on {socket.gethostname()}, since {_now()})"
    os.ftruncate(lock, 0)
    os.pwrite(lock, holder.encode(), 0)
    return JournalEntry(folder / f"{machine}.json", lock)


def stale_machines(state_dir: Path) -> tuple[str, ...]:
    """List the machines for which facts are on disk; some may belong to living runs."""
    return tuple(sorted(path.stem for path in _folder(state_dir).glob("*.json")))


def _folder(state_dir: Path) -> Path:
    folder = state_dir / "journal"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except PermissionError as error:
        raise NotAllowed(
            f"cannot write the journal in {folder}: {error.strerror}",
            hint="run as root, or set state_dir to a folder that you own",
        ) from error
    return folder


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _now() -> str:
    return clock.now().strftime("%Y-%m-%d %H:%M:%S UTC")


def _read(path: Path) -> Optional[Facts]:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        # A torn file cannot come from us (rename is atomic); still, never trust it blindly:
        # an entry without facts tells the reaper to look at the host alone.
        return {"unreadable": True}
    return facts if isinstance(facts, dict) else {"unreadable": True}


def write_durably(path: Path, content: Facts) -> None:
    """Replace a JSON file atomically and durably."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
