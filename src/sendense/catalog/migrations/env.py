"""What Alembic runs to carry migrations out: inside the transaction that ``migrating`` opened."""

from __future__ import annotations

from alembic import context

from sendense.catalog.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite's changes of tables are part of transactions as well; Alembic assumes they are not.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
