"""Bringing the database to the tables of this version, at every start.

Processes that start together take turns; each step is one transaction with its change, so that a
start that was killed is simply repeated.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text

from sendense.catalog.database import Database
from sendense.errors import Rejected

_FOLDER = Path(__file__).parent / "migrations"
_TURN = 0x53454E44
"""Of the advisory lock; any number that nobody else uses in this database."""


def migrate(database: Database, *, to: str = "head") -> None:
    """Bring a database to a revision."""
    with database.write() as connection:
        if database.kind == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
        config = _config()
        _refuse_newer(connection, config)
        config.attributes["connection"] = connection
        command.upgrade(config, to)


def revisions() -> tuple[str, ...]:
    """Give all revisions, oldest first."""
    script = ScriptDirectory.from_config(_config())
    return tuple(each.revision for each in script.walk_revisions())[::-1]


def current_revision(database: Database) -> str | None:
    """Give the revision that a database has; none where it is empty."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    # `%` begins an interpolation there.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _refuse_newer(connection: Connection, config: Config) -> None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None:
        return
    try:
        ScriptDirectory.from_config(config).get_revision(revision)
    except (CommandError, ResolutionError):
        raise Rejected(
            f"the catalogue was made by a newer version of Sendense (revision {revision})",
            hint="start that version, or restore the catalogue from before the upgrade",
        ) from None
