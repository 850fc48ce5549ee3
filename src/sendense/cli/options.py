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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from sendense.cli import failures
from sendense.cli.exitcodes import ExitCode
from sendense.cli.interrupts import Interrupts
from sendense.cli.progress import ProgressStyle
from sendense.cli.run import GlobalOptions, Root, Run
from sendense.errors import Rejected
from sendense.units import parse_size

T = TypeVar("T")
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
        help="Repository to use: URL, or name of the settings. (also SENDENSE_REPOSITORY)",
        rich_help_panel=_PANEL,
    ),
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="The passphrase of the repository. (also SENDENSE_PASSPHRASE_FILE)",
        rich_help_panel=_PANEL,
    ),
]
RecoveryKeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--recovery-key-file",
        metavar="FILE",
        help="Its recovery key instead. (also SENDENSE_RECOVERY_KEY_FILE)",
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

_SERVER_PANEL = "Options of every command that asks a server"

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Server to ask. (also SENDENSE_SERVER)",
        rich_help_panel=_SERVER_PANEL,
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="The token that says who asks. (also SENDENSE_TOKEN_FILE, SENDENSE_TOKEN)",
        rich_help_panel=_SERVER_PANEL,
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        "--ca-file",
        metavar="FILE",
        help="Authority that vouches for the server, in PEM form. (also SENDENSE_CA_FILE)",
        rich_help_panel=_SERVER_PANEL,
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Ask a server elsewhere without encryption.",
        rich_help_panel=_SERVER_PANEL,
    ),
]


def _global_parameters(
    *,
    as_json: JsonOption = False,
    repository: RepositoryOption = None,
    passphrase_file: PassphraseFileOption = None,
    recovery_key_file: RecoveryKeyFileOption = None,
    uri: UriOption = None,
    config: ConfigOption = None,
    progress: ProgressOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
    syslog: SyslogOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Exist for the signature alone."""


def _server_parameters(
    *,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Exist for the signature alone."""


_GLOBAL = list(inspect.signature(_global_parameters, eval_str=True).parameters.values())
_SERVER = list(inspect.signature(_server_parameters, eval_str=True).parameters.values())
_OF_ONE_HOST = {"repository", "passphrase_file", "recovery_key_file", "uri", "config"}
ASKING = (*_SERVER, *(item for item in _GLOBAL if item.name not in _OF_ONE_HOST))
"""The global options of commands that ask a server."""
_CONTEXT = inspect.Parameter(
    "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
)


def command(function: Callable[..., ExitCode | None]) -> Callable[..., None]:
    """Give a command the global options, and every error its end."""
    return framed(function, _GLOBAL, lambda run, values: function(run, **values))


def daemon(function: Callable[..., ExitCode | None]) -> Callable[..., None]:
    """Give the same to a program that runs until it is told to end."""

    def told() -> Interrupts:
        return Interrupts(
            first="ending; jobs that do not end within 30 s go on elsewhere or at the next start",
            later="still ending; please wait",
        )

    return framed(function, _GLOBAL, lambda run, values: function(run, **values), told)


def framed(
    function: Callable[..., ExitCode | None],
    shared: Sequence[inspect.Parameter],
    act: Callable[[Run, dict[str, Any]], ExitCode | None],
    interrupts: Callable[[], Interrupts] = Interrupts,
) -> Callable[..., None]:
    """Give a command its own options and the ``shared`` ones; ``act`` carries it out."""

    @functools.wraps(function)
    def frame(ctx: typer.Context, **values: Any) -> None:
        options = GlobalOptions(**{item.name: values.pop(item.name) for item in shared})
        root: Root = ctx.obj
        run = Run(root.options.overlaid(options), root.services)
        raise typer.Exit(execute(run, lambda: act(run, values), interrupts()))

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    _sign(frame, [_CONTEXT, *(item.replace(kind=item.KEYWORD_ONLY) for item in own), *shared])
    return frame


def taking(make: Callable[..., Any], into: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the options that ``make`` declares, and what it makes of them as ``into``.

    For options that several commands have: they are declared once, and stand where ``into`` does.
    """
    theirs = [
        item.replace(kind=item.KEYWORD_ONLY)
        for item in inspect.signature(make, eval_str=True).parameters.values()
    ]

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(function)
        def filled(*arguments: Any, **values: Any) -> T:
            values[into] = make(**{item.name: values.pop(item.name) for item in theirs})
            return function(*arguments, **values)

        own = inspect.signature(function, eval_str=True).parameters
        _sign(filled, [
            item for name, own_item in own.items()
            for item in (theirs if name == into else [own_item])
        ])  # fmt: skip
        return filled

    return decorate


def root_callback(function: Callable[[], None]) -> Callable[..., None]:
    """Give the program itself the global options, kept for the command that follows."""

    shared = [*_GLOBAL, *_SERVER]

    @functools.wraps(function)
    def frame(ctx: typer.Context, **values: Any) -> None:
        options = GlobalOptions(**{item.name: values.pop(item.name) for item in shared})
        ctx.obj = replace(ctx.obj or Root(), options=options)

    own = list(inspect.signature(function, eval_str=True).parameters.values())
    _sign(frame, [_CONTEXT, *(item.replace(kind=item.KEYWORD_ONLY) for item in own), *shared])
    return frame


def _sign(function: Callable[..., Any], parameters: list[inspect.Parameter]) -> None:
    """Make Typer see these parameters."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {item.name: item.annotation for item in parameters}


def execute(
    run: Run, action: Callable[[], ExitCode | None], interrupts: Interrupts | None = None
) -> ExitCode:
    """Run a command to its end, whatever that is; gives the exit code."""
    run.configure_log()
    with interrupts or Interrupts():
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
        finally:
            run.close()


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
