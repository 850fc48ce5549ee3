"""The gate under TLS: the NBD handshake up to STARTTLS, and bytes in and out of the encryption.

The gate plays the NBD server until the connection is encrypted and the worker's certificate is
proved; every other wish before that is answered with "TLS first".  QEMU's own greeting is then
taken by the gate, since the worker had one already, and the rest is QEMU's.

One thread per connection, because an OpenSSL connection must not be read and written by two at
the same time.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import struct
import threading
from dataclasses import dataclass

from sendense import clock
from sendense.agent.relay import Limits, Traffic

_log = logging.getLogger(__name__)

_GREETING = b"NBDMAGICIHAVEOPT"
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_FLAGS = _FIXED_NEWSTYLE | _NO_ZEROES
_REPLY_MAGIC = 0x0003E889045565A9
_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_STARTTLS = 1, 2, 5
_REP_ACK, _REP_ERR_INVALID, _REP_ERR_TLS_REQD = 1, 0x80000003, 0x80000005
_OPTION_MOST = 4096
"""Bytes of an option's data before TLS: an export's name and a few words."""
_OPTIONS_MOST = 16
_BUFFER = 256 * 1024
_LINGER_S = 30.0


@dataclass(frozen=True)
class GateTls:
    """Files in PEM; read anew for each connection, so a renewed certificate counts at once."""

    certificate: str
    """The host's own, with what leads to the authority."""
    key: str
    authority: str
    """Who signs the certificates of workers."""


def tls_context(files: GateTls) -> ssl.SSLContext:
    """Give the terms: TLS 1.3, and a certificate of our authority from the worker."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    # No session is resumed: each connection proves its certificate anew.
    context.num_tickets = 0
    return context


def negotiate(
    caller: socket.socket, context: ssl.SSLContext, *, within_s: float
) -> tuple[ssl.SSLSocket, int]:
    """Bring a caller to TLS; gives the encrypted connection and the flags that it chose.

    Raises :class:`OSError` where it did not get there; the caller's socket is used up.
    """
    deadline = clock.monotonic() + within_s
    _send(caller, _GREETING + struct.pack(">H", _FLAGS), deadline)
    (flags,) = struct.unpack(">I", _receive(caller, 4, deadline))
    if not flags & _FIXED_NEWSTYLE:
        raise ConnectionAbortedError("the client does not speak the fixed newstyle handshake")
    for _ in range(_OPTIONS_MOST):
        if _answer_option(caller, deadline):
            return _encrypt(caller, context, deadline), flags
    raise ConnectionAbortedError("the client asks for everything but TLS")


def _answer_option(caller: socket.socket, deadline: float) -> bool:
    """Answer one option; tells whether it was the wish for TLS."""
    magic, option, length = struct.unpack(">8sII", _receive(caller, 16, deadline))
    if magic != b"IHAVEOPT" or length > _OPTION_MOST:
        raise ConnectionAbortedError("the client does not speak NBD")
    _receive(caller, length, deadline)
    starts = bool(option == _OPT_STARTTLS and length == 0)
    if starts or option == _OPT_ABORT:
        reply = _REP_ACK
    else:
        reply = _REP_ERR_INVALID if option == _OPT_STARTTLS else _REP_ERR_TLS_REQD
    if option == _OPT_EXPORT_NAME:
        # The protocol has no answer to this one but an export.
        raise ConnectionAbortedError("the client asks for an export without TLS")
    _send(caller, struct.pack(">QIII", _REPLY_MAGIC, option, reply, 0), deadline)
    if option == _OPT_ABORT:
        raise ConnectionAbortedError("the client gave up")
    return starts


def _encrypt(caller: socket.socket, context: ssl.SSLContext, deadline: float) -> ssl.SSLSocket:
    caller.setblocking(False)
    wire = context.wrap_socket(caller, server_side=True, do_handshake_on_connect=False)
    try:
        while True:
            try:
                wire.do_handshake()
                return wire
            except ssl.SSLWantReadError:
                _wait(wire, select.POLLIN, deadline)
            except ssl.SSLWantWriteError:
                _wait(wire, select.POLLOUT, deadline)
    except BaseException:
        wire.close()
        raise


def _wait(wire: socket.socket, events: int, deadline: float) -> None:
    left = deadline - clock.monotonic()
    poll = select.poll()
    poll.register(wire, events)
    if left <= 0 or not poll.poll(int(left * 1000) + 1):
        raise socket.timeout("the client takes too long over its handshake")


def _receive(caller: socket.socket, count: int, deadline: float) -> bytes:
    heard = b""
    while len(heard) < count:
        caller.settimeout(max(0.001, deadline - clock.monotonic()))
        more = caller.recv(count - len(heard))
        if not more:
            raise ConnectionAbortedError("the client went away")
        heard += more
    return heard


def _send(caller: socket.socket, data: bytes, deadline: float) -> None:
    caller.settimeout(max(0.001, deadline - clock.monotonic()))
    caller.sendall(data)


class _Lane:
    """Bytes on their way in one direction: one buffer, filled and emptied in turn."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0
        self.over = False
        """Its source has ended."""

    @property
    def waiting(self) -> memoryview:
        return self._buffer[self._start : self._end]

    @property
    def room(self) -> memoryview:
        return self._buffer[self._end :]

    @property
    def full(self) -> bool:
        return self._end > self._start

    def filled(self, count: int) -> None:
        self._end += count

    def emptied(self, count: int) -> None:
        self._start += count
        if self._start == self._end:
            self._start = self._end = 0


class TlsRelay:
    """Passes bytes between an encrypted connection and QEMU's socket, in one thread."""

    def __init__(
        self,
        client: ssl.SSLSocket,
        server: socket.socket,
        limits: Limits,
        traffic: Traffic,
        *,
        flags: int,
    ) -> None:
        """Take both sockets over; ``flags`` are what the client chose at its handshake."""
        self._client = client
        self._server = server
        self._limits = limits
        self._traffic = traffic
        self._flags = flags
        self._lock = threading.Lock()
        self._closed = False
        self._ended = threading.Event()
        self._read, self._written = _Lane(), _Lane()
        self._write_wants_input = False

    def run(self) -> None:
        """Greet QEMU, then pass bytes until one side is done; then both are closed."""
        try:
            self._greet()
            self._server.setblocking(False)
            while not self._finished():
                if not self._step():
                    self._sleep()
        finally:
            with self._lock:
                self._closed = True
                self._client.close()
                self._server.close()

    def cut(self) -> None:
        """End it at once; may be called from any thread, at any time."""
        self._ended.set()
        with self._lock:
            if self._closed:
                return
            for wire in (self._client, self._server):
                try:
                    # The plain socket's: that of an SSLSocket also drops the encryption, which
                    # the other thread is using.
                    socket.socket.shutdown(wire, socket.SHUT_RDWR)
                except OSError as error:
                    _log.debug("was shut already: %s", error.strerror)

    def _greet(self) -> None:
        deadline = clock.monotonic() + _LINGER_S
        greeting = _receive(self._server, 18, deadline)
        (offered,) = struct.unpack(">H", greeting[16:])
        if greeting[:16] != _GREETING or offered & _FLAGS != _FLAGS:
            raise ConnectionAbortedError("the NBD server greets in a way that is not known")
        _send(self._server, struct.pack(">I", self._flags & _FLAGS), deadline)

    def _finished(self) -> bool:
        return self._ended.is_set() or (self._read.over and not self._read.full)

    def _step(self) -> bool:
        """Move what can be moved; tells whether anything was."""
        moved = self._take_from_server()
        moved = self._give_to_client() or moved
        moved = self._take_from_client() or moved
        return self._give_to_server() or moved

    def _take_from_server(self) -> bool:
        lane = self._read
        if lane.full or lane.over:
            return False
        try:
            count = self._server.recv_into(lane.room[: self._limits.piece])
        except BlockingIOError:
            return False
        lane.filled(count)
        lane.over = count == 0
        return True

    def _give_to_client(self) -> bool:
        lane = self._read
        if not lane.full:
            return False
        self._write_wants_input = False
        try:
            count = self._client.send(lane.waiting)
        except ssl.SSLWantReadError:
            self._write_wants_input = True
            return False
        except ssl.SSLWantWriteError:
            return False
        lane.emptied(count)
        self._count(count, read=True)
        return True

    def _take_from_client(self) -> bool:
        """Read some records (each at most 16 KiB) before they are passed on together."""
        lane = self._written
        if lane.over or len(lane.room) < _BUFFER // 2:
            return False
        moved = False
        while len(lane.room) and not lane.over:
            try:
                count = self._client.recv_into(lane.room)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            lane.filled(count)
            lane.over = count == 0
            moved = True
        if lane.over and not lane.full:
            self._server.shutdown(socket.SHUT_WR)
        return moved

    def _give_to_server(self) -> bool:
        lane = self._written
        if not lane.full:
            return False
        try:
            count = self._server.send(lane.waiting[: self._limits.piece])
        except BlockingIOError:
            return False
        lane.emptied(count)
        self._count(count, read=False)
        if lane.over and not lane.full:
            self._server.shutdown(socket.SHUT_WR)
        return True

    def _count(self, count: int, *, read: bool) -> None:
        self._traffic.add(count, read=read)
        wait_s = self._limits.charge(count)
        if wait_s > 0:
            self._ended.wait(wait_s)

    def _sleep(self) -> None:
        """Wait until a socket can be used; where the client is done, not for ever."""
        poll = select.poll()
        client = server = 0
        if self._read.full:
            client |= select.POLLIN if self._write_wants_input else select.POLLOUT
        elif not self._read.over:
            server |= select.POLLIN
        if self._written.full:
            server |= select.POLLOUT
        elif not self._written.over:
            client |= select.POLLIN
        for wire, events in ((self._client, client), (self._server, server)):
            if events:
                # One that nothing is wanted of would report its end again and again.
                poll.register(wire, events)
        if not poll.poll(_LINGER_S * 1000 if self._written.over else None):
            self._ended.set()
