"""The quarantine's figures are the truth, however many rows it holds, and the newest rows of each rule are at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flask import Flask

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.series import Series
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.quarantine import DECISIONS
from flows.compute.rejected import quarantine_rows
from flows.ingest.release import discard
from flows.runs.store import store_quarantine
from fsclient.dashboard import Access, Sources
from fsclient.dashboard.pages import quality
from fsclient.dashboard.panels import quarantine as panel
from fsclient.dashboard.quarantine import MAX_ROWS_SHOWN, Quarantine
from tests.fsclient.dashboard.test_pages import bare, figures, show, text

NOW = datetime(2024, 6, 26, 12, 30, tzinfo=UTC)
MANY, FEW = 6_000, 3


def reject(tables: DeltaTables, rule: str, rows: int, now: datetime) -> None:
    """Puts so many hourly bars into quarantine, each of another hour."""
    opens = pd.date_range("2023-01-01", periods=rows, freq="h", tz="UTC").astype("datetime64[us, UTC]")
    bad = pd.DataFrame({
        "open_time": opens, "open": 1.1, "high": 1.05, "low": 1.0, "close": np.linspace(1.0, 1.05, rows), "volume": 1.0,
        "rule": rule, "rules": rule, "detail": "", "file": "bars.csv", "line": range(rows),
    })  # fmt: skip
    table = quarantine_rows(bad, kind="bars", timeframe=TIMEFRAMES["1h"], now=now)
    store_quarantine(tables, table, Series(symbol=SYMBOLS["EUR/USD"], timeframe=TIMEFRAMES["1h"]))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A home with an old rule that few rows broke and a new one that many did; two rows are discarded."""
    sources = bare(tmp_path_factory.mktemp("quarantine"))
    tables = DeltaTables(sources.repo.offline, sources.repo.storage_options)
    reject(tables, "low_above_close", FEW, NOW - timedelta(days=9))
    reject(tables, "high_below_open", MANY, NOW)
    discard(Quarantine(tables).rows()[:2], by="ada", tables=tables, now=NOW + timedelta(minutes=1))
    return sources


def test_every_row_is_counted(sources: Sources) -> None:
    assert sources.quarantine.counts() == {
        ("high_below_open", None): MANY - 2,
        ("high_below_open", "discarded"): 2,
        ("low_above_close", None): FEW,
    }


def test_the_page_shows_the_true_figures(sources: Sources) -> None:
    page = show(quality, sources)
    assert f"In quarantine {MANY + FEW:,} {MANY + FEW - 2:,} waiting, 2 rules" in text(page)
    assert f"the newest {MAX_ROWS_SHOWN} of {MANY + FEW - 2:,} rows" in text(page)
    (rules,) = figures(page)["quality-rules-chart"]["data"]
    assert dict(zip(rules["y"], rules["x"], strict=True)) == {"high_below_open": MANY, "low_above_close": FEW}


def test_the_newest_rows_of_each_rule_and_decision_are_at_hand(sources: Sources) -> None:
    rows = sources.quarantine.rows()
    assert [row.created for row in rows] == sorted((row.created for row in rows), reverse=True)
    assert Counter((row.rule, row.decision) for row in rows) == {
        ("high_below_open", None): MAX_ROWS_SHOWN,
        ("high_below_open", "discarded"): 2,
        ("low_above_close", None): FEW,
    }
    newest = max(row.open_time for row in rows if row.open_time)
    assert newest == datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=MANY - 1)


@pytest.mark.parametrize("state", ["waiting", *DECISIONS, "all"])
def test_a_rule_that_few_rows_broke_long_ago_is_listed(sources: Sources, state: str) -> None:
    content, rules = panel.rows(sources, state, "low_above_close")
    assert rules == ["high_below_open", "low_above_close"]
    assert ("3 rows" in text(content)) == (state in ("waiting", "all"))


def test_an_old_row_can_be_chosen_and_decided(sources: Sources) -> None:
    decided: list[Any] = []

    class Machinery:
        def discard_quarantined(self, rows: Sequence[Any], *, by: str) -> int:
            assert by == "dashboard"
            decided.extend(rows)
            return len(rows)

    operations: Any = Machinery()
    able = replace(sources, operations=operations, access=Access(key="a-long-enough-key", open_to_see=True))
    ids = [row.id for row in able.quarantine.rows() if row.rule == "low_above_close"]
    with Flask("a dashboard").test_request_context():
        assert panel.decide(able, ids, "a-long-enough-key", "discarded") == "3 rows discarded."
    assert [row.rule for row in decided] == ["low_above_close"] * FEW
