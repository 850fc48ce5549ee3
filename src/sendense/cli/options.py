"""The options that every command takes, and the frame that every command runs in.

A command is a function that takes a :class:`~sendense.cli.run.Run` and its own
options.  :func:`command` adds the global options to it, so that ``sendense
--json points list`` and ``sendense points list --json`` are the same, and gives
every error its end: a message, a hint and an exit code.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sendense.cli import failures
from sendense.cli.exitcodes import ExitCode
from sendense.cli.interrupts import Interrupts
from sendense.cli.progress import ProgressStyle
from sendense.cli.run import GlobalOptions, Root, Run
from sendense.errors import Rejected
from sendense.units import parse_size

_PANEL = "Options of every command"

JsonOption = Annotated[
    bool,
    typer.Option("--json", help="One JSON document as the result.", rich_help_panel=_PANEL),
]
RepositoryOption = Annotated[
    str | None,
    typer.Option(
        "--repository",
        "-r",
        metavar="URL",
        help="Repository to use. (also SENDENSE_REPOSITORY)",
        rich_help_panel=_PANEL,
    ),
]
UriOption = Annotated[
    str | None,
    typer.Option(
        "--uri",
        "-U",
        metavar="URI",
        help="libvirt of the host. (also SENDENSE_URI)",
        rich_help_panel=_PANEL,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. (also SENDENSE_CONFIG)",
        rich_help_panel=_PANEL,
    ),
]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        metavar="",
        show_default=False,
        help="Log the timeline; twice: everything, and tracebacks.",
        rich_help_panel=_PANEL,
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="No progress and no notes, only results and errors.",
        rich_help_panel=_PANEL,
    ),
]
SyslogOption = Annotated[
    bool, typer.Option("--syslog", help="Log to syslog.", rich_help_panel=_PANEL)
]
NoColorOption = Annotated[
    bool, typer.Option("--no-color", help="No colours (also NO_COLOR).", rich_help_panel=_PANEL)
]
ProgressOption = Annotated[
    ProgressStyle | None,
    typer.Option("--progress", help="How progress is shown.", rich_help_panel=_PANEL),
]


def _global_parameters(
    *,
    as_json: JsonOption = False,
    repository: RepositoryOption = None,
    uri: UriOption = None,
    config: ConfigOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    syslog: SyslogOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Exist for the signature alone."""


_GLOBAL = list(inspect.signature(_global_parameters, eval_str=True).parameters.values())
_CONTEXT = inspect.Parameter(
    "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
)


def command(function: Callable[..., ExitCode | None]) -> Callable[..., None]:
    """Give a command the global options, and every error its end."""

    @functools.wraps(function)
    def framed(ctx: typer.Context, **values: Any) -> None:
        options = GlobalOptions(**{item.name: values.pop(item.name) for item in _GLOBAL})
        root: Root = ctx.obj
        run = Run(root.options.overlaid(options), root.services)
        raise typer.Exit(execute(run, lambda: function(run, **values)))

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    _sign(framed, [_CONTEXT, *(item.replace(kind=item.KEYWORD_ONLY) for item in own), *_GLOBAL])
    return framed


def root_callback(function: Callable[[], None]) -> Callable[..., None]:
    """Give the program itself the global options, kept for the command that follows."""

    @functools.wraps(function)
    def framed(ctx: typer.Context, **values: Any) -> None:
        options = GlobalOptions(**{item.name: values.pop(item.name) for item in _GLOBAL})
        ctx.obj = replace(ctx.obj or Root(), options=options)

    own = list(inspect.signature(function, eval_str=True).parameters.values())
    _sign(framed, [_CONTEXT, *(item.replace(kind=item.KEYWORD_ONLY) for item in own), *_GLOBAL])
    return framed


def _sign(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Make Typer see these parameters."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {item.name: item.annotation for item in parameters}


def execute(run: Run, action: Callable[[], ExitCode | None]) -> ExitCode:
    """Run a command to its end, whatever that is; gives the exit code."""
    run.configure_log()
    with Interrupts():
        try:
            return action() or ExitCode.OK
        except BrokenPipeError:
            _forget_reader()
            return ExitCode.READER_GONE
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the edge: told, and counted
            try:
                return failures.report(error, run.output, traceback_too=run.options.verbose >= 2)
            except BrokenPipeError:
                _forget_reader()
                return failures.code_of(error)


def _forget_reader() -> None:
    """Keep the interpreter from failing once more when it flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def size(text: str) -> int:
    """Read the value of an option that is a size in bytes."""
    try:
        return parse_size(text)
    except Rejected as error:
        raise typer.BadParameter(f"{error.message}: {error.hint}") from error
