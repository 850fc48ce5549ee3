"""``python -m sendense.agent --config FILE``: the agent as a service."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from sendense import __version__
from sendense.agent.daemon import Daemon
from sendense.agent.settings import DEFAULT_FILE, load_settings
from sendense.agent.wiring import parts
from sendense.capture.probe import prepare_folders
from sendense.errors import SendenseError

_WRONG = 2


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the agent; gives its exit code."""
    parser = argparse.ArgumentParser(prog="sendense-capture-agent", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_FILE, help="settings file")
    parser.add_argument("--check", action="store_true", help="only read the settings")
    parser.add_argument(
        "--prepare", action="store_true", help="only make the directories that captures work in"
    )
    parser.add_argument("--version", action="version", version=__version__)
    options = parser.parse_args(arguments)
    try:
        if options.check or options.prepare:
            settings = load_settings(options.config)
            made = prepare_folders(settings.host()) if options.prepare else ()
            sys.stdout.writelines(f"{line}\n" for line in made)
            return 0
        Daemon(options.config, parts()).run()
    except SendenseError as error:
        hint = f" ({error.hint})" if error.hint else ""
        sys.stderr.write(f"sendense-capture-agent: {error.message}{hint}\n")
        return _WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main())
