"""What Alembic runs: the migrations, on the connection and inside the transaction of its caller."""

from alembic import context

from flows.ledger.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
context.run_migrations()
