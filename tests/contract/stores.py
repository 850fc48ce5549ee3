"""Every kind of store, and stores behind wrappers, for the one suite that all of them pass.

A server is started when the first test asks for it, and serves all tests of the run.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from sendense.storage.counting import Counters
from sendense.storage.local import LocalStore
from sendense.storage.options import StoreOptions
from sendense.storage.retrying import Patience, Retrying
from sendense.storage.store import Store
from sendense.storage.urls import open_store, wrapped
from sendense.storage.wrapper import innermost
from sendense.transfer.throttle import Throttle
from tests.support import azure_server, s3_servers
from tests.support.faulty_store import FaultyStore, at_random
from tests.support.memory_folder import memory_folder

_QUICK = StoreOptions(attempts=2, patience_s=2.0)


class Servers:
    """Servers that are started on demand."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._buckets: dict[str, Callable[[], Store]] = {}

    def store(self, kind: str) -> Store:
        """Open an empty place in the bucket of a server."""
        if kind not in self._buckets:
            self._buckets[kind] = getattr(self, f"_{kind}")()
        return self._buckets[kind]()

    def _rclone(self) -> Callable[[], Store]:
        return self._s3(self._stack.enter_context(s3_servers.rclone_server()))

    def _moto(self) -> Callable[[], Store]:
        server = self._stack.enter_context(s3_servers.moto_server())
        return self._s3(server, conditional_create="true")

    def _s3(self, server: s3_servers.S3Server, **query: str) -> Callable[[], Store]:
        server.make_bucket("contract")
        return lambda: open_store(
            server.url("contract", _anything(), **query), s3_servers.CREDENTIALS, _QUICK
        )

    def _azurite(self) -> Callable[[], Store]:
        server = self._stack.enter_context(azure_server.azure_server())
        server.make_container("contract")
        return lambda: open_store(
            server.url("contract", _anything()), azure_server.CREDENTIALS, _QUICK
        )


def _anything() -> str:
    return f"{secrets.token_hex(4)}/below"


@contextmanager
def local() -> Iterator[Store]:
    """Open a folder in memory."""
    with memory_folder() as folder:
        store = LocalStore(folder / "deep/store")
        yield store
        store.close()


def memory() -> Store:
    """Open an empty store in memory, without wrappers."""
    return innermost(open_store(f"memory:{secrets.token_hex(8)}"))


@contextmanager
def without_links() -> Iterator[Store]:
    """Open a folder as on a file system where a file has one name only."""
    with local() as store:
        assert isinstance(store, LocalStore)
        store._link = store._rename_if_free  # type: ignore[method-assign]
        yield store


@contextmanager
def behind_everything() -> Iterator[Store]:
    """Open a folder behind all wrappers, with a limit that is never reached."""
    limit = Throttle(1 << 40)
    with local() as store:
        yield wrapped(store, StoreOptions(upload=limit, download=limit, counters=Counters()))


def retrying_over_faults() -> Store:
    """Open a store of which a third of all calls go wrong, behind retries that do not wait."""
    faulty = FaultyStore(memory(), at_random(secrets.randbits(32), 0.3))
    return Retrying(faulty, Patience(100, 3600.0, sleep=lambda _: None))
