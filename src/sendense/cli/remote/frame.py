"""The frame of a command that asks a server: its options, its client, and its end.

:func:`asks` is for these commands what :func:`sendense.cli.options.command` is for all others.  The
HTTP library is imported when a command runs, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.interrupts import Interrupts
from sendense.cli.options import ASKING, framed
from sendense.cli.output import Cell, Report
from sendense.cli.remote.sign_in import Asked, SignIn, find_sign_in
from sendense.cli.run import Run
from sendense.errors import Cancelled

if TYPE_CHECKING:
    from sendense.cli.remote.answers import Doc
    from sendense.cli.remote.client import Client
    from sendense.cli.remote.names import Names

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=0, help="Show at most so many; 0: all.")
]
Search = Annotated[
    str | None, typer.Option("--search", metavar="TEXT", help="Only with this in their name.")
]
SOME = 100
"""What a list shows unless it is told otherwise."""


class Remote:
    """One command that asks a server, under way."""

    def __init__(self, run: Run) -> None:
        """Ask nothing yet."""
        self.run = run
        self.options = run.options
        self.asked = Asked(
            run.options.server, run.options.token_file, run.options.ca_file, run.options.insecure
        )

    @cached_property
    def client(self) -> Client:
        """Give the way to the server."""
        sign_in = find_sign_in(self.asked, self.run.warn)
        return self.connect(sign_in)

    def connect(self, sign_in: SignIn) -> Client:
        """Give the way to a server that is named here; whoever calls closes it."""
        from sendense.cli.remote.client import Client

        return Client(sign_in.server, sign_in.token)

    @cached_property
    def names(self) -> Names:
        """Give the names behind the server's ids."""
        from sendense.cli.remote.names import Names

        return Names(self.client)

    def show(self, document: dict[str, Any], *parts: Any) -> None:
        """Write the result."""
        self.run.show(Report(document, parts))

    def note(self, text: Cell) -> None:
        """Say something that is no result."""
        self.run.note(text)

    def close(self) -> None:
        """Close what was opened."""
        if "client" in vars(self):
            self.client.close()


def asks(function: Callable[..., ExitCode | None]) -> Callable[..., None]:
    """Give a command the options of those that ask a server, and every error its end."""

    def act(run: Run, values: dict[str, Any]) -> ExitCode | None:
        remote = Remote(run)
        try:
            return function(remote, **values)
        except KeyboardInterrupt:
            raise Cancelled(
                "stopped before the server's answer was there",
                hint="what it was asked for may have been done: look before you ask again",
            ) from None
        finally:
            remote.close()

    return framed(function, ASKING, act, _interrupts)


def _interrupts() -> Interrupts:
    return Interrupts(
        first="no longer waiting; what the server does goes on", later="ending; please wait"
    )


class Taken:
    """The beginning of a long list, and whether there is more of it."""

    def __init__(self, items: Iterable[Doc], limit: int) -> None:
        """Read no more than is wanted, and one item to know whether there are more."""
        found: Iterator[Doc] = iter(items)
        self.items = list(found if limit == 0 else islice(found, limit))
        self.more = limit > 0 and next(found, None) is not None

    def document(self, name: str) -> dict[str, Any]:
        """Give the list as a document."""
        return {name: self.items, "more": self.more}

    def tell(self, remote: Remote) -> None:
        """Say that there is more."""
        if self.more and not remote.options.as_json:
            remote.note(
                f"these are the first {len(self.items)}; --limit 0 shows all, and filters fewer"
            )
