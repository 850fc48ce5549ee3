"""The way in: puts the commands together, and ends the process with their exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from sendense import __version__
from sendense.cli import (
    backup,
    copy,
    failures,
    holds,
    host,
    mount,
    points,
    prune,
    repo,
    restore,
    server,
    verify,
    vm,
)
from sendense.cli.exitcodes import ExitCode, epilog
from sendense.cli.later import Program
from sendense.cli.options import root_callback
from sendense.cli.output import Output
from sendense.cli.run import Root, Services
from sendense.errors import Cancelled, Rejected

app = typer.Typer(
    name="sendense",
    # With the commands that ask a server.
    cls=Program,
    help="Backup and restore of virtual machines on KVM.",
    epilog=epilog(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
holds.register(points.app)
for group in (vm.app, repo.app, points.app):
    app.add_typer(group)
for module in (backup, restore, mount, copy, verify, prune, host, server):
    module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sendense {__version__}")
        raise typer.Exit


@app.callback()
@root_callback
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_show_version, is_eager=True, help="Show our version."
        ),
    ] = False,
) -> None:
    pass


def run(arguments: Sequence[str], services: Services | None = None) -> int:
    """Run one command line; gives the exit code."""
    root = Root(services or Services())
    try:
        code = app(args=list(arguments), prog_name="sendense", standalone_mode=False, obj=root)
        return int(code or 0)
    except typer.TyperException as error:
        return _reject(error, as_json="--json" in arguments)
    except typer.Abort:
        # End of input at a question.
        return _fail(Cancelled("no answer was given; nothing was done"), arguments)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the edge: told, and counted
        return _fail(error, arguments)


def main() -> None:
    """Run the command line of this process."""
    end(run(sys.argv[1:]))


def end(code: int) -> NoReturn:
    """End the process, after what was written went out."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Nothing is left to flush at exit.
        sys.stdout = None
        code = code or ExitCode.READER_GONE
    sys.exit(code)


def _reject(error: typer.TyperException, *, as_json: bool) -> int:
    """Tell of a command line that cannot be understood."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message(), err=True)
        return ExitCode.REJECTED
    context = getattr(error, "ctx", None)
    hint = f"'{context.command_path} --help' lists its options" if context else None
    return failures.report(
        Rejected(error.format_message(), hint=hint),
        Output(as_json=as_json, quiet=False, color=True),
    )


def _fail(error: BaseException, arguments: Sequence[str]) -> int:
    output = Output(as_json="--json" in arguments, quiet=False, color=True)
    return failures.report(error, output, traceback_too="-vv" in arguments)
