"""``sendense server`` and ``sendense worker``: the control plane, and more hands for it."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.options import daemon
from sendense.cli.output import Report
from sendense.cli.run import Run
from sendense.errors import Unavailable
from sendense.model.secret import Secret

_LOG = logging.getLogger(__name__)
_LOOK_S = 1.0


def register(app: typer.Typer) -> None:
    """Put the commands into the program."""
    app.command("server")(serve)
    app.command("worker")(work)


@daemon
def serve(
    run: Run,
    new_token: Annotated[
        bool,
        typer.Option(
            "--new-admin-token",
            help="Print a new token of the user admin and end: for whoever has lost all others.",
        ),
    ] = False,
) -> ExitCode:
    """Run the control plane until SIGTERM; the first start prints one administrator's token."""
    # Here, because no other command needs them, and they take half a second to import.
    from sendense import clock
    from sendense.api.first_run import administrator_token, first_run
    from sendense.server.control_plane import ControlPlane, open_estate
    from sendense.server.serving import ApiServer
    from sendense.server.settings import load_server_settings

    settings = load_server_settings()
    if new_token:
        estate = open_estate(settings, run.settings)
        token = administrator_token(estate.catalog, "from the server's machine")
        run.show(_token(token))
        return ExitCode.OK
    with ControlPlane(settings, run.settings) as plane, ApiServer(settings, plane) as api:
        first_run(plane.catalog, lambda token: run.show(_token(token)))
        run.output.note(f"serving on {settings.listen}; agents dial {settings.gateway_listen}")
        try:
            while api.running:
                clock.sleep(_LOOK_S)
        except KeyboardInterrupt:
            _LOG.info("asked to end")
            return ExitCode.OK
    raise Unavailable("the API ended by itself", hint="read the log of the server")


def _token(token: Secret) -> Report:
    text = token.reveal().decode()
    return Report(
        {"user": "admin", "token": text}, [f"token of the user admin, shown this once: {text}"]
    )


@daemon
def work(
    run: Run,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Its own among all workers; the machine's by default."
        ),
    ] = None,
) -> ExitCode:
    """Carry out jobs of the control plane on this machine, until SIGTERM."""
    from sendense.jobs.worker import run_worker
    from sendense.server.control_plane import open_estate, worker_settings
    from sendense.server.handlers import Handlers
    from sendense.server.settings import load_server_settings

    settings = load_server_settings()
    estate = open_estate(settings, run.settings)
    try:
        run_worker(worker_settings(settings, name), estate.catalog, Handlers(estate))
    finally:
        estate.close()
    return ExitCode.OK
