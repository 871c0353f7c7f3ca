"""One symbol from stored bars to features: which timeframes, which bars, which values, and what the gates stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib

from feature_repo.agreement import agree
from feature_repo.catalog import BAR_FIELDS, SYMBOLS, TIMEFRAMES, Timeframe
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.schemas import SCHEMAS
from flows.compute import step
from flows.compute.changes import as_table
from flows.compute.derive import closes
from flows.ledger import Ledger, Run
from flows.runs.history import whole_history
from flows.runs.plan import pending, plan
from flows.runs.store import store_computed

Make = Callable[..., pd.DataFrame]
Take = Callable[..., Any]
Compute = Callable[..., Any]
Store = Callable[..., None]
EURUSD = SYMBOLS["EUR/USD"]
PRICES = ["open", "high", "low", "close"]


@pytest.fixture
def compute(tables: DeltaTables, ledger: Ledger, now: datetime) -> Compute:
    """Computes one timeframe of a symbol as a symbol's first run would: from all of its history."""

    def run(timeframe: str, symbol: str = "EUR/USD", *, at: datetime = now, max_bad_share: float = 0.05) -> Any:
        (job,) = pending([SYMBOLS[symbol]], [timeframe], tables, ledger, now=at).jobs
        limits = step.Limits(max_bad_share=max_bad_share, min_completeness=0.5)
        return step.compute(job, whole_history(job, tables), now=at, limits=limits)

    return run


@pytest.fixture
def store(tables: DeltaTables, ledger: Ledger) -> Callable[..., None]:
    """Stores what was computed and records nothing of it, like a run that dies in between."""

    def run(computed: Any, at: datetime = datetime(2024, 6, 3, 12, tzinfo=UTC)) -> None:
        since: dict[Any, int | None] = {table: tables.version(table) for table in ("bars", "indicators")}
        work = Run(ledger=ledger, tables=tables, now=at)
        with work.lease_of(computed.job.symbol.name) as lease:
            store_computed(work.holding(lease), [computed], since=since)

    return run


@pytest.fixture
def inject(tables: DeltaTables) -> Callable[..., None]:
    """Stores bars past the gate, as only a bug or another program would."""

    def run(bars: pd.DataFrame, timeframe: Timeframe = TIMEFRAMES["1h"], **more: Any) -> None:
        rows = bars.assign(event_timestamp=closes(bars, timeframe), created=closes(bars, timeframe), **more)
        tables.append("bars", as_table(rows, SCHEMAS["bars"], symbol="EUR/USD", timeframe=timeframe.name))

    return run


def resampled(bars: pd.DataFrame, rule: str) -> pd.DataFrame:
    """pandas' own resample on the trading day that starts at 17:00 New York; every group, finished or not."""
    wall = bars["open_time"].dt.tz_convert("America/New_York").dt.tz_localize(None) - pd.Timedelta(hours=17)
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    grouped = bars.set_index(wall).resample(rule).agg(how).dropna()  # the weekend's groups are empty
    opens = (grouped.index + pd.Timedelta(hours=17)).tz_localize("America/New_York").tz_convert("UTC")
    return grouped.set_axis(opens.as_unit("us")).rename_axis("open_time").reset_index()


def changed_bars(computed: Any) -> pd.DataFrame:
    return computed.bar_changes.rows[["open_time", *BAR_FIELDS]].reset_index(drop=True)


# ------------------------------------------------------------------------------------------------ timeframes


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([], {}),
        (["1d"], {"1d": None}),
        (["1h"], {"1h": None, "4h": "1h", "1d": "1h"}),
        (["1h", "4h"], {"1h": None, "4h": None, "1d": "4h"}),
        (["1m"], {"1m": None, "5m": "1m", "15m": "1m", "30m": "1m", "1h": "1m", "4h": "1m", "1d": "1m"}),
        (["30m", "1d"], {"30m": None, "1h": "30m", "4h": "30m", "1d": None}),
    ],
)
def test_a_timeframe_is_ingested_or_made_of_the_longest_ingested_one_below(
    stored: list[str], expected: dict[str, str | None]
) -> None:
    known = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")  # the catalog may get others
    assert {timeframe: source for timeframe, source in plan(stored).items() if timeframe in known} == expected


# --------------------------------------------------------------------------------------------- derived bars


@pytest.mark.parametrize(("timeframe", "rule"), [("4h", "4h"), ("1d", "1D")])
def test_derived_bars_are_pandas_resampled_on_the_fx_day(
    make_bars: Make, take: Take, compute: Compute, timeframe: str, rule: str
) -> None:
    """Over the switch to daylight saving time on 2024-03-10, where the grid moves by an hour of UTC."""
    bars = make_bars(600, start=datetime(2024, 2, 19, tzinfo=UTC))
    take(bars)
    derived = changed_bars(compute(timeframe))
    expected = resampled(bars, rule).iloc[: len(derived)]
    pd.testing.assert_frame_equal(derived, expected, check_freq=False, check_exact=True)
    assert len(resampled(bars, rule)) - len(derived) <= 1
    assert len(set(derived["open_time"].dt.hour)) > (1 if timeframe == "1d" else 6)


@pytest.mark.parametrize("timeframe", ["4h", "1d"])
def test_the_last_unfinished_bar_is_held_back(make_bars: Make, take: Take, compute: Compute, timeframe: str) -> None:
    bars = make_bars(200)
    step = pd.Timedelta(seconds=TIMEFRAMES[timeframe].seconds)
    for n in (150, 151, 152, 153, 154):
        take(bars.head(n))
        complete_to = bars["open_time"].iloc[n - 1] + pd.Timedelta(hours=1)
        derived = resampled(bars.head(n), timeframe if timeframe == "4h" else "1D")
        finished = derived[derived["open_time"] + step <= complete_to]
        assert compute(timeframe).bars == len(finished)


def test_no_closed_bar_is_nothing_to_compute(make_bars: Make, take: Take, compute: Compute) -> None:
    take(make_bars(1))
    assert compute("4h").bars == 0
    assert compute("1h").bars == 1


def test_a_bar_from_a_clock_that_ran_ahead_waits_for_its_close(
    make_bars: Make, inject: Callable[..., None], compute: Compute
) -> None:
    """Published, it would stand in the way of every bar before it."""
    bars = make_bars(60)
    inject(bars)
    early = bars["open_time"].iloc[-1].to_pydatetime() + timedelta(minutes=59)
    assert compute("1h", at=early).bars == 59
    assert compute("1h", at=early + timedelta(minutes=1)).bars == 60
    assert compute("1h", at=bars["open_time"].iloc[0].to_pydatetime()).bars == 0
    at_noon = bars["open_time"].iloc[12].to_pydatetime()
    assert compute("4h", at=at_noon).event_us <= at_noon.timestamp() * 1e6


# ------------------------------------------------------------------------------------------------ indicators


def test_indicators_are_bare_talib_on_the_derived_bars(make_bars: Make, take: Take, compute: Compute) -> None:
    bars = make_bars(1200)
    take(bars)
    computed = compute("4h")
    derived, rows = changed_bars(computed), computed.feature_changes.rows
    high, low, close, volume = (derived[name].to_numpy() for name in ("high", "low", "close", "volume"))
    macd, signal, histogram = talib.MACD(close, 12, 26, 9)
    k, d = talib.STOCH(high, low, close, fastk_period=14, slowk_period=3, slowd_period=3)
    exact = {
        "sma_20": talib.SMA(close, 20),
        "ema_50": talib.EMA(close, 50),
        "macd": macd,
        "macd_signal": signal,
        "macd_hist": histogram,
        "atr_14": talib.ATR(high, low, close, 14),
        "cci_20": talib.CCI(high, low, close, 20),
        "obv": talib.OBV(close, volume),
    }
    bounded = {  # rounding beyond a bound is put back on it
        "rsi_14": talib.RSI(close, 14),
        "adx_14": talib.ADX(high, low, close, 14),
        "mfi_14": talib.MFI(high, low, close, volume, 14),
        "stoch_k": k,
        "stoch_d": d,
    }
    for name, expected in exact.items():  # but for the roundings of a sum that began elsewhere
        assert agree(rows[name].to_numpy(), expected).all(), name
    for name, expected in bounded.items():
        np.testing.assert_allclose(rows[name], expected, rtol=0, atol=1e-9, err_msg=name)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    for name, expected in (("bb_upper", upper), ("bb_middle", middle), ("bb_lower", lower)):
        np.testing.assert_allclose(rows[name], expected, rtol=1e-9, err_msg=name)


# --------------------------------------------------------------------------------------------------- gates


def test_absurd_bars_stop_what_is_derived_of_them(
    make_bars: Make, inject: Callable[..., None], compute: Compute
) -> None:
    bars = make_bars(200)
    bars[PRICES] *= 1000
    inject(bars)
    with pytest.raises(step.Stopped, match="derived bars: 100 % of the rows are bad"):
        compute("4h")


def test_absurd_indicators_stop_the_symbol(make_bars: Make, inject: Callable[..., None], compute: Compute) -> None:
    bars = make_bars(200)
    bars["close"] = -bars["close"]
    inject(bars)
    with pytest.raises(step.Stopped, match=r"indicators: .* % of the rows are bad"):
        compute("1h")


def test_a_few_bad_derived_bars_are_quarantined_and_left_out(
    make_bars: Make, inject: Callable[..., None], compute: Compute, store: Store, tables: DeltaTables
) -> None:
    bars = make_bars(400)
    bars.loc[200, "high"] = 400.0  # one 4h bar with a price that no broker has quoted
    inject(bars)
    computed = compute("4h")
    assert computed.bars == len(resampled(bars, "4h")) - 2  # the bad one, and the last, which is unfinished
    store(computed)
    (row,) = tables.read("quarantine").to_pylist()
    assert (row["kind"], row["rule"], row["timeframe"]) == ("bars", "high_out_of_bounds", "4h")
    store(compute("4h"))
    assert tables.read("quarantine").num_rows == 1


def test_a_bar_with_bad_indicators_is_neither_stored_nor_published_as_features(
    make_bars: Make,
    take: Take,
    compute: Compute,
    store: Store,
    tables: DeltaTables,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars = make_bars(100)
    take(bars)

    def spoilt(*args: Any, **options: Any) -> Any:
        values = compute_from(*args, **options)
        values["rsi_14"][99] = 101.0
        return values

    compute_from = step.compute_from
    monkeypatch.setattr(step, "compute_from", spoilt)
    computed = compute("1h")
    assert computed.bars == 99
    assert computed.event_us == bars["open_time"].iloc[99].value // 1000  # the bar before
    store(computed)
    assert tables.read("indicators").num_rows == 99
    (row,) = tables.read("quarantine").to_pylist()
    assert (row["kind"], row["rule"]) == ("indicators", "rsi_14_out_of_bounds")


# ------------------------------------------------------------------------------------------------ revisions


def test_a_late_correction_revises_what_depends_on_it_and_nothing_before(
    make_bars: Make, take: Take, compute: Compute, store: Store, now: datetime
) -> None:
    bars = make_bars(400)
    take(bars)
    for timeframe in ("1h", "4h"):
        store(compute(timeframe))
    corrected = bars.copy()
    corrected.loc[300, ["close", "high"]] = corrected.loc[300, "high"] * 1.001
    take(corrected, now=now + timedelta(hours=1))
    later = now + timedelta(hours=2)
    hourly, derived = compute("1h", at=later), compute("4h", at=later)
    assert (hourly.bar_changes.revised, derived.bar_changes.revised) == (0, 1)  # ingest has revised the hour
    assert derived.bar_changes.rows["open_time"].iloc[0] <= bars["open_time"][300]
    for computed in (hourly, derived):
        assert computed.feature_changes.stored == 0
        assert computed.feature_changes.revised > 0
        assert computed.feature_changes.rows["open_time"].iloc[0] + timedelta(hours=4) > bars["open_time"][300]
        written = computed.feature_changes.written_at(later)["created"]
        assert (written == pd.Timestamp(later).tz_localize(None)).all()


def test_an_ingested_timeframe_is_taken_whole_with_what_was_derived_before(
    make_bars: Make, take: Take, compute: Compute, store: Store, now: datetime
) -> None:
    """As a reader of the offline store sees it: the newest revision of every bar."""
    bars = make_bars(400)
    take(bars)
    first = compute("4h")
    store(first)
    own = changed_bars(first).tail(40).assign(close=lambda rows: rows["high"])
    report = take(own, "4h", now=now + timedelta(hours=1))
    assert report.revised == 40
    again = compute("4h", at=now + timedelta(hours=2))
    assert again.bars == first.bars
    assert again.bar_changes.revised == 0
    expected = talib.SMA(np.append(changed_bars(first)["close"][:-40], own["high"]), 5)[-1]
    assert again.feature_changes.rows["sma_5"].iloc[-1] == expected


def test_a_missing_value_never_becomes_a_number(make_bars: Make, take: Take, compute: Compute) -> None:
    take(make_bars(200).assign(volume=math.nan))
    computed = compute("4h")
    assert computed.bar_changes.rows["volume"].isna().all()
    assert computed.feature_changes.rows["obv"].isna().all()
    assert not np.isnan(computed.feature_changes.rows["rsi_14"].iloc[-1])
