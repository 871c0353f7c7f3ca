"""Historical joins as Feast asks for them: no lookahead, rows and columns as they are, windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast.errors import EntityTimestampInferenceException

from feature_repo import catalog
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.window import newest_windows
from tests.feature_repo.stores.rows import rounded, write

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR, US = timedelta(hours=1), timedelta(microseconds=1)
CLOSE = JANUARY + HOUR  # of the first bar of an hour
MakeRows = Callable[..., pa.Table]


def entities(*rows: tuple[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame({"symbol": [r[0] for r in rows], "event_timestamp": [r[1] for r in rows]})


def history(
    feature_store: FeatureStore, entity_df: Any, features: Sequence[str] = ("ohlcv_1h:close",), **options: Any
) -> pd.DataFrame:
    return feature_store.get_historical_features(entity_df, list(features), **options).to_df()


def asof(feature_store: FeatureStore, *moments: datetime, by_created: bool = False) -> list[float | None]:
    rows = entities(*(("EUR/USD", moment) for moment in moments))
    return rounded(history(feature_store, rows, filter_by_created_timestamp=by_created)["close"])


# -------------------------------------------------------------------------------------------------- no lookahead


def test_a_bar_is_seen_from_its_close_and_not_a_microsecond_before(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    tables.append("bars", make_rows("bars", n=2))
    moments = [CLOSE - US, CLOSE, CLOSE + HOUR - US, CLOSE + HOUR, CLOSE + timedelta(days=999)]
    assert asof(feature_store, *moments) == [None, 0.003, 0.003, 1.003, 1.003]


def test_by_created_a_bar_is_seen_from_when_it_was_written(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    tables.append("bars", make_rows("bars", n=2))  # each written one second after its close
    written = CLOSE + timedelta(seconds=1)
    moments = [CLOSE, written - US, written, CLOSE + HOUR, written + HOUR]
    assert asof(feature_store, *moments, by_created=True) == [None, None, 0.003, 0.003, 1.003]


def test_a_later_revision_is_never_seen_by_created_and_always_without(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    revised = CLOSE + timedelta(minutes=30)
    tables.append("bars", make_rows("bars", n=3))
    tables.append("bars", make_rows("bars", value=100.0, created=revised))
    late = CLOSE + timedelta(hours=9)
    tables.append("bars", make_rows("bars", start=JANUARY + HOUR, value=200.0, created=late))
    moments = [CLOSE + timedelta(seconds=1), revised - US, revised, CLOSE + HOUR, CLOSE + timedelta(hours=1.5), late]
    assert asof(feature_store, *moments, by_created=True) == [0.003, 0.003, 100.003, 100.003, 1.003, 2.003]
    assert asof(feature_store, *moments) == [100.003, 100.003, 100.003, 200.003, 200.003, 2.003]


@pytest.mark.parametrize("by_created", [False, True])
@pytest.mark.parametrize("n", [20, 200])
def test_any_history_is_joined_as_row_by_row(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows, by_created: bool, n: int
) -> None:
    random = np.random.default_rng(n)
    stored: dict[str, list[tuple[datetime, datetime, float]]] = {"EUR/USD": [], "GBP/USD": []}
    parts = []
    for value in range(60):
        symbol, k = str(random.choice(list(stored))), int(random.integers(0, 20))
        event = JANUARY + (k + 1) * HOUR
        created = event + timedelta(minutes=int(random.choice([1, 5, 90, 600])))
        parts.append(make_rows("bars", symbol, start=event - HOUR, value=float(value), created=created + value * US))
        stored[symbol].append((event, created + value * US, value + 0.003))
    tables.append("bars", pa.concat_tables(parts))
    questions = [
        (str(random.choice([*stored, "USD/JPY"])), JANUARY + timedelta(minutes=int(m)))
        for m in random.integers(-60, 40 * 60, n)
    ]

    def answer(symbol: str, moment: datetime) -> float | None:
        known = [r for r in stored.get(symbol, []) if r[0] <= moment and (not by_created or r[1] <= moment)]
        return round(max(known)[2], 3) if known else None

    joined = history(feature_store, entities(*questions), filter_by_created_timestamp=by_created)
    assert rounded(joined["close"]) == [answer(*question) for question in questions]


# --------------------------------------------------------------------------------------------- the entity frame


def test_rows_and_columns_stay_as_they_are(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    for symbol, value in (("EUR/USD", 0.0), ("GBP/USD", 100.0)):
        tables.append("bars", make_rows("bars", symbol, n=5, value=value))
    frame = entities(*((s, CLOSE + k * HOUR) for k in (4, 0, 2, 2) for s in ("GBP/USD", "EUR/USD")))
    frame["label"] = [f"row {i}" for i in range(len(frame))]
    frame.index = pd.Index(range(100, 108))
    before = frame.copy()
    joined = history(feature_store, frame)
    pd.testing.assert_frame_equal(frame, before)
    assert joined.columns.tolist() == ["symbol", "event_timestamp", "label", "close"]
    assert joined["label"].tolist() == frame["label"].tolist()
    assert joined["symbol"].tolist() == frame["symbol"].tolist()
    assert rounded(joined["close"]) == [104.003, 4.003, 100.003, 0.003, 102.003, 2.003, 102.003, 2.003]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_naive_timestamps_are_utc_and_others_are_what_they_say(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows, unit: str, zone: str | None
) -> None:
    tables.append("bars", make_rows("bars", n=2))
    moments = pd.DatetimeIndex([CLOSE - timedelta(seconds=1), CLOSE, CLOSE + HOUR]).tz_convert(zone).as_unit(unit)
    joined = history(feature_store, pd.DataFrame({"symbol": "EUR/USD", "event_timestamp": moments}))
    assert rounded(joined["close"]) == [None, 0.003, 1.003]


def test_nanoseconds_are_rounded_down(feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=2))
    close = pd.Timestamp(CLOSE).as_unit("ns")
    frame = entities(*(("EUR/USD", close + pd.Timedelta(ns, "ns")) for ns in (-1, 0, 999)))
    assert str(frame["event_timestamp"].dtype) == "datetime64[ns, UTC]"
    assert rounded(history(feature_store, frame)["close"]) == [None, 0.003, 0.003]


@pytest.mark.parametrize("by_created", [False, True])
def test_who_is_unknown_or_never_gets_nothing(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows, by_created: bool
) -> None:
    tables.append("bars", make_rows("bars"))
    late = CLOSE + HOUR
    frame = entities(("EUR/USD", late), ("no such", late), (None, late), ("EUR/USD", pd.NaT))
    joined = history(feature_store, frame, filter_by_created_timestamp=by_created)
    assert rounded(joined["close"]) == [0.003, None, None, None]


@pytest.mark.parametrize("view", ["ohlcv_1h", "indicators_1h", "window_1h"])
@pytest.mark.parametrize("by_created", [False, True])
def test_nothing_stored_or_nothing_asked(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows, view: str, by_created: bool
) -> None:
    refs = [f"{view}:{catalog.VIEWS[view].fields[1]}"]
    frame = entities(("EUR/USD", CLOSE))
    for rows, n in ((frame, 1), (frame.iloc[:0], 0)):
        joined = history(feature_store, rows, refs, filter_by_created_timestamp=by_created)
        assert len(joined) == n
        assert joined.iloc[:, -1].isna().all()
    write(tables, make_rows)
    assert len(history(feature_store, frame.iloc[:0], refs, filter_by_created_timestamp=by_created)) == 0


def test_a_query_is_refused(feature_store: FeatureStore, tables: DeltaTables) -> None:
    with pytest.raises(ValueError, match="entity_df must be a DataFrame"):
        history(feature_store, "select symbol, event_timestamp from trades")


def test_a_frame_without_the_join_key_or_a_timestamp_is_refused(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    tables.append("bars", make_rows("bars"))
    frame = entities(("EUR/USD", CLOSE))
    with pytest.raises(ValueError, match="lacks the column 'symbol'; it has ticker, event_timestamp"):
        history(feature_store, frame.rename(columns={"symbol": "ticker"}))
    with pytest.raises(EntityTimestampInferenceException, match="event_timestamp"):
        history(feature_store, frame[["symbol"]])


def test_without_a_frame_every_bar_close_in_the_span_is_a_row(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    for symbol, value in (("GBP/USD", 100.0), ("EUR/USD", 0.0)):
        write(tables, make_rows, symbol, n=6, value=value)
    refs = ["ohlcv_1h:close", "indicators_1h:sma_5"]
    joined = history(feature_store, None, refs, start_date=CLOSE + HOUR, end_date=CLOSE + 3 * HOUR)
    assert joined["symbol"].tolist() == ["EUR/USD"] * 3 + ["GBP/USD"] * 3
    assert joined["event_timestamp"].tolist() == [CLOSE + k * HOUR for k in (1, 2, 3)] * 2
    assert rounded(joined["close"]) == [1.003, 2.003, 3.003, 101.003, 102.003, 103.003]
    assert rounded(joined["sma_5"]) == [1.0, 2.0, 3.0, 101.0, 102.0, 103.0]
    naive = history(
        feature_store,
        None,
        refs,
        start_date=(CLOSE + HOUR).replace(tzinfo=None),
        end_date=(CLOSE + 3 * HOUR).replace(tzinfo=None),
    )
    pd.testing.assert_frame_equal(naive, joined)


# ------------------------------------------------------------------------------------------------- several views


def test_several_timeframes_in_one_row(feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows) -> None:
    write(tables, make_rows, n=10)
    write(tables, make_rows, "EUR/USD", "4h", n=2, value=100.0)
    frame = entities(*(("EUR/USD", CLOSE + k * HOUR) for k in (7, 2, 3, 0)))
    refs = ["ohlcv_1h:close", "ohlcv_4h:close", "indicators_4h:sma_5"]
    joined = history(feature_store, frame, refs, full_feature_names=True)
    assert joined.columns.tolist()[2:] == ["ohlcv_1h__close", "ohlcv_4h__close", "indicators_4h__sma_5"]
    assert rounded(joined["ohlcv_1h__close"]) == [7.003, 2.003, 3.003, 0.003]
    assert rounded(joined["ohlcv_4h__close"]) == [101.003, None, 100.003, None]
    assert rounded(joined["indicators_4h__sma_5"]) == [101.0, None, 100.0, None]


def test_a_service_of_the_catalog(feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows) -> None:
    write(tables, make_rows, n=3)
    service = feature_store.get_feature_service("latest_1h")
    joined = feature_store.get_historical_features(entities(("EUR/USD", CLOSE + HOUR)), service).to_df()
    assert joined.columns.tolist()[2:] == [*catalog.BAR_FIELDS, *catalog.INDICATOR_FIELDS]
    assert rounded(joined.iloc[0, 2:]) == [
        round(1 + k / 1000, 3) for names in (catalog.BAR_FIELDS, catalog.INDICATOR_FIELDS) for k in range(len(names))
    ]


# ------------------------------------------------------------------------------------------------------ windows


def window_asof(feature_store: FeatureStore, moment: datetime, by_created: bool = False) -> list[float] | None:
    frame = entities(("EUR/USD", moment))
    window = history(feature_store, frame, ["window_1h:close"], filter_by_created_timestamp=by_created)["close"][0]
    return None if window is None else [round(value, 3) for value in window]


def test_a_window_ends_with_the_last_closed_bar(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    write(tables, make_rows, n=catalog.WINDOW_BARS + 10)
    closes = [round(k + 0.003, 3) for k in range(catalog.WINDOW_BARS + 10)]
    assert window_asof(feature_store, CLOSE - US) is None
    assert window_asof(feature_store, CLOSE) == closes[:1]
    assert window_asof(feature_store, CLOSE + 3 * HOUR - US) == closes[:3]
    assert window_asof(feature_store, CLOSE + timedelta(days=99)) == closes[10:]


def test_a_window_is_full_however_rare_the_bars_are(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    # One hourly bar per day, as in a market that trades little: half a year of hours holds too few of them.
    days = catalog.WINDOW_BARS + 5
    for table in ("bars", "indicators"):
        parts = [make_rows(table, start=JANUARY + timedelta(days=d), value=float(d)) for d in range(days)]
        tables.append(table, pa.concat_tables(parts))
    closes = [round(k + 0.003, 3) for k in range(days)]
    assert window_asof(feature_store, CLOSE + timedelta(days=days)) == closes[5:]
    online = newest_windows(tables, catalog.timeframe("1h"))["EUR/USD"]
    assert rounded(online.columns["close"]) == closes[5:]


def test_a_window_by_created_is_what_was_known_then(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    revised = CLOSE + timedelta(hours=1.5)
    write(tables, make_rows, n=3)
    write(tables, make_rows, value=100.0, created=revised)
    assert window_asof(feature_store, CLOSE, by_created=True) is None
    assert window_asof(feature_store, revised - US, by_created=True) == [0.003, 1.003]
    assert window_asof(feature_store, revised, by_created=True) == [100.003, 1.003]
    assert window_asof(feature_store, CLOSE + US) == [100.003]


def test_a_window_is_as_new_as_the_newest_of_its_rows(tables: DeltaTables, make_rows: MakeRows) -> None:
    write(tables, make_rows, n=3)
    for table, days in (("indicators", 2), ("bars", 3)):
        revised = JANUARY + timedelta(days=days)
        tables.append(table, make_rows(table, start=JANUARY + HOUR, created=revised))  # type: ignore[arg-type]
        window = newest_windows(tables, catalog.timeframe("1h"))["EUR/USD"]
        assert window.created_us == round(revised.timestamp()) * 1_000_000
        assert window.event_us == round((CLOSE + 2 * HOUR).timestamp()) * 1_000_000


def test_many_window_rows_keep_their_order(
    feature_store: FeatureStore, tables: DeltaTables, make_rows: MakeRows
) -> None:
    for symbol, value in (("EUR/USD", 0.0), ("GBP/USD", 100.0)):
        write(tables, make_rows, symbol, n=3, value=value)
    later = CLOSE + HOUR
    frame = entities(("GBP/USD", later), ("EUR/USD", CLOSE), (None, later), ("GBP/USD", later), ("EUR/USD", pd.NaT))
    joined = history(feature_store, frame, ["window_1h:close", "window_1h:sma_5", "window_1h:open_time"])
    lasts = [None if values is None else round(values[-1], 3) for values in joined["close"]]
    assert lasts == [101.003, 0.003, None, 101.003, None]
    assert joined["open_time"][0].tolist() == [JANUARY.timestamp() + k * 3600 for k in range(2)]
    assert [None if v is None else len(v) for v in joined["sma_5"]] == [2, 1, None, 2, None]
