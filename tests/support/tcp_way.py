"""A way to a server that can be cut, closed and opened again; with TLS in front where wanted."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

from sendense_lab.ports import free_port


class TcpWay:
    """Passes connections on to a port of this machine, for the time of a ``with`` block."""

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._live: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.port = 0
        self.accepted = 0

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        for thread in self._threads:
            thread.join(10)

    @property
    def url(self) -> str:
        """Give where it is."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen; on the port of before, if there was one."""
        # One that nobody takes while it is closed.
        self.port = self.port or free_port()
        listener = socket.create_server(("127.0.0.1", self.port))
        self._listener = listener
        self._start(self._accept, listener)

    def close(self) -> None:
        """Listen no more, and cut what is open."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Break off all connections that are open."""
        with self._lock:
            live = list(self._live)
        for each in live:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._start(self._carry, near)

    def _carry(self, plain: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            stack.callback(plain.close)
            near = plain
            if self._tls:
                near = stack.enter_context(self._tls.wrap_socket(plain, server_side=True))
            far = stack.enter_context(socket.create_connection(("127.0.0.1", self._target)))
            with self._lock:
                self._live |= {near, far}
            try:
                _exchange(near, far)
            finally:
                with self._lock:
                    self._live -= {near, far}


def _exchange(near: socket.socket, far: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, far)
        selector.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _ in selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                data = source.recv(65536)
                while isinstance(source, ssl.SSLSocket) and source.pending():
                    data += source.recv(65536)
                if not data:
                    return
                key.data.sendall(data)
