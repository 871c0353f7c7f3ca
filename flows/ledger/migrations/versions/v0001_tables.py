"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=key, nullable=False)


def _whole(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.JSON(), nullable=False)


def _number() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True)


def _run() -> sa.Column[str]:
    return sa.Column("run", sa.Text(), sa.ForeignKey("ledger_runs.id", ondelete="CASCADE"), nullable=False)


def upgrade() -> None:
    fence = op.create_table(
        "ledger_fence",
        sa.Column("id", sa.Integer(), sa.CheckConstraint("id = 1", name="ledger_fence_is_one"), primary_key=True),
        _whole("token"),
    )
    op.bulk_insert(fence, [{"id": 1, "token": 0}])
    op.create_table(
        "ledger_leases",
        _text("symbol", key=True),
        _whole("token"),
        _text("owner"),
        _whole("until_us"),
        _whole("last_us"),
    )
    op.create_table(
        "ledger_watermarks",
        _text("symbol", key=True),
        _text("timeframe", key=True),
        _whole("event_us"),
        _whole("seen_us"),
        _text("recipe"),
    )
    op.create_table(
        "ledger_series",
        _text("symbol", key=True),
        _text("timeframe", key=True),
        _whole("first_us"),
        _whole("last_us"),
        _whole("listed_us"),
    )
    op.create_table(
        "ledger_runs",
        _text("id", key=True),
        _text("kind"),
        _text("flow_run"),
        _text("state"),
        _json("parameters"),
        _json("counts"),
        _json("problems"),
        _whole("started_us"),
        _whole("seen_us"),
        _whole("ended_us", nullable=True),
    )
    op.create_index("ix_ledger_runs_started_us", "ledger_runs", ["started_us"])
    op.create_table(
        "ledger_verdicts",
        _number(),
        _run(),
        _text("symbol"),
        _text("timeframe"),
        _text("kind"),
        sa.Column("passed", sa.Boolean(), nullable=False),
        _text("reason"),
        _whole("rows"),
        _whole("bad_rows"),
        _json("by_rule"),
        _whole("at_us"),
    )
    op.create_table(
        "ledger_revisions",
        _number(),
        _run(),
        _text("symbol"),
        _text("timeframe"),
        _text("table"),
        _whole("first_open_us"),
        _whole("last_open_us"),
        _whole("stored"),
        _whole("revised"),
        _whole("at_us"),
    )
    for events in ("ledger_verdicts", "ledger_revisions"):
        op.create_index(f"ix_{events}_run", events, ["run"])
        op.create_index(f"ix_{events}_at_us", events, ["at_us"])
        op.create_index(f"ix_{events}_symbol_at_us", events, ["symbol", "at_us"])
    op.create_table(
        "ledger_ingests",
        _text("symbol", key=True),
        _text("timeframe", key=True),
        _text("digest", key=True),
        _text("run"),
        _text("source"),
        _whole("rows"),
        _whole("at_us"),
    )
    op.create_table(
        "ledger_doubts", _text("symbol", key=True), _text("timeframe", key=True), _text("reason"), _whole("since_us")
    )
    op.create_table(
        "ledger_backfills",
        _text("key", key=True),
        _text("symbol", key=True),
        _text("timeframe", key=True),
        _whole("at_us"),
    )
    op.create_table(
        "ledger_alerts",
        _number(),
        _text("rule"),
        _text("subject"),
        _text("detail"),
        _whole("opened_us"),
        _whole("closed_us", nullable=True),
    )
    op.create_index("ix_ledger_alerts_opened_us", "ledger_alerts", ["opened_us"])
    is_open = sa.text("closed_us IS NULL")
    op.create_index(
        "ux_ledger_alerts_open",
        "ledger_alerts",
        ["rule", "subject"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
