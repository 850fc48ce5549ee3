"""Filling packs and uploading them, beside the work that makes their records.

Many threads add records.  Each gets its place in the open pack under the lock, and
encrypts straight into it outside.  A pack that is full is closed; when the last of its
records is in, its directory is added and it goes to an upload thread.  The number of
buffers bounds memory: with all of them on their way, adding waits.

An index object is put for every so many packs, every so many minutes, and at the end however
that comes.  So the next run finds what one that did not come through had uploaded already.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field

from sendense import clock, steps
from sendense.errors import Cancelled, SendenseError, Unavailable
from sendense.model.stream import Buffer
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.buffers import BufferPool
from sendense.repository.dedup.entries import Entry, PackHead, PackRecord
from sendense.repository.dedup.format import PackKind
from sendense.repository.dedup.indexing import put_index
from sendense.repository.dedup.packs import PackCipher, header_bytes, new_pack_head, tail_bytes
from sendense.repository.dedup.parts import Parts
from sendense.repository.dedup.side_threads import side_threads
from sendense.storage import throttled
from sendense.storage.buffers import joined

log = logging.getLogger(__name__)

_UPLOADS = {"local": 2, "memory": 1}
_MORE_UPLOADS = 3
_INDEX_EVERY = 32
"""Packs: one GiB."""
_INDEX_EVERY_S = 600.0
"""On a slow line a GiB takes hours."""
_DIRECTORY_BASE = 64
_ENTRY_MOST = 46 + 8 * fmt.HOOKS


@dataclass(eq=False)
class _OpenPack:
    """A pack that is being filled."""

    head: PackHead
    cipher: PackCipher
    buffer: memoryview
    end: int
    entries: list[Entry] = field(default_factory=list)
    directory: int = _DIRECTORY_BASE
    """What its directory will take, at most."""
    filling: int = 0
    closed: bool = False

    def room(self) -> int:
        """Give the bytes left for records."""
        return len(self.buffer) - self.end - self.directory


class PackWriter:
    """Packs of one run; :meth:`finish` makes all of it durable and findable."""

    def __init__(self, parts: Parts, check: Callable[[], None] = lambda: None) -> None:
        """Write with ``parts``; ``check`` is asked while waiting and may raise."""
        self._parts = parts
        self._check = check
        uploads = _UPLOADS.get(parts.store.traits.kind, _MORE_UPLOADS)
        # The client of a bucket takes a copy of what it sends; then the buffer serves again.
        self._copied = parts.store.traits.kind not in _UPLOADS
        self._buffers = {
            PackKind.DATA: BufferPool(fmt.PACK_BYTES, 2 if self._copied else uploads + 1),
            PackKind.META: BufferPool(fmt.PACK_BYTES, 1),
        }
        self._pool = side_threads(uploads, "upload")
        self._lock = threading.Lock()
        self._beginning = threading.Lock()
        self._open: dict[PackKind, _OpenPack] = {}
        self._pending: set[bytes] = set()
        """Ids in packs that are not in the index yet."""
        self._unindexed: list[PackRecord] = []
        self._indexed_at = clock.monotonic()
        self._uploads: list[Future[None]] = []
        self._failure: BaseException | None = None
        self.records: list[PackHead] = []
        """Packs that are durable."""
        self.stored_bytes = 0

    def known(self, ids: list[bytes]) -> set[bytes]:
        """Give those that are stored already, or on their way."""
        with self._lock:
            own = {item for item in ids if item in self._pending}
        rest = [item for item in ids if item not in own]
        return own | self._parts.index.stored(rest) if rest else own

    def add(
        self,
        kind: PackKind,
        record: bytes,
        data: Buffer,
        *,
        length: int,
        compressed: bool,
        hooks: tuple[int, ...] = (),
    ) -> int:
        """Store one record unless it is on its way already; gives the bytes it takes.

        ``length`` is that of the plaintext, before compression.
        """
        stored = len(data) + fmt.TAG_BYTES
        with self._lock:
            if record in self._pending:
                return 0
            self._pending.add(record)
        try:
            pack, offset = self._reserve(kind, stored)
            entry = Entry(record, offset, stored, length, compressed, hooks)
            self._fill(pack, entry, data)
        except BaseException as error:
            # Others may refer to it already.
            self._fail(error)
            raise
        return stored

    def _fill(self, pack: _OpenPack, entry: Entry, data: Buffer) -> None:
        """Put a record into its place, and into the directory once it is there."""
        filled: list[Entry] = []
        try:
            pack.cipher.encrypt_into(entry, data, pack.buffer)
            filled.append(entry)
        finally:
            self._filled(pack, filled)

    def _reserve(self, kind: PackKind, stored: int) -> tuple[_OpenPack, int]:
        """Give an open pack, and the offset of the room in it that is the caller's now."""
        while True:
            with self._lock:
                self._raise_failure()
                pack = self._open.get(kind)
                if pack is not None:
                    if pack.room() >= stored + _ENTRY_MOST:
                        pack.end += stored
                        pack.directory += _ENTRY_MOST
                        pack.filling += 1
                        return pack, pack.end - stored
                    del self._open[kind]
                    self._close(pack)
            self._begin(kind)

    def _begin(self, kind: PackKind) -> None:
        """Open a pack, unless another thread was faster."""
        pool = self._buffers[kind]
        with self._beginning:
            with self._lock:
                if kind in self._open:
                    return
            buffer = pool.take(self.look)
            head = new_pack_head(kind, self._parts.ring.newest_epoch)
            header = header_bytes(head)
            buffer[: len(header)] = header
            cipher = PackCipher(self._parts.ring, head)
            with self._lock:
                self._open[kind] = _OpenPack(head, cipher, buffer, len(header))

    def _filled(self, pack: _OpenPack, entries: list[Entry]) -> None:
        with self._lock:
            pack.entries += entries
            pack.filling -= 1
            if pack.closed and not pack.filling:
                self._submit(pack)

    def _close(self, pack: _OpenPack) -> None:
        """Take no more records; called with the lock held."""
        pack.closed = True
        if not pack.filling:
            self._submit(pack)

    def _submit(self, pack: _OpenPack) -> None:
        self._uploads = [item for item in self._uploads if not item.done()]
        self._uploads.append(self._pool.submit(copy_context().run, self._upload, pack))

    def _upload(self, pack: _OpenPack) -> None:
        """Put a pack; what fails is raised where the next record is added, and in the end."""
        try:
            self._note(self._put(pack))
        except BaseException as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """Let nothing more be added, nor the run be finished."""
        with self._lock:
            self._failure = self._failure or error

    def _note(self, record: PackRecord) -> None:
        """Make a pack that is durable known, here and, when it is time, to all."""
        self._parts.index.add_own(record)
        with self._lock:
            self._pending.difference_update(entry.id for entry in record.entries)
            self._unindexed.append(record)
            self.records.append(record.head)
            self.stored_bytes += record.size
            late = clock.monotonic() - self._indexed_at >= _INDEX_EVERY_S
            due = late or len(self._unindexed) >= _INDEX_EVERY
        if due:
            self._put_index()

    def _put(self, pack: _OpenPack) -> PackRecord:
        with ExitStack() as until_sent:
            until_sent.callback(self._buffers[pack.head.kind].give, pack.buffer)
            pack.entries.sort(key=lambda entry: entry.offset)
            tail = tail_bytes(pack.cipher, pack.entries)
            content: Buffer | Sequence[Buffer] = [pack.buffer[: pack.end], tail]
            if self._copied:
                content = joined(content)
                until_sent.close()
            # Its context is this upload's own.
            throttled.GIVING_UP.set(self.look)
            self._parts.store.put(pack.head.name, content)
        steps.reached("dedup:pack-stored")
        return PackRecord(pack.head, pack.end + len(tail), tuple(pack.entries))

    def _put_index(self) -> None:
        with self._lock:
            records, self._unindexed = self._unindexed, []
            self._indexed_at = clock.monotonic()
        if not records:
            return
        try:
            name = put_index(self._parts, records)
        except BaseException:
            with self._lock:
                self._unindexed = records + self._unindexed
            raise
        steps.reached("dedup:index-stored")
        self._parts.index.apply([(name, records)], [])

    def look(self) -> None:
        """Raise where the run must end; for all who wait on its behalf."""
        self._check()
        with self._lock:
            self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Upload what is open, and wait until all of it is durable and indexed."""
        with self._lock:
            for pack in self._open.values():
                self._close(pack)
            self._open.clear()
            uploads = list(self._uploads)
        for upload in uploads:
            while not _done(upload):
                self._check()
        for upload in self._uploads:
            upload.result()
        self.look()
        self._put_index()

    def give_up(self) -> None:
        """Have all that wait stop: nothing more is added, nor uploaded but what is on its way."""
        self._fail(Cancelled("the run was given up"))

    def close(self) -> None:
        """End the threads.

        What is durable is named, so that the next run finds it.  What is not named, or not
        durable, is left to the garbage collection, and nothing may refer to it.
        """
        self._pool.shutdown(wait=True, cancel_futures=True)
        for buffers in self._buffers.values():
            buffers.close()
        try:
            if self._unindexed and not isinstance(self._failure, Unavailable):
                self._check()
                self._put_index()
        except SendenseError as error:
            log.warning("what was uploaded is not found again by the next run: %s", error)
        finally:
            self._parts.index.forget_own([record.head.id for record in self._unindexed])


def _done(upload: Future[None]) -> bool:
    try:
        upload.exception(timeout=1.0)
    except TimeoutError:
        return False
    return True
