"""Objects in a directory: on a local disk, on NFS, on anything that is mounted.

It is our own because of what "durable" takes.  The local store of ``object_store``, on which
``obstore`` is built, leaves what it wrote to the page cache unless it is told to sync, and
``obstore`` 0.12 has no way to tell it; a power cut can leave an object that is empty or
full of zeroes under its final name.

An object is written beside its place under ``.tmp-<random>``, synced, and then given its name:
by a rename, or where nothing may be there yet by a hard link, which fails when the name
is taken.  Then the directory is synced, and those above it that this process has not
synced before.  A removal is synced as well: an index that comes back after its packs are gone
would make backups refer to nothing.  No file is ever locked, so NFS is as good as a disk.

The directory itself is held open.  A storage that is unmounted under our hands is an error then,
never an empty store.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from sendense import steps
from sendense.errors import Damaged, Rejected, Unavailable
from sendense.storage.buffers import Parts, views
from sendense.storage.local_files import (
    describe,
    explaining,
    make_durably,
    open_folder,
    remove_quietly,
    sync_folder,
    write_file,
)
from sendense.storage.names import check_name, check_prefix, is_name
from sendense.storage.open_files import OpenFiles
from sendense.storage.store import ObjectInfo, ObjectLocks, Store, Traits
from sendense.storage.wrapper import innermost

_TEMPORARY = ".tmp-"
_KEPT_OPEN = 16
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

TRAITS = Traits(kind="local", conditional_create=True, parallel=4, object_lock=False)


class LocalStore:
    """A directory, which the first object makes."""

    locks: ObjectLocks | None = None

    def __init__(self, root: Path) -> None:
        """Take the directory ``root``; it need not be there yet."""
        self._root = root.absolute()
        self.location = str(self._root)
        self.traits = TRAITS
        self._lock = threading.Lock()
        self._root_fd: int | None = None
        self._synced: set[str] = set()
        self._files = OpenFiles(self._open, _KEPT_OPEN)

    def __del__(self) -> None:
        """Close what is open, as files do: a server in which one is forgotten would run out."""
        self.close()

    # --- writing

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """Write an object; see :class:`~sendense.storage.store.Store`."""
        check_name(name)
        folder, _, leaf = name.rpartition("/")
        with self._explaining(name):
            folder_fd = self._writable(folder)
            try:
                temporary = _TEMPORARY + secrets.token_hex(8)
                self._put_in(folder_fd, temporary, leaf, views(parts), create=create)
            finally:
                os.close(folder_fd)
        self._files.forget(name)
        steps.reached("store:durable")

    def _put_in(
        self, folder: int, temporary: str, leaf: str, pieces: list[memoryview], *, create: bool
    ) -> None:
        try:
            write_file(folder, temporary, pieces)
            steps.reached("store:written")
            if create:
                self._link(folder, temporary, leaf)
            else:
                os.replace(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)
            steps.reached("store:named")
        except BaseException:
            remove_quietly(folder, temporary)
            raise
        if create:
            remove_quietly(folder, temporary)
        os.fsync(folder)

    def _link(self, folder: int, temporary: str, leaf: str) -> None:
        """Give a file its name if nothing has it."""
        try:
            os.link(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)
        except FileExistsError:
            # NFS repeats a call whose answer was lost, and then finds what it has done itself.
            if os.stat(temporary, dir_fd=folder).st_nlink < 2:
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename_if_free(folder, temporary, leaf)

    def _rename_if_free(self, folder: int, temporary: str, leaf: str) -> None:
        """Do so where files have one name only (exFAT, some of FUSE): among our threads."""
        with self._lock:
            try:
                os.stat(leaf, dir_fd=folder)
            except FileNotFoundError:
                os.replace(temporary, leaf, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def _writable(self, folder: str) -> int:
        """Open a folder of the store, made durably with all that lie above it."""
        if self._root_fd is None:
            with self._lock:
                make_durably(self._root)
        root = self._opened_root()
        self._make_folders(root, folder)
        try:
            return open_folder(root, folder)
        except FileNotFoundError:
            # Somebody tidied up what was empty.
            self._synced.clear()
            self._make_folders(root, folder)
            return open_folder(root, folder)

    def _make_folders(self, root: int, folder: str) -> None:
        parts = folder.split("/") if folder else []
        for above, path in pairwise("/".join(parts[:depth]) for depth in range(len(parts) + 1)):
            if path not in self._synced:
                with suppress(FileExistsError):
                    os.mkdir(path, 0o700, dir_fd=root)
                # Also where it was there: who made it may not have come to sync it.
                sync_folder(root, above)
                self._synced.add(path)

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects, durably; see :class:`~sendense.storage.store.Store`."""
        folders: dict[str, list[str]] = {}
        for name in names:
            check_name(name)
            folder, _, leaf = name.rpartition("/")
            folders.setdefault(folder, []).append(leaf)
        for folder, leaves in folders.items():
            with self._explaining(folder), suppress(FileNotFoundError, NotADirectoryError):
                self._delete_in(folder, leaves)

    def _delete_in(self, folder: str, leaves: Sequence[str]) -> None:
        fd = open_folder(self._opened_root(), folder)
        try:
            for leaf in leaves:
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(leaf, dir_fd=fd)
                self._files.forget(f"{folder}/{leaf}" if folder else leaf)
            os.fsync(fd)
        finally:
            os.close(fd)

    # --- reading

    def get(self, name: str) -> bytes:
        """Give an object whole."""
        check_name(name)
        with self._explaining(name), os.fdopen(self._open(name), "rb") as file:
            return file.read()

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range, straight into ``target``."""
        check_name(name)
        view = target.cast("B")
        with self._explaining(name):
            try:
                filled = self._fill(name, offset, view)
            except OSError as error:
                # On NFS a file that was kept open is gone once another machine replaced it.
                if error.errno != errno.ESTALE:
                    raise
                self._files.forget(name)
                filled = self._fill(name, offset, view)
        if filled < view.nbytes:
            raise Damaged(
                f"{name} ends at {offset + filled} and not after {offset + view.nbytes}",
                hint="run a check of the repository; it names the points that are affected",
                name=name,
            )

    def _fill(self, name: str, offset: int, view: memoryview) -> int:
        filled = 0
        with self._files.use(name) as fd:
            while filled < view.nbytes:
                count = os.preadv(fd, [view[filled:]], offset + filled)
                if count == 0:
                    break
                filled += count
        return filled

    def _open(self, name: str) -> int:
        fd = os.open(name, os.O_RDONLY, dir_fd=self._opened_root())
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return fd

    def info(self, name: str) -> ObjectInfo:
        """Describe an object; its time is set by the kernel, or by the NFS server."""
        check_name(name)
        with self._explaining(name):
            fd = self._open(name)
            try:
                return describe(name, os.fstat(fd))
            finally:
                os.close(fd)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects, folder by folder, each in the order of names."""
        check_prefix(prefix)
        waiting = [prefix]
        while waiting:
            folder = waiting.pop()
            with self._explaining(folder):
                objects, below = self._scan(folder)
            yield from objects
            waiting.extend(reversed(below))

    def _scan(self, folder: str) -> tuple[Sequence[ObjectInfo], Sequence[str]]:
        """Give the objects of one folder, and the folders in it."""
        try:
            fd = open_folder(self._opened_root(), folder)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        objects, below = [], []
        try:
            with os.scandir(fd) as entries:
                # What has no name for an object is the file system's, or half written.
                for entry in (entry for entry in entries if is_name(folder + entry.name)):
                    name = folder + entry.name
                    with suppress(FileNotFoundError):
                        if entry.is_dir():
                            below.append(name + "/")
                        elif entry.is_file():
                            objects.append(describe(name, entry.stat()))
        finally:
            os.close(fd)
        return sorted(objects, key=lambda info: info.name), sorted(below)

    def free_bytes(self) -> int | None:
        """Tell what is free on the file system."""
        place = self._root
        while not place.exists():
            place = place.parent
        with self._explaining(""):
            space = os.statvfs(place)
        return space.f_bavail * space.f_frsize

    # --- upkeep

    def sweep_temporary(self, older_than: timedelta) -> int:
        """Remove what killed writers left, once it is that old; give how many files.

        Age is by the clock of the file system, which on NFS is the server's.
        """
        swept = 0
        with self._explaining(""), suppress(FileNotFoundError):
            root = self._opened_root()
            limit = self._file_system_time(root) - older_than.total_seconds()
            for _, _, leaves, fd in os.fwalk(".", dir_fd=root):
                for leaf in (leaf for leaf in leaves if leaf.startswith(_TEMPORARY)):
                    with suppress(FileNotFoundError):
                        if os.stat(leaf, dir_fd=fd).st_mtime < limit:
                            os.unlink(leaf, dir_fd=fd)
                            swept += 1
        return swept

    @staticmethod
    def _file_system_time(root: int) -> float:
        """Give the time that a file gets which is written now."""
        name = _TEMPORARY + secrets.token_hex(8)
        try:
            write_file(root, name, [memoryview(b"?")])
            return os.stat(name, dir_fd=root).st_mtime
        finally:
            remove_quietly(root, name)

    def close(self) -> None:
        """Close what is open; it is opened again when it is needed."""
        self._files.close()
        with self._lock:
            if self._root_fd is not None:
                os.close(self._root_fd)
                self._root_fd = None

    def _opened_root(self) -> int:
        """Give the directory itself, opened once; FileNotFoundError where it is not there."""
        with self._lock:
            if self._root_fd is None:
                try:
                    self._root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
                except NotADirectoryError:
                    raise Rejected(
                        f"{self.location} is not a directory", hint="name a new or empty directory"
                    ) from None
            if os.fstat(self._root_fd).st_nlink == 0:
                raise Unavailable(
                    f"the directory {self.location} was removed while it was in use",
                    hint="find out what removed it; nothing can be said of its content",
                )
            return self._root_fd

    def _explaining(self, name: str) -> AbstractContextManager[None]:
        return explaining(f"{self.location}/{name}".rstrip("/"))


def sweep_temporary(store: Store, older_than: timedelta) -> int:
    """Sweep a store if it is one that needs it, whatever stands in front of it."""
    own = innermost(store)
    return own.sweep_temporary(older_than) if isinstance(own, LocalStore) else 0
