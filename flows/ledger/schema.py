"""The ledger's tables. A change here needs a migration in ``migrations/versions``; a test compares the two."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.engine import Dialect

REVISION = "0001"
"""The migration that makes these tables."""

VERSION_TABLE = "ledger_version"
"""Where a database says which migration it is at; not Alembic's usual name, which Prefect has in a shared database."""


class Whole(TypeDecorator[int]):
    """A 64-bit whole number. NumPy's are taken too, which SQLite would else store as their bytes; a float is not."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 - the library's signature
        return None if value is None else operator.index(value)


class Document(TypeDecorator[Any]):
    """A JSON document, of any mappings, sequences and sets; what JSON has no word for (paths, dates) as its text."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return json.loads(json.dumps(value, default=_plain, allow_nan=False))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


METADATA = MetaData()


def _number() -> Column[int]:
    # SQLite numbers rows by itself only in a column that is declared INTEGER.
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _run() -> Column[str]:
    return Column("run", Text, ForeignKey("ledger_runs.id", ondelete="CASCADE"), nullable=False, index=True)


FENCE = Table(
    "ledger_fence",  # one row: the highest token ever given
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="ledger_fence_is_one"), primary_key=True),
    Column("token", Whole, nullable=False),
)
LEASES = Table(
    "ledger_leases",
    METADATA,
    Column("symbol", Text, primary_key=True),
    Column("token", Whole, nullable=False),
    Column("owner", Text, nullable=False),
    Column("until_us", Whole, nullable=False),  # 0: released
    Column("last_us", Whole, nullable=False),  # the latest moment that the symbol's revisions were stamped with
)
WATERMARKS = Table(
    "ledger_watermarks",
    METADATA,
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("event_us", Whole, nullable=False),
    Column("seen_us", Whole, nullable=False),
    Column("recipe", Text, nullable=False),
)
SERIES = Table(
    "ledger_series",  # found again from the bars when it is lost
    METADATA,
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("first_us", Whole, nullable=False),
    Column("last_us", Whole, nullable=False),
    Column("listed_us", Whole, nullable=False),
)
RUNS = Table(
    "ledger_runs",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("flow_run", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("parameters", Document, nullable=False),
    Column("counts", Document, nullable=False),
    Column("problems", Document, nullable=False),
    Column("started_us", Whole, nullable=False, index=True),
    Column("seen_us", Whole, nullable=False),
    Column("ended_us", Whole),
)
VERDICTS = Table(
    "ledger_verdicts",
    METADATA,
    _number(),
    _run(),
    Column("symbol", Text, nullable=False),
    Column("timeframe", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("rows", Whole, nullable=False),
    Column("bad_rows", Whole, nullable=False),
    Column("by_rule", Document, nullable=False),
    Column("at_us", Whole, nullable=False, index=True),
    Index("ix_ledger_verdicts_symbol_at_us", "symbol", "at_us"),
)
REVISIONS = Table(
    "ledger_revisions",
    METADATA,
    _number(),
    _run(),
    Column("symbol", Text, nullable=False),
    Column("timeframe", Text, nullable=False),
    Column("table", Text, nullable=False),
    Column("first_open_us", Whole, nullable=False),
    Column("last_open_us", Whole, nullable=False),
    Column("stored", Whole, nullable=False),
    Column("revised", Whole, nullable=False),
    Column("at_us", Whole, nullable=False, index=True),
    Index("ix_ledger_revisions_symbol_at_us", "symbol", "at_us"),
)
INGESTS = Table(
    "ledger_ingests",  # outlives the run that it names
    METADATA,
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("run", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("rows", Whole, nullable=False),
    Column("at_us", Whole, nullable=False),
)
DOUBTS = Table(
    "ledger_doubts",
    METADATA,
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since_us", Whole, nullable=False),
)
BACKFILLS = Table(
    "ledger_backfills",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("symbol", Text, primary_key=True),
    Column("timeframe", Text, primary_key=True),
    Column("at_us", Whole, nullable=False),
)
ALERTS = Table(
    "ledger_alerts",
    METADATA,
    _number(),
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("opened_us", Whole, nullable=False, index=True),
    Column("closed_us", Whole),
)
IS_OPEN = text("closed_us IS NULL")
Index(
    "ux_ledger_alerts_open",  # an incident is open once, no matter how many notice it
    ALERTS.c.rule,
    ALERTS.c.subject,
    unique=True,
    sqlite_where=IS_OPEN,
    postgresql_where=IS_OPEN,
)
