"""Brings a database's tables to this version, even while other processes do the same."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, column, inspect, select, table, text

from flows.ledger.errors import LedgerError, LedgerTooNew, place_of, translated
from flows.ledger.schema import REVISION, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = int.from_bytes(b"fstore", "big")
"""PostgreSQL's advisory locks are numbers; this one is ours."""


def upgrade(engine: Engine) -> None:
    """Runs the migrations that the database lacks, all in one transaction under a lock; others wait for it.

    Raises:
        LedgerTooNew: a newer version of the platform has migrated the database.
        LedgerUnavailable: it does not answer, or another process held the lock for too long.
    """
    place = place_of(engine.url)
    with translated(place):
        with engine.begin() as connection:
            if _revision(connection) == REVISION:
                return
        with engine.execution_options(writes=True).begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            _migrate(connection, place)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num", _selectable=table(VERSION_TABLE)))).scalar()


def _migrate(connection: Connection, place: str) -> None:
    from alembic import command  # takes as long to import as all the rest, and a ledger in use never needs it
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    revision = _revision(connection)
    if revision is not None and revision not in known:
        raise LedgerTooNew(
            f"the ledger at {place} is at revision {revision!r}, unknown to this version (its own is {REVISION!r}): "
            "a newer version has used it. Update this installation, or name another ledger in FSTORE_LEDGER_URL"
        )
    try:
        command.upgrade(config, REVISION)
    except CommandError as error:
        raise LedgerError(f"the ledger at {place} can't be brought to revision {REVISION!r}: {error}") from error
