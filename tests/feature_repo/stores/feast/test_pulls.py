"""What Feast materializes from, and what is online then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from feast import FeatureStore

from feature_repo import catalog, definitions
from feature_repo.repo import Repo
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.offline import BarOfflineStore
from feature_repo.stores.window import newest_windows
from tests.feature_repo.stores.rows import rounded, write

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, US = timedelta(hours=1), timedelta(microseconds=1)
CLOSE = JANUARY + HOUR  # of the first bar of an hour
MakeRows = Callable[..., pa.Table]


# ------------------------------------------------------------------------------------------------------ pulling

FIELDS = ["close", "open"]
PULL = {
    "latest": BarOfflineStore.pull_latest_from_table_or_query,
    "all": BarOfflineStore.pull_all_from_table_or_query,
}


def pull(
    how: str, feature_store: FeatureStore, start: Any, end: Any, view: str = "ohlcv_1h", created: str | None = "created"
) -> pa.Table:
    fields = FIELDS if "indicators" not in view else ["sma_5"]
    source = definitions.sources[view]
    return PULL[how](
        feature_store.config, source, ["symbol"], fields, "event_timestamp", created, start, end
    ).to_arrow()


@pytest.fixture
def two_symbols(tables: DeltaTables, make_rows: MakeRows) -> DeltaTables:
    """EUR/USD has five bars, the fourth revised; GBP/USD the first two only."""
    write(tables, make_rows, "EUR/USD", n=5)
    write(tables, make_rows, "GBP/USD", n=2, value=100.0)
    write(tables, make_rows, "EUR/USD", start=JANUARY + 3 * HOUR, value=50.0, created=JANUARY + timedelta(days=9))
    return tables


def test_pull_latest_gives_the_newest_bar_of_each_symbol_in_the_span(
    feature_store: FeatureStore, two_symbols: DeltaTables
) -> None:
    rows = pull("latest", feature_store, CLOSE, CLOSE + 3 * HOUR)  # both ends inclusive
    assert rows.column_names == ["symbol", "close", "open", "event_timestamp", "created"]
    assert rows["symbol"].to_pylist() == ["EUR/USD", "GBP/USD"]
    assert rounded(rows["close"].to_pylist()) == [50.003, 101.003]
    assert rows["event_timestamp"].to_pylist() == [CLOSE + 3 * HOUR, CLOSE + HOUR]
    assert rows["created"].to_pylist()[0] == JANUARY + timedelta(days=9)
    assert pull("latest", feature_store, CLOSE + 2 * HOUR, CLOSE + 9 * HOUR)["symbol"].to_pylist() == ["EUR/USD"]
    assert rounded(pull("latest", feature_store, CLOSE, CLOSE + HOUR - US)["close"].to_pylist()) == [0.003, 100.003]


def test_pull_all_gives_every_bar_of_the_span_once(feature_store: FeatureStore, two_symbols: DeltaTables) -> None:
    rows = pull("all", feature_store, CLOSE + HOUR, CLOSE + 3 * HOUR)
    assert rows["symbol"].to_pylist() == ["EUR/USD"] * 3 + ["GBP/USD"]
    assert rounded(rows["close"].to_pylist()) == [1.003, 2.003, 50.003, 101.003]
    assert pull("all", feature_store, None, None).num_rows == 7


@pytest.mark.parametrize("how", ["latest", "all"])
def test_pulled_windows_are_the_newest(feature_store: FeatureStore, two_symbols: DeltaTables, how: str) -> None:
    rows = pull(how, feature_store, CLOSE, CLOSE + 3 * HOUR, "window_1h")
    assert rows["symbol"].to_pylist() == ["EUR/USD", "GBP/USD"]
    assert [rounded(v) for v in rows["close"].to_pylist()] == [[0.003, 1.003, 2.003, 50.003], [100.003, 101.003]]
    assert rows["event_timestamp"].to_pylist() == [CLOSE + 3 * HOUR, CLOSE + HOUR]
    assert rows["created"].to_pylist()[0] == JANUARY + timedelta(days=9)
    late = pull(how, feature_store, CLOSE + 2 * HOUR, CLOSE + 9 * HOUR, "window_1h")
    assert late["symbol"].to_pylist() == ["EUR/USD"]


@pytest.mark.parametrize("how", ["latest", "all"])
@pytest.mark.parametrize("view", ["ohlcv_1h", "indicators_1h", "window_1h"])
def test_nothing_to_pull(feature_store: FeatureStore, tables: DeltaTables, how: str, view: str) -> None:
    rows = pull(how, feature_store, CLOSE, CLOSE + HOUR, view, created=None)
    assert rows.num_rows == 0
    assert "created" not in rows.column_names


def test_pull_latest_reads_no_wide_column_of_the_past(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tables, make_rows, n=100)
    read, reads = DeltaTables.read, []

    def spy(self: DeltaTables, *arguments: Any, **options: Any) -> pa.Table:
        rows = read(self, *arguments, **options)
        reads.append((rows.num_rows, "sma_5" in rows.column_names))
        return rows

    monkeypatch.setattr(DeltaTables, "read", spy)
    assert pull("latest", feature_store, CLOSE, CLOSE + 999 * HOUR, "indicators_1h").num_rows == 1
    assert reads == [(100, False), (1, True)]


# -------------------------------------------------------------------------------------------------- materialize


def online(feature_store: FeatureStore, symbols: Sequence[str], view: str) -> dict[str, list[Any]]:
    refs = [f"{view}:{name}" for name in catalog.VIEWS[view].fields]
    return feature_store.get_online_features(refs, [{"symbol": s} for s in symbols]).to_dict()


def test_materialize_publishes_the_newest_bars(
    feature_store: FeatureStore, redis: Any, two_symbols: DeltaTables, make_rows: MakeRows, repo: Repo
) -> None:
    views = ["ohlcv_1h", "indicators_1h", "window_1h"]
    symbols = ["GBP/USD", "EUR/USD"]
    feature_store.materialize(JANUARY, CLOSE + 3 * HOUR, views)  # and not the fifth bar
    for values, names, view in ((50.0, catalog.BAR_FIELDS, "ohlcv_1h"), (50.0, catalog.INDICATOR_FIELDS, views[1])):
        columns = online(feature_store, symbols, view)
        for k, name in enumerate(names):
            assert rounded(columns[name]) == [round(101 + k / 1000, 3), round(values + k / 1000, 3)]
    windows = newest_windows(two_symbols, catalog.timeframe("1h"), end=JANUARY + 3 * HOUR)
    columns = online(feature_store, symbols, "window_1h")
    for name in catalog.WINDOW_FIELDS:
        assert columns[name] == [windows[symbol].columns[name].tolist() for symbol in symbols]

    feature_store.materialize(JANUARY, CLOSE + 9 * HOUR, views)
    assert rounded(online(feature_store, symbols, "ohlcv_1h")["close"]) == [101.003, 4.003]
    write(two_symbols, make_rows, "EUR/USD", start=JANUARY + 4 * HOUR, value=70.0, created=JANUARY + timedelta(days=99))
    feature_store.materialize(JANUARY, CLOSE + 9 * HOUR, views)  # the same bar, corrected
    assert rounded(online(feature_store, symbols, "ohlcv_1h")["close"]) == [101.003, 70.003]
    assert rounded(online(feature_store, symbols, "indicators_1h")["sma_5"]) == [101.0, 70.0]
    assert rounded(online(feature_store, symbols, "window_1h")["close"][1])[-1] == 70.003
    feature_store.materialize(JANUARY, CLOSE, views)  # an older bar again
    assert rounded(online(feature_store, symbols, "ohlcv_1h")["close"]) == [101.003, 70.003]


def test_a_symbol_alone_is_materialized_from_many_months(
    feature_store: FeatureStore, redis: Any, tables: DeltaTables, make_rows: MakeRows
) -> None:
    for table in ("bars", "indicators"):
        days = [JANUARY + timedelta(days=30 * k) for k in range(4)]
        tables.append(table, pa.concat_tables(make_rows(table, start=d, value=float(d.month)) for d in days))  # type: ignore[arg-type]
    feature_store.materialize(JANUARY, JANUARY + timedelta(days=120), ["ohlcv_1h", "indicators_1h", "window_1h"])
    assert rounded(online(feature_store, ["EUR/USD"], "ohlcv_1h")["close"]) == [3.003]
    assert rounded(online(feature_store, ["EUR/USD"], "indicators_1h")["sma_5"]) == [3.0]
    assert rounded(online(feature_store, ["EUR/USD"], "window_1h")["close"][0]) == [1.003, 1.003, 3.003, 3.003]


def test_what_is_not_known_is_materialized_as_null(
    feature_store: FeatureStore, redis: Any, tables: DeltaTables, make_rows: MakeRows
) -> None:
    rows = make_rows("bars", n=2)
    rows = rows.set_column(rows.schema.get_field_index("volume"), "volume", pa.nulls(2, pa.float64()))
    tables.append("bars", rows)
    tables.append("indicators", make_rows("indicators", n=2))
    feature_store.materialize(JANUARY, CLOSE + HOUR, ["ohlcv_1h", "window_1h"])
    assert online(feature_store, ["EUR/USD"], "ohlcv_1h")["volume"] == [None]
    assert np.isnan(online(feature_store, ["EUR/USD"], "window_1h")["volume"][0]).tolist() == [True, True]
