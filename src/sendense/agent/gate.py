"""The gate: where a worker's connections enter a KVM host, and reach the disk they may read.

A listener on the host's loopback, which the agent's tunnels forward to.  Each connection says one
line, ``SENDENSE/1 <export> <secret>``, because a loopback port is open to every user of the host
(and the tunnel's other end to every user of the gateway).  Then bytes pass both ways, untouched
and unseen.  Under TLS each export has a port of its own instead, and certificates take the
place of the line (:mod:`sendense.agent.gate_tls`).

A caller who is wrong learns nothing: unknown names, wrong secrets and malformed lines get the
same answer after the same time.  Callers who do not speak are few at any time; the oldest of
them makes room for a new one, so that they cannot keep a worker out.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import secrets
import socket
import ssl
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Protocol

from sendense import clock
from sendense.agent.gate_tls import GateTls, TlsRelay, negotiate, tls_context
from sendense.agent.pacing import Bucket
from sendense.agent.relay import Limits, Relay, Traffic, shut
from sendense.errors import AlreadyExists, Rejected, Unavailable
from sendense.model.secret import Secret

_log = logging.getLogger(__name__)

PROTOCOL = b"SENDENSE/1"
LINE_MOST = 512
"""Bytes of the first line, with its end."""
_LINE_S = 5.0
"""How long a caller may take over its line, or over its TLS handshake."""
_PENALTY_S = 1.0
_PENDING_MOST = 32
"""Callers at a time who have not shown their right yet."""
_SERVER_S = 5.0
_BACKLOG = 64


class _Way(Protocol):
    """A connection that was let in."""

    def run(self) -> None: ...

    def cut(self) -> None: ...


@dataclass(frozen=True)
class GateCounters:
    """What the gate did since it started; for metrics."""

    read_bytes: int
    """From the disks to the workers."""
    written_bytes: int
    connections: int
    """Let in so far."""
    open_connections: int
    refused: int
    exports: int


@dataclass(eq=False)
class Share:
    """What one export may take of the host, or several exports of one work together."""

    bucket: Bucket
    most: int
    """Connections at a time."""
    taken: int = 0
    """Connections let in, or about to be."""


@dataclass(eq=False)
class _Export:
    """What one name of the gate stands for."""

    name: str
    secret: bytes
    socket_path: str
    share: Share
    closed: bool = False
    ways: set[_Way] = field(default_factory=set)
    listener: Optional[socket.socket] = None


class _Refusal(Exception):
    """Why a caller is sent away: the code of the answer, and what the log says."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why)
        self.code = code


class Gate:
    """The gate of one host; :meth:`start` it, :meth:`open` exports, :meth:`stop` it."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        ports: tuple[int, int] = (10800, 10900),
        *,
        bytes_per_s: int = 0,
        tls: Optional[GateTls] = None,
    ) -> None:
        """Listen on ``host``, on ports out of a range with both ends in it; 0 is no limit."""
        self._host = host
        self._ports = ports
        self._tls = tls
        self._bucket = Bucket(bytes_per_s)
        self._traffic = Traffic()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._exports: dict[str, _Export] = {}
        self._pending: OrderedDict[int, socket.socket] = OrderedDict()
        self._listener: Optional[socket.socket] = None
        self._accepted = self._refused = self._open = 0
        self._nobody = secrets.token_bytes(32)

    @property
    def port(self) -> int:
        """Give the port of the gate; 0 where each export has its own, and on a unix socket."""
        if self._listener is None or self._listener.family == socket.AF_UNIX:
            return 0
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Listen; under TLS nothing listens before an export is opened."""
        self._stopping.clear()
        if self._tls is None:
            self._listener = self._listen(lambda caller: self._serve(caller, None))

    def stop(self) -> None:
        """End everything."""
        self._stopping.set()
        for name in list(self._exports):
            self.close(name)
        with self._lock:
            pending = list(self._pending.values())
        for wire in pending:
            shut(wire)
        if self._listener is not None:
            _end_listener(self._listener)
            self._listener = None

    def set_rate(self, bytes_per_s: int) -> None:
        """Change the limit of the host; connections under way keep to it from now on."""
        self._bucket.set_rate(bytes_per_s)

    def open(
        self,
        name: str,
        secret: Secret,
        socket_path: str,
        *,
        bytes_per_s: int,
        connections: int,
        share: Optional[Share] = None,
    ) -> Optional[int]:
        """Let callers with ``secret`` reach an NBD server; gives its port where it has its own.

        A ``share`` of several exports takes the place of the limits of this one.
        """
        word = secret.reveal()
        for text in (name.encode(), word):
            if not text or len(text) > 200 or not text.isascii() or text.split() != [text]:
                raise Rejected("names and secrets of the gate are words of ASCII, at most 200 long")
        share = share or Share(Bucket(bytes_per_s), connections)
        export = _Export(name, word, socket_path, share)
        with self._lock:
            if name in self._exports:
                raise AlreadyExists(f"the gate has an export {name} already")
            self._exports[name] = export
        if self._tls is None:
            return None
        try:
            export.listener = self._listen(lambda caller: self._serve(caller, export))
        except BaseException:
            self.close(name)
            raise
        return int(export.listener.getsockname()[1])

    def close(self, name: str) -> None:
        """End an export and all its connections at once; does nothing where there is none."""
        with self._lock:
            export = self._exports.pop(name, None)
            if export is None:
                return
            export.closed = True
            ways = list(export.ways)
        if export.listener is not None:
            _end_listener(export.listener)
        for way in ways:
            way.cut()

    def counters(self) -> GateCounters:
        """Give what passed so far."""
        with self._lock:
            return GateCounters(
                read_bytes=self._traffic.read_bytes,
                written_bytes=self._traffic.written_bytes,
                connections=self._accepted,
                open_connections=self._open,
                refused=self._refused,
                exports=len(self._exports),
            )

    # Below: what the threads of the listeners and of the connections do.

    def _listen(self, serve: Callable[[socket.socket], None]) -> socket.socket:
        first, last = self._ports
        listener = _bind(self._host, first, last)
        thread = threading.Thread(
            target=self._accept, args=(listener, serve), name="gate", daemon=True
        )
        thread.start()
        return listener

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        """Take callers until the listener is shut."""
        with listener:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError as error:
                    if self._stopping.is_set() or _is_shut(listener):
                        return
                    # Out of descriptors or memory: others will give some back.
                    _log.warning("the gate cannot take a caller: %s", error.strerror)
                    self._stopping.wait(0.2)
                    continue
                self._receive(caller, serve)

    def _receive(self, caller: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with self._lock:
            self._pending[id(caller)] = caller
            if len(self._pending) > _PENDING_MOST:
                _, oldest = self._pending.popitem(last=False)
                shut(oldest)
        try:
            threading.Thread(target=serve, args=(caller,), name="gate-caller", daemon=True).start()
        except RuntimeError as error:
            _log.warning("the gate cannot take a caller: %s", error)
            self._settled(caller)
            caller.close()

    def _settled(self, caller: socket.socket) -> None:
        with self._lock:
            self._pending.pop(id(caller), None)

    def _serve(self, caller: socket.socket, known: Optional[_Export]) -> None:
        """Hear a caller out, let it in, and see its connection through."""
        export = None
        way = None
        encrypted = None
        try:
            _tend(caller)
            if known is None or self._tls is None:
                export = self._admit(caller)
            else:
                encrypted = negotiate(caller, tls_context(self._tls), within_s=_LINE_S)
                export = self._reserve(known)
            way = self._enter(caller, export, encrypted)
            self._settled(caller)
            way.run()
        except _Refusal as refusal:
            self._refuse(caller, refusal, aloud=known is None)
        except OSError as error:
            _log.debug("a caller of the gate went away: %s", error)
            with self._lock:
                self._refused += way is None
        finally:
            if export is not None:
                self._leave(export, way)
            self._settled(caller)
            (caller if encrypted is None else encrypted[0]).close()

    def _refuse(self, caller: socket.socket, refusal: _Refusal, *, aloud: bool) -> None:
        with self._lock:
            self._refused += 1
        _log.info("a caller of the gate was refused: %s", refusal)
        if refusal.code == "not-allowed":
            self._stopping.wait(_PENALTY_S)
        if aloud:
            caller.settimeout(_LINE_S)
            try:
                caller.sendall(b"NO " + refusal.code.encode() + b"\n")
            except OSError as error:
                _log.debug("the caller did not wait for its answer: %s", error)

    def _admit(self, caller: socket.socket) -> _Export:
        """Read a caller's line and find what it names."""
        words = _read_line(caller).split(b" ")
        if len(words) != 3 or words[0] != PROTOCOL:
            raise _Refusal("not-allowed", "its first line is not the gate's")
        name, secret = words[1].decode("ascii", "replace"), words[2]
        with self._lock:
            export = self._exports.get(name)
        # Compared in any case, so that a name that is not there takes as long as a wrong secret.
        right = hmac.compare_digest(self._nobody if export is None else export.secret, secret)
        if export is None or not right:
            raise _Refusal("not-allowed", "it named no open export, or not its secret")
        return self._reserve(export)

    def _reserve(self, export: _Export) -> _Export:
        with self._lock:
            if export.closed:
                raise _Refusal("not-allowed", f"the export {export.name} is closed")
            share = export.share
            if share.taken >= share.most:
                raise _Refusal("busy", f"{export.name} has its {share.most} connections already")
            share.taken += 1
            self._open += 1
        return export

    def _leave(self, export: _Export, way: Optional[_Way]) -> None:
        with self._lock:
            export.share.taken -= 1
            self._open -= 1
            if way is not None:
                export.ways.discard(way)

    def _enter(
        self,
        caller: socket.socket,
        export: _Export,
        encrypted: Optional[tuple[ssl.SSLSocket, int]],
    ) -> _Way:
        """Connect a caller to QEMU."""
        limits = Limits(self._bucket, export.share.bucket)
        way: _Way
        server = self._dial(export)
        if encrypted is not None:
            wire, flags = encrypted
            way = TlsRelay(wire, server, limits, self._traffic, flags=flags)
        else:
            way = Relay(caller, server, limits, self._traffic)
            try:
                caller.settimeout(_LINE_S)
                caller.sendall(b"OK\n")
            except OSError:
                server.close()
                raise
        with self._lock:
            self._accepted += 1
            if not export.closed:
                export.ways.add(way)
                return way
        # It was let in while the export was being closed: `run` ends at once, and cleans up.
        way.cut()
        return way

    def _dial(self, export: _Export) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.settimeout(_SERVER_S)
        try:
            server.connect(export.socket_path)
        except OSError as error:
            server.close()
            raise _Refusal("unavailable", f"NBD server of {export.name}: {error}") from error
        return server


def _read_line(caller: socket.socket) -> bytes:
    """Give the first line without its end; nothing may follow it before it is answered."""
    deadline = clock.monotonic() + _LINE_S
    heard = b""
    while not heard.endswith(b"\n"):
        left = deadline - clock.monotonic()
        if left <= 0:
            raise _Refusal("not-allowed", "it said nothing for too long")
        caller.settimeout(left)
        try:
            more = caller.recv(LINE_MOST - len(heard))
        except socket.timeout as error:
            raise _Refusal("not-allowed", "it said nothing for too long") from error
        heard += more
        if not more or b"\n" in heard[:-1] or (len(heard) >= LINE_MOST and heard[-1:] != b"\n"):
            raise _Refusal("not-allowed", "its first line is too long, or cut off")
    return heard[:-1]


def _tend(caller: socket.socket) -> None:
    """Notice a dead peer within about a minute, and send small answers at once."""
    if caller.family == socket.AF_UNIX:
        return
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        caller.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _bind(host: str, first: int, last: int) -> socket.socket:
    """Listen on the first free port of a range, or on a unix socket for this user alone."""
    if host.startswith("/"):
        return _bind_path(host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, last + 1):
        listener = socket.socket(family)
        # Without it a port could not be used again for a minute after a restart.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
            return listener
        except OSError as error:
            listener.close()
            _log.debug("port %d of %s: %s", port, host, error.strerror)
    raise Unavailable(
        f"no port of {first} to {last} is free on {host}",
        hint="widen port_range, or see who listens there: ss -ltnp",
    )


def _bind_path(path: str) -> socket.socket:
    fresh = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        Path(fresh).unlink()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(fresh)
        Path(fresh).chmod(0o600)
        listener.listen(_BACKLOG)
        # Under its name only when nobody else can enter; over what a dead agent left.
        Path(fresh).replace(path)
    except BaseException:
        listener.close()
        raise
    return listener


def _is_shut(listener: socket.socket) -> bool:
    try:
        return not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return True


def _end_listener(listener: socket.socket) -> None:
    """Wake the thread that accepts; it closes the socket."""
    shut(listener)
