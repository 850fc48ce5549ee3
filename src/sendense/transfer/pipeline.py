"""Requests on several NBD connections, with a bounded number under way.

Each connection has a thread that takes commands from one queue, keeps up to
``depth`` of them under way, and sleeps in libnbd's poll, which releases the GIL.
So the server, the copying out of its socket, and the caller who hashes and writes
work at the same time.  Measured with 2 GiB behind qemu-nbd on two busy cores:
1.7-1.9 s with threads, 1.8-3.9 s for the same loop in the caller's thread.

A caller submits commands and waits for them one by one, so results come in the
order the caller likes.  The limit is on progress: where no command of any
connection ended for ``stall_s`` while somebody waits, the wait ends with
:class:`~sendense.errors.Stalled`; how long all of it takes is nobody's business.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

import nbd

from sendense import clock
from sendense.errors import SendenseError, Stalled, Unavailable
from sendense.model.stream import Buffer
from sendense.transfer import link

_log = logging.getLogger(__name__)

_POLL_MS = 1000
_HEARTBEAT_S = 1.0
"""How often a waiting caller gets to look at the world (``on_wait``)."""

Completion = Callable[[Any], int]


@dataclass(eq=False)
class Command:
    """One request: how it is issued, and what became of it."""

    verb: str
    """For messages: ``read``, ``write``."""
    offset: int
    issue: Callable[[Any, Completion], object]
    done: bool = False
    code: int = 0
    """Errno of the failure; 0 where it succeeded."""


def read(buffer: Buffer, offset: int) -> Command:
    """Fill ``buffer`` from ``offset``; it must not be touched until the command is done."""
    return Command("read", offset, lambda handle, done: handle.aio_pread(buffer, offset, done))


def write(buffer: Buffer, offset: int) -> Command:
    """Write ``buffer`` at ``offset``; it must not change until the command is done."""
    return Command("write", offset, lambda handle, done: handle.aio_pwrite(buffer, offset, done))


def zero(offset: int, length: int) -> Command:
    """Make a range read as zero; the server may punch a hole."""
    return Command("zero", offset, lambda handle, done: handle.aio_zero(length, offset, done))


def flush() -> Command:
    """Make all writes that are done durable."""
    return Command("flush", 0, lambda handle, done: handle.aio_flush(done))


def block_status(offset: int, length: int, take: Callable[[str, list[int]], None]) -> Command:
    """Ask for extents; ``take`` gets a context's name and its lengths and flags in turn."""

    def extent(context: str, _start: int, entries: list[int], _error: Any) -> int:
        take(context, entries)
        return 0

    return Command(
        "query the extents of",
        offset,
        lambda handle, done: handle.aio_block_status(length, offset, extent, done),
    )


@dataclass(eq=False)
class _Connection:
    """A handle with its thread; ``wire`` is for cutting it off from outside."""

    handle: Any
    wire: socket.socket
    in_flight: int = 0
    ended: list[Command] = field(default_factory=list)
    thread: threading.Thread | None = None

    def issue(self, command: Command) -> None:
        """Send one command."""

        def completed(error: Any) -> int:
            # Runs inside libnbd, which prints what is raised here and goes on: keep it bare.
            command.code = error.value
            self.ended.append(command)
            return 1

        self.in_flight += 1
        command.issue(self.handle, completed)

    def end(self, *, within_s: float) -> None:
        """Wait for the thread, and hang up, whatever is under way."""
        if self.thread is not None:
            self.thread.join(within_s)
        # A command may have been issued after it was looked whether there is one.
        _cut(self.wire)
        self.wire.close()
        if self.thread is None or not self.thread.is_alive():
            link.close(self.handle)


class Pipeline:
    """Carries out commands over some connections; close it, or leave its ``with`` block."""

    def __init__(
        self,
        handles: Sequence[Any],
        *,
        target: str,
        depth: int,
        stall_s: float,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a thread for each handle; they belong to the pipeline from here on."""
        self._target = target
        self._depth = depth
        self._stall_s = stall_s
        self._on_wait = on_wait
        self._queue: deque[Command] = deque()
        self._changed = threading.Condition()
        """The queue, or whether to go on: what the idle threads of connections wait for."""
        self._awaited: dict[Command, threading.Event] = {}
        """Who waits for a command is woken for that one only.  Woken for each that ended, a
        caller that reads in order changed threads twice as often as it got anything."""
        self._closed = False
        self._failure: SendenseError | None = None
        self._last_end = clock.monotonic()
        self._connections = [
            _Connection(handle, socket.socket(fileno=os.dup(handle.aio_get_fd())))
            for handle in handles
        ]
        for number, connection in enumerate(self._connections):
            connection.thread = threading.Thread(
                # In our context, so that its log lines carry the run they belong to.
                target=copy_context().run,
                args=(self._serve, connection),
                name=f"nbd-{target}-{number}",
                daemon=True,
            )
            connection.thread.start()

    @property
    def connections(self) -> int:
        """Give how many connections there are."""
        return len(self._connections)

    def submit(self, command: Command, *, urgent: bool = False) -> Command:
        """Queue a command; ``urgent`` goes before those that are not under way yet."""
        with self._changed:
            if urgent:
                self._queue.appendleft(command)
            else:
                self._queue.append(command)
            self._changed.notify_all()
        return command

    def wait(self, command: Command) -> None:
        """Wait until the command is done; raise what went wrong with it or its connection."""
        begun = clock.monotonic()
        while not self._await_change(command, begun):
            self._on_wait()
        if command.code:
            raise link.failure(
                command.verb, target=self._target, offset=command.offset, code=command.code
            )

    def _await_change(self, command: Command, begun: float) -> bool:
        """Wait a heartbeat for the command; tell whether it is done."""
        with self._changed:
            if command.done:
                return True
            if self._failure is not None:
                raise self._failure
            quiet = clock.monotonic() - max(begun, self._last_end)
            if quiet >= self._stall_s:
                raise Stalled(
                    f"no answer about {self._target} for {quiet:.0f} s"
                    f" (waiting to {command.verb} at offset {command.offset})",
                    target=self._target,
                    offset=command.offset,
                )
            ended = self._awaited.setdefault(command, threading.Event())
        if ended.wait(min(_HEARTBEAT_S, self._stall_s - quiet)):
            return command.done
        with self._changed:
            self._awaited.pop(command, None)
            return command.done

    def close(self) -> None:
        """End all connections; what is still under way is given up."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
            busy = [item for item in self._connections if item.in_flight]
        for connection in busy:
            _cut(connection.wire)
        for connection in self._connections:
            connection.end(within_s=2 * _POLL_MS / 1000)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    # Below: what the threads of the connections do.

    def _serve(self, connection: _Connection) -> None:
        try:
            while self._fill(connection):
                if not connection.ended:
                    connection.handle.poll(_POLL_MS)
                self._report(connection)
        except nbd.Error as error:
            self._break(connection, error)

    def _fill(self, connection: _Connection) -> bool:
        """Issue what there is room for; sleep while there is nothing; tell whether to go on."""
        if connection.in_flight and not self._queue and not self._closed:
            return True  # without the lock: whatever comes now is seen after the next answer
        while connection.in_flight < self._depth:
            with self._changed:
                while not (self._queue or self._closed or connection.in_flight):
                    self._changed.wait()
                if self._closed:
                    break
                if not self._queue:
                    return True
                command = self._queue.popleft()
            connection.issue(command)
        if self._closed:
            connection.handle.aio_disconnect()
        return not self._closed

    def _report(self, connection: _Connection) -> None:
        """Tell the waiting which commands ended."""
        if not connection.ended:
            return
        with self._changed:
            connection.in_flight -= len(connection.ended)
            self._last_end = clock.monotonic()
            for command in connection.ended:
                command.done = True
                if (ended := self._awaited.pop(command, None)) is not None:
                    ended.set()
            connection.ended.clear()

    def _break(self, connection: _Connection, error: nbd.Error) -> None:
        """The connection is gone: nobody shall wait for it."""
        with self._changed:
            if self._closed:
                return
            _log.debug("connection to %s lost: %s", self._target, error.string)
            if self._failure is None:
                self._failure = Unavailable(
                    f"the NBD server of {self._target} went away: {error.string}",
                    target=self._target,
                )
            connection.in_flight = 0
            while self._awaited:
                self._awaited.popitem()[1].set()


def _cut(wire: socket.socket) -> None:
    """Wake the thread that polls this connection: it finds it closed."""
    try:
        wire.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _log.debug("connection was closed already: %s", error)
