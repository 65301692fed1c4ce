"""Alembic's way in. Only ever called with an open connection by `store.database`."""

from __future__ import annotations

from alembic import context

from gengfu_collector.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
    # SQLite can undo a change of schema; a start that is killed half-way leaves nothing behind.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
