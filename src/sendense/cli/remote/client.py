"""Asking a server: one request, one answer; errors are what they were at the server.

A request that changes nothing is repeated where the server went away or is busy, and so is a
``POST`` with an ``Idempotency-Key``: the server carries it out once.  All else is repeated only
where no connection came about, so that nothing is done twice.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import httpx

import sendense
from sendense import clock
from sendense.cli.remote import answers
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.sign_in import Server
from sendense.errors import NotFound, Rejected, SendenseError, Stalled, Unavailable
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)

PREFIX: Final = "/api/v1"
CONNECT_S: Final = 10.0
SILENT_S: Final = 60.0
"""No byte for so long: the request has stalled."""
LONG_S: Final = 600.0
"""For what opens a repository, which may be slow and far away."""
_ATTEMPTS: Final = 4
_LONGEST_WAIT_S: Final = 10.0
_PAGE: Final = 200
_AGAIN: Final = frozenset({429, 502, 503, 504})
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)

Params = Mapping[str, Any]


class Client:
    """The API of one server, for the time of a ``with`` block."""

    def __init__(self, server: Server, token: Secret, *, attempts: int = _ATTEMPTS) -> None:
        """Connect to nothing yet."""
        self.server = server
        self._attempts = attempts
        self._http = httpx.Client(
            base_url=server.url + PREFIX,
            headers={
                # Signing in is asked for with nothing but what proves who that is.
                **({"Authorization": f"Bearer {token.reveal().decode()}"} if token else {}),
                "User-Agent": f"sendense/{sendense.__version__}",
                "Accept": "application/json",
            },
            timeout=_timeout(SILENT_S),
            verify=_trusted(server),
            # A proxy of the environment would read what is not encrypted.
            trust_env=server.encrypted,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    # --- Requests

    def get(self, path: str, **params: Any) -> Doc:
        """Ask for one thing."""
        return answers.parse_doc(self._get(path, params), self.server.url)

    def get_list(self, path: str) -> list[Doc]:
        """Ask for a list that has no pages."""
        found = answers.parse(self._get(path, {}), self.server.url)
        if isinstance(found, Doc):
            raise answers.nonsense(self.server.url)
        return found

    def every(self, path: str, *, page_size: int = _PAGE, **params: Any) -> Iterator[Doc]:
        """Give the items of a list, a page at a time, and no page before it is needed."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=page_size, cursor=cursor, **params)
            yield from page.parts("items")
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def post(self, path: str, body: Mapping[str, Any] | None = None, **params: Any) -> Doc:
        """Ask for something to be done, once however often it has to be sent."""
        key = {"Idempotency-Key": uuid4().hex}
        content = self._send("POST", path, body=body, params=params, headers=key, again=True)
        return answers.parse_doc(content, self.server.url)

    def look(self, path: str, body: Mapping[str, Any]) -> Doc:
        """Ask with a body for something that changes nothing."""
        return answers.parse_doc(self._send("POST", path, body=body, again=True), self.server.url)

    def post_once(self, path: str, body: Mapping[str, Any]) -> Doc:
        """Ask for what is answered only once, because the answer is a secret."""
        return answers.parse_doc(self._send("POST", path, body=body), self.server.url)

    def put(self, path: str, body: Mapping[str, Any]) -> Doc:
        """Replace something."""
        return answers.parse_doc(self._send("PUT", path, body=body, again=True), self.server.url)

    def patch(self, path: str, body: Mapping[str, Any]) -> Doc:
        """Change something."""
        return answers.parse_doc(self._send("PATCH", path, body=body, again=True), self.server.url)

    def delete(self, path: str) -> None:
        """Remove something; what is gone when it is tried again was removed by the first try."""
        self._send("DELETE", path)

    @contextmanager
    def stream(self, path: str, *, silent_s: float) -> Iterator[Iterator[str]]:
        """Hold a stream of events open; gives its lines.  It is not begun again here."""
        headers = {"Accept": "text/event-stream"}
        try:
            with self._http.stream(
                "GET", path, headers=headers, timeout=_timeout(silent_s)
            ) as response:
                if response.status_code not in _OK:
                    raise self._problem(response, response.read())
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    raise answers.nonsense(self.server.url)
                yield response.iter_lines()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    # --- One request

    def _get(self, path: str, params: Params) -> bytes:
        return self._send("GET", path, params=params, again=True)

    def _send(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = False,
    ) -> bytes:
        """Send a request, again where that is harmless; gives the body of the answer."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        request = self._http.build_request(
            method, path, json=body, params=given or None, headers=headers,
            timeout=_timeout(LONG_S if method != "GET" or path.endswith("/info") else SILENT_S),
        )  # fmt: skip
        attempt = 1
        while True:
            wait_s, failure = 0.0, None
            try:
                response = self._http.send(request)
                if response.status_code in _OK:
                    return response.content
                failure = self._problem(response, response.content)
                if not (again and response.status_code in _AGAIN):
                    raise failure
                wait_s = _retry_after(response)
            except httpx.HTTPError as error:
                failure = self._unreachable(error)
                # Whoever waited that long does not want to wait as long again.
                once = _is_final(error) or isinstance(error, httpx.ReadTimeout)
                if once or not (again or _never_arrived(error)):
                    raise failure from error
            if attempt >= self._attempts:
                raise failure
            wait_s = min(max(wait_s, 2.0**attempt / 4), _LONGEST_WAIT_S)
            _LOG.info("%s %s: %s; again in %.1f s", method, path, failure, wait_s)
            clock.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            attempt += 1

    def _problem(self, response: httpx.Response, content: bytes) -> SendenseError:
        if response.status_code in _REDIRECTS:
            return answers.refused_redirect(self.server.url)
        return answers.problem_of(response.status_code, content, self.server.url)

    def _unreachable(self, error: Exception) -> SendenseError:
        """Give what went wrong on the way; the request, with its token, is in none of it."""
        url = self.server.url
        if isinstance(error, httpx.ConnectError) and _is_final(error):
            return Unavailable(
                f"{url} does not prove who it is: {_why(error)}",
                hint="name the authority that vouches for it with --ca-file",
            )
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            return Unavailable(
                f"{url} cannot be reached: {_why(error)}",
                hint="check the URL, the network, and whether the server runs",
            )
        if isinstance(error, httpx.TimeoutException):
            return Stalled(
                f"{url} did not answer in time", hint="its log, and its load, may say why"
            )
        return Unavailable(f"{url} broke the connection off: {_why(error)}", hint="try again")


def _timeout(silent_s: float) -> httpx.Timeout:
    return httpx.Timeout(connect=CONNECT_S, read=silent_s, write=SILENT_S, pool=CONNECT_S)


def _trusted(server: Server) -> ssl.SSLContext | bool:
    """Give who vouches for a server: always somebody."""
    if not server.encrypted:
        return True
    try:
        if server.ca_file is None:
            return ssl.create_default_context()
        return ssl.create_default_context(cafile=str(server.ca_file))
    except FileNotFoundError:
        raise NotFound(f"there is no {server.ca_file}", hint="check --ca-file") from None
    except (ssl.SSLError, OSError) as error:
        raise Rejected(
            f"{server.ca_file} does not hold certificates: {error.strerror or error}",
            hint="it is a file in PEM form",
        ) from error


def _never_arrived(error: Exception) -> bool:
    return isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))


def _is_final(error: Exception) -> bool:
    """Tell whether trying again changes nothing: a certificate does not become valid."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _why(error: Exception) -> str:
    return str(error).replace("\n", " ") or type(error).__name__


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else 0.0
