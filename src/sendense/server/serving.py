"""Serving the API: the last to start, and the first to stop."""

from __future__ import annotations

import logging
import ssl
import threading
from types import TracebackType
from typing import Self

import uvicorn

from sendense import clock
from sendense.api.app import create_app
from sendense.api.logins import Logins
from sendense.api.services import CatalogQueue, Services
from sendense.errors import Rejected, Unavailable
from sendense.server.cloud_doors import CloudDoors
from sendense.server.control_plane import ControlPlane, worker_settings
from sendense.server.doors import HostDoors, RepositoryDoors, RestoreDoors
from sendense.server.settings import ServerSettings, address_of

log = logging.getLogger(__name__)

_START_S = 30.0
_END_S = 10
_MEND_CHAIN = "both are PEM, the key without a passphrase; docs/server.md"


def logins_of(settings: ServerSettings) -> Logins:
    """Give who may sign in with what a cloud knows, and for how long it counts."""
    return Logins(
        lasts_s=settings.cloud_login_hours * 3600, passwords=settings.cloud_login_passwords
    )


class ApiServer:
    """uvicorn in a thread of its own, from entering the block to leaving it."""

    def __init__(self, settings: ServerSettings, plane: ControlPlane) -> None:
        """Serve what the control plane has."""
        _require_chain(settings)
        host, port = address_of(settings.listen)
        services = Services(
            catalog=plane.catalog,
            queue=CatalogQueue(plane.catalog, plane.jobs.wake),
            repositories=RepositoryDoors(plane.estate),
            hosts=HostDoors(plane),
            clouds=CloudDoors(plane.estate, plane.cloud_watch.hint),
            restores=RestoreDoors(plane.estate),
            limits=worker_settings(settings).jobs.limits,
            logins=logins_of(settings),
        )
        self._address = settings.listen
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(services),
                host=host,
                port=port,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_END_S,
            )
        )
        self._ended_by: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)

    def __enter__(self) -> Self:
        """Start, and wait until it listens."""
        self._thread.start()
        deadline = clock.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or clock.monotonic() > deadline:
                why = f": {self._ended_by}" if self._ended_by else ""
                raise Unavailable(
                    f"the API cannot be served on {self._address}{why}",
                    hint="another program may listen there; set listen (SENDENSE_SERVER_LISTEN)",
                )
            clock.sleep(0.02)
        log.info("the API is served on %s", self._address)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Answer what is under way, for some seconds, and end."""
        self._server.should_exit = True
        self._thread.join()

    @property
    def running(self) -> bool:
        """Tell whether it still serves."""
        return self._thread.is_alive()

    def _serve(self) -> None:
        try:
            self._server.run()
        except SystemExit as end:
            # uvicorn logs what kept it from listening, and exits in the handling of it.
            self._ended_by = end.__context__


def _require_chain(settings: ServerSettings) -> None:
    """Refuse a certificate or a key that TLS cannot use, before anything listens."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return
    for name, file in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            file.open("rb").close()
        except OSError as error:
            raise Rejected(
                f"{name}: {file} cannot be read: {error.strerror or error}", hint=_MEND_CHAIN
            ) from error
    try:
        # An empty password: a key that wants one is refused, and not asked for at a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise Rejected(
            f"tls_certificate {certificate} and tls_key {key} are no certificate chain "
            f"and its private key: {getattr(error, 'reason', None) or error}",
            hint=_MEND_CHAIN,
        ) from error
