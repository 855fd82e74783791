"""Alembic's entry point: run revisions on the connection that `stream.database.migration` opened and locked."""

from alembic import context

from stream.database.schema import METADATA, is_managed

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations need a database connection: run `foreshock db upgrade`")
context.configure(
    connection=connection,
    target_metadata=METADATA,
    include_name=is_managed,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
