"""Objects in a bucket: S3 and what speaks it, Azure Blob, Google Cloud Storage; and in memory.

``obstore`` does the work, which is Rust's ``object_store`` for Python.  What is added here:

- An object goes up in one request, not in parts: it appears at once, an upload that is given up
  leaves nothing to pay for, and a pack costs one request and not eight.
- The client's time-out for a server that sends nothing also runs while we send, so a slow
  uplink would look stalled.  Large uploads have clients of their own, which allow for the size.
- Some servers overwrite where they should say that the object exists, so ``create`` looks first.
  Whether the store itself decides between two machines is told by the traits.
- Some servers answer a request for a range in a way that the client refuses.  Then the object
  is read from its beginning, which is slow, and logged.
- The client may look at a buffer after its call has failed, or as the store in memory always.  So
  it gets a copy: 32 MiB take 2 ms.
- It never tries again: :mod:`sendense.storage.retrying` does.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import obstore
from obstore import exceptions

from sendense.errors import AlreadyExists, Damaged, NotFound, Rejected, SendenseError
from sendense.storage.buffers import Parts, joined
from sendense.storage.names import check_name, check_prefix, is_name
from sendense.storage.object_errors import (
    FAILURES,
    NO_BUCKET,
    answer_of,
    explained,
    ignored_range,
)
from sendense.storage.store import ObjectInfo, ObjectLocks, Traits
from sendense.units import MIB

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_LOG = logging.getLogger(__name__)
_PAGE = 1000
_PIECE = 4 * MIB
_SMALL = MIB

Client = Callable[[float], "ObjectStore"]
"""Makes a client that waits so many seconds for a server that sends nothing."""


class ObstoreStore:
    """A bucket, or the part of it below a prefix."""

    def __init__(
        self,
        client: Client,
        location: str,
        traits: Traits,
        *,
        stall_s: float = 60.0,
        slowest_bytes_per_s: int = 64 * 1024,
        locks: ObjectLocks | None = None,
    ) -> None:
        """Use what ``client`` makes, one for reading and small objects, one for each size above."""
        self.location = location
        self.traits = traits
        self.locks = locks
        self._make_client = client
        self._stall_s = stall_s
        self._slowest = slowest_bytes_per_s
        self._lock = threading.Lock()
        self._clients: dict[float, ObjectStore] = {}
        self._sends_condition = True
        self._told_of_ranges = False
        self._client_for(0)

    def put(self, name: str, parts: Parts, *, create: bool = False) -> None:
        """Write an object; see :class:`~sendense.storage.store.Store`."""
        check_name(name)
        content = joined(parts)
        if create and self._exists(name):
            raise self._taken(name)
        try:
            self._put(name, content, create=create and self._sends_condition)
        except FAILURES as error:
            if create and isinstance(error, exceptions.AlreadyExistsError) and self._exists(name):
                raise self._taken(name) from None
            raise self._explained(error, name) from None

    def _put(self, name: str, content: bytes, *, create: bool) -> None:
        client = self._client_for(len(content))
        if create:
            try:
                obstore.put(client, name, content, mode="create", use_multipart=False)
                return
            except (exceptions.BaseError, NotImplementedError) as error:
                if not _lacks_condition(error):
                    raise
            self._sends_condition = False
            self.traits = replace(self.traits, conditional_create=False)
        obstore.put(client, name, content, mode="overwrite", use_multipart=False)

    def _exists(self, name: str) -> bool:
        try:
            self.info(name)
        except NotFound:
            return False
        return True

    def get(self, name: str) -> bytes:
        """Give an object whole."""
        check_name(name)
        with self._explaining(name):
            return obstore.get(self._client_for(0), name).bytes().to_bytes()

    def read_into(self, name: str, offset: int, target: memoryview) -> None:
        """Read a range, with one copy on the way."""
        check_name(name)
        view = target.cast("B")
        if not view.nbytes:
            return
        try:
            piece = obstore.get_range(self._client_for(0), name, start=offset, length=view.nbytes)
        except FAILURES as error:
            filled = self._recover(error, name, offset, view)
        else:
            filled = min(len(piece), view.nbytes)
            view[:filled] = memoryview(piece)[:filled]
        if filled < view.nbytes:
            raise Damaged(
                f"{name} ends at {offset + filled} and not after {offset + view.nbytes}",
                hint="run a check of the repository; it names the points that are affected",
                name=name,
            )

    def _recover(self, error: Exception, name: str, offset: int, view: memoryview) -> int:
        """Find out what a failed reading means; give how many bytes could be had."""
        if ignored_range(error):
            return self._read_from_start(name, offset, view)
        missing = isinstance(error, FileNotFoundError)
        if not missing and answer_of(error).status in (None, 416):
            size = self.info(name).size
            if size < offset + view.nbytes:
                return max(0, size - offset)
        raise self._explained(error, name) from None

    def _read_from_start(self, name: str, offset: int, view: memoryview) -> int:
        if not self._told_of_ranges:
            self._told_of_ranges = True
            _LOG.warning(
                "%s answers requests for ranges wrongly, so whole objects are read", self.location
            )
        position = filled = 0
        with self._explaining(name):
            answer = obstore.get(self._client_for(0), name)
            for piece in answer.stream(min_chunk_size=_PIECE):
                data = memoryview(piece)
                wanted = data[max(0, offset - position) :][: view.nbytes - filled]
                view[filled : filled + len(wanted)] = wanted
                filled += len(wanted)
                position += len(data)
                if filled == view.nbytes:
                    break
        return filled

    def info(self, name: str) -> ObjectInfo:
        """Describe an object."""
        check_name(name)
        with self._explaining(name):
            return _described(obstore.head(self._client_for(0), name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects, in pages."""
        check_prefix(prefix)
        with self._explaining(prefix):
            for page in obstore.list(self._client_for(0), prefix or None, chunk_size=_PAGE):
                # What has no name for an object is somebody else's, such as a folder's marker.
                yield from (_described(meta) for meta in page if is_name(meta["path"]))

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects, many with one request where the store can do that."""
        for name in names:
            check_name(name)
        if not names:
            return
        try:
            obstore.delete(self._client_for(0), [*names])
        except FileNotFoundError:
            # Which one was not there, and how far it came, is not said.
            self._delete_each(names)
        except FAILURES as error:
            raise self._explained(error, names[0]) from None

    def _delete_each(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                obstore.delete(self._client_for(0), name)
            except FileNotFoundError as error:
                if answer_of(error).code in NO_BUCKET:
                    raise self._explained(error, name) from None
            except FAILURES as error:
                raise self._explained(error, name) from None

    def free_bytes(self) -> int | None:
        """Tell nothing: a bucket has no end."""
        return None

    def close(self) -> None:
        """End connections, as soon as nobody uses them any more."""
        with self._lock:
            self._clients.clear()

    def _client_for(self, size: int) -> ObjectStore:
        """Give the client for sending so many bytes; one serves all sizes up to the next 2**n."""
        allowance = 0.0
        if size > _SMALL:
            allowance = (1 << (size - 1).bit_length()) / self._slowest
        with self._lock:
            client = self._clients.get(allowance)
            if client is None:
                client = self._clients[allowance] = self._made(self._stall_s + allowance)
        return client

    def _made(self, patience_s: float) -> ObjectStore:
        try:
            return self._make_client(patience_s)
        except FAILURES as error:
            raise Rejected(
                f"{self.location}: the store's settings are wrong: {answer_of(error).text}",
                hint="check the URL, the credentials and what the environment adds to them",
            ) from None

    @contextmanager
    def _explaining(self, name: str) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            raise self._explained(error, name) from None

    def _explained(self, error: Exception, name: str) -> SendenseError:
        return explained(error, f"{self.location}: {name}")

    def _taken(self, name: str) -> AlreadyExists:
        return AlreadyExists(
            f"{self.location}: {name} is there already",
            hint="look at it; another writer was faster",
            name=name,
        )


def _lacks_condition(error: Exception) -> bool:
    """Tell whether the store knows no writing under a condition at all."""
    unknown = (exceptions.NotSupportedError, NotImplementedError)
    return isinstance(error, unknown) or answer_of(error).status == 501


def _described(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(name=meta["path"], size=meta["size"], modified=meta["last_modified"])
