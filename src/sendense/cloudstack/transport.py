"""One signed request over one connection of many: sent in its turn, read to its end, within bounds.

Always ``POST`` with a form: nothing of it is in an address, a log or a proxy's cache, and clouds
that demand it are served too.  A redirection is not followed, for the signed form would go along.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

import sendense
from sendense import clock
from sendense.errors import Rejected

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class NotSent(Exception):
    """No connection came about, so nothing can have been done."""


class Untrusted(NotSent):
    """Its certificate is none that we were told to trust."""


class BrokenOff(Exception):
    """The request went out, and what came back is not whole."""


class TooLarge(BrokenOff):
    """The answer is larger than we are willing to hold."""


@dataclass(frozen=True)
class Limits:
    """How long to wait for what, and how much to take."""

    connect_s: float = 10.0
    silent_s: float = 60.0
    """No byte for so long."""
    whole_s: float = 300.0
    """From the request to the end of its answer."""
    max_bytes: int = 64 * 1024 * 1024
    patience_s: float = 60.0
    """How long a cloud that is away or busy is asked again before the caller hears of it."""
    per_second: float = 10.0
    """Requests; CloudStack's own limit, where it is on, is 25."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes
    description: str
    skew_s: float | None
    """Seconds that the server's clock is ahead of ours, by its ``Date``."""


class Pace:
    """Lets a number of requests through each second, whatever number of threads asks."""

    def __init__(self, per_second: float) -> None:
        self._lock = threading.Lock()
        self._gap = 1.0 / per_second
        self._next = 0.0

    def slow_to(self, per_second: float) -> None:
        """Let fewer through; never more."""
        with self._lock:
            self._gap = max(self._gap, 1.0 / per_second)

    def wait(self) -> None:
        """Return when it is our turn."""
        with self._lock:
            now = clock.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        if turn > now:
            clock.sleep(turn - now)


class Wire:
    """The connections to one endpoint; may be used by many threads."""

    def __init__(self, endpoint: str, *, ca_pem: str = "", limits: Limits | None = None) -> None:
        """Connect to nothing yet."""
        self.endpoint = endpoint_of(endpoint)
        self.limits = limits or Limits()
        self.pace = Pace(self.limits.per_second)
        self._http = httpx.Client(
            verify=_trust(ca_pem),
            headers={
                "User-Agent": f"sendense/{sendense.__version__}",
                "Accept": "application/json",
            },
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=4),
            follow_redirects=False,
            # A proxy of the environment would read what is not encrypted.
            trust_env=self.encrypted,
        )

    @property
    def encrypted(self) -> bool:
        """Tell whether it speaks TLS."""
        return self.endpoint.startswith("https://")

    @property
    def exposed(self) -> bool:
        """Tell whether answers, with what is secret in them, cross a network in the clear."""
        return not self.encrypted and urlsplit(self.endpoint).hostname not in _LOOPBACK

    def post(self, fields: Mapping[str, str], *, silent_s: float | None = None) -> Reply:
        """Send a form and read its answer."""
        self.pace.wait()
        # What httpx raises holds the request, and so the key: it does not go on with our errors.
        try:
            return self._exchange(fields, silent_s or self.limits.silent_s)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Untrusted(_words(error)) from None
            raise NotSent(_words(error)) from None
        except httpx.HTTPError as error:
            raise BrokenOff(_words(error)) from None

    def cookie(self, name: str) -> str:
        """Give what the other side has us keep under a name; empty where it is nothing."""
        found = (each.value for each in self._http.cookies.jar if each.name == name)
        return next(found, None) or ""

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _exchange(self, fields: Mapping[str, str], silent_s: float) -> Reply:
        times = httpx.Timeout(silent_s, connect=self.limits.connect_s)
        end = clock.monotonic() + self.limits.whole_s
        with self._http.stream("POST", self.endpoint, data=dict(fields), timeout=times) as answer:
            arrived = clock.now()
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > self.limits.max_bytes:
                    raise TooLarge(f"its answer is larger than {self.limits.max_bytes} bytes")
                if clock.monotonic() > end:
                    raise BrokenOff(f"its answer took longer than {self.limits.whole_s:.0f} s")
            return Reply(
                answer.status_code,
                bytes(body),
                answer.headers.get("X-Description", ""),
                skew(answer.headers.get("Date", ""), arrived),
            )


def skew(date: str, arrived: datetime) -> float | None:
    """Tell how far ahead a clock is, from the ``Date`` that it wrote."""
    try:
        theirs = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    # A Date has whole seconds, cut off: in the middle the error is half of one at most.
    return (theirs - arrived).total_seconds() + 0.5


def endpoint_of(text: str) -> str:
    """Give the address of an API; where only a host is given, with CloudStack's path."""
    wrong = Rejected(
        "this is no address of a CloudStack API",
        hint="write https://HOST/client/api, or with a port: https://HOST:8443/client/api",
    )
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise wrong
    if parts.query or parts.fragment:
        raise wrong
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/")
    if path in ("", "/client"):
        path = "/client/api"
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}"


def _trust(ca_pem: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca_pem or None)
    except ssl.SSLError:
        raise Rejected(
            "the certificates given for this cloud are no PEM certificates",
            hint="give the certificate of its CA, from BEGIN CERTIFICATE to END CERTIFICATE",
        ) from None


def _words(error: Exception) -> str:
    said = str(error).strip()
    kind = type(error).__name__
    return {"ReadTimeout": "no byte came", "ConnectTimeout": "no connection in time"}.get(
        kind, said or kind
    )
