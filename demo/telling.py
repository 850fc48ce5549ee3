"""What all stories of the demo share: scenes, commands as they would be typed, and their end.

A story runs the ``sendense`` command line as an operator would and shows what it prints.  What does
not hold ends it with an error.  However it ends, what it began is ended and removed: the labs are
context managers, and the signals that end a program arrive as exceptions (:func:`once`).
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

SENDENSE = Path(sys.executable).with_name("sendense")
WIDTH = 140
LONG = 80
"""Words that nobody types are not shown whole: keys of clouds."""
T = TypeVar("T")


@dataclass(frozen=True)
class Person:
    """Who types: another user of the same machine has another environment."""

    prompt: str = "$"
    environment: Mapping[str, str | None] = field(default_factory=dict)
    """What is other than the operator's; none: it is not set."""

    def over(self, usual: Mapping[str, str]) -> dict[str, str]:
        """Give the environment of what this person runs."""
        both = {**usual, **self.environment}
        return {name: value for name, value in both.items() if value is not None}


OPERATOR = Person()


class Telling:
    """One telling of a story."""

    def __init__(self, console: Console, folder: Path) -> None:
        """Type in a folder, and keep there what processes say."""
        self.console = console
        self.folder = folder
        self.environment: dict[str, str] = {**os.environ, "COLUMNS": str(WIDTH)}
        self.began = time.monotonic()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def seconds(self) -> float:
        """How long it lasts so far."""
        return time.monotonic() - self.began

    def scene(self, title: str) -> None:
        """Begin a scene."""
        self.say(f"\n[bold cyan]{title}[/] [dim]({self.seconds:.0f} s)[/]")

    def say(self, text: str) -> None:
        """Print a line of the story."""
        self.console.print(text, highlight=False)

    def show(self, text: str) -> None:
        """Print what a program said, as it said it."""
        self.console.print(text.rstrip(), markup=False, highlight=False)

    def sendense(self, *arguments: str, fails: bool = False, who: Person = OPERATOR) -> None:
        """Run the command line and show what it says, as it says it; an error ends the demo."""
        self.typed(arguments, who)
        process = subprocess.Popen(
            [str(SENDENSE), *arguments, "--progress", "off"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=who.over(self.environment),
        )
        with process:
            for line in process.stdout or ():
                self.show(line)
        if process.returncode != 0 and not fails:
            raise SystemExit(f"sendense {arguments[0]} ended with {process.returncode}")

    def refused(self, *arguments: str, who: Person = OPERATOR) -> None:
        """Run the command line for something that must not be possible."""
        self.typed(arguments, who)
        result = self._silent(arguments, who)
        self.show(result.stdout + result.stderr)
        if result.returncode == 0:
            raise SystemExit(f"sendense {arguments[0]} should have been refused")

    def into(self, name: str, *arguments: str) -> str:
        """Run the command line with what it says in a file; give that."""
        self.typed((*arguments, ">", name))
        result = self._silent(arguments, OPERATOR)
        if result.returncode != 0:
            raise SystemExit(f"sendense {' '.join(arguments)}: {result.stderr}")
        (self.folder / name).write_text(result.stdout)
        return result.stdout

    def ask(self, *arguments: str, who: Person = OPERATOR) -> Any:  # noqa: ANN401 - a document
        """Run the command line for its document, and show nothing."""
        result = self._silent([*arguments, "--json"], who)
        if result.returncode != 0:
            raise SystemExit(f"sendense {' '.join(arguments)}: {result.stdout}{result.stderr}")
        return json.loads(result.stdout)

    def _silent(
        self, arguments: list[str] | tuple[str, ...], who: Person
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SENDENSE), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=who.over(self.environment),
        )

    def typed(self, arguments: tuple[str, ...], who: Person = OPERATOR) -> None:
        """Show a command as it is typed."""
        short = [word if len(word) < LONG else f"{word[:9]}..." for word in arguments]
        words = " ".join(word if word == ">" else shlex.quote(word) for word in short)
        self.console.print(
            f"{who.prompt} sendense {words}", style="bold", markup=False, highlight=False
        )

    # --- Processes that stay

    def start(self, name: str, *arguments: str) -> None:
        """Start a command of ours as a process; it ends with the story."""
        with (
            (self.folder / f"{name}.out").open("wb") as out,
            (self.folder / f"{name}.log").open("wb") as log,
        ):
            self.processes[name] = subprocess.Popen(
                [SENDENSE, *arguments, "-v"], stdout=out, stderr=log, env=self.environment
            )
        self.say(f"[bold]$ sendense {' '.join(arguments)} &[/]")

    def stop(self) -> None:
        """End what was started."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_server(self) -> None:
        """Start the control plane; keep the token that is printed once."""
        self.start("server", "server", "--json")
        out = self.folder / "server.out"
        self.wait_for("the server", lambda: out.exists() and out.read_text().endswith("}\n"))
        self.secret("token", json.loads(out.read_text())["token"])

    def secret(self, name: str, text: str) -> Path:
        """Write a secret to a file of its own."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def wait_for(self, what: str, look: Callable[[], T], within_s: float = 120) -> T:
        """Wait until something is there."""
        deadline = time.monotonic() + within_s
        while not (found := look()):
            dead = [name for name, one in self.processes.items() if one.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
                ended = f" ({', '.join(dead)} ended)" if dead else ""
                raise SystemExit(f"{what} did not come in {within_s:.0f} s{ended}\n{logs}")
            time.sleep(0.3)
        return found


@contextmanager
def once(console: Console) -> Iterator[None]:
    """Have a story end by Ctrl-C or SIGTERM as by an error: what it began is ended first.

    Another Ctrl-C while that goes on is not heard, so that nothing is left behind.
    """

    def end(_number: int, _frame: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        console.print("\nEnding: machines, hosts and the server are taken down.", style="bold")
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
