"""Indicator rows of bars: the catalog's fields, beside the bars they belong to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import talib

from feature_repo.catalog import INDICATOR_FIELDS, PRODUCER, SYMBOLS, TIMEFRAMES
from flows.compute.increment import input_columns
from tests.indicator_rows import indicator_rows

EURUSD, HOUR = SYMBOLS["EUR/USD"], TIMEFRAMES["1h"]
Make = Callable[..., pd.DataFrame]


def test_a_row_a_bar_with_every_field_of_the_catalog(make_bars: Make) -> None:
    bars = make_bars(300)
    rows = indicator_rows(bars, symbol=EURUSD, timeframe=HOUR)
    assert list(rows) == ["open_time", "event_timestamp", *INDICATOR_FIELDS]
    assert (rows.dtypes[[*INDICATOR_FIELDS]] == np.float64).all()
    assert rows["event_timestamp"].dtype == "datetime64[us, UTC]"
    assert (rows["open_time"] == bars["open_time"]).all()
    assert (rows["event_timestamp"] - rows["open_time"] == pd.Timedelta(hours=1)).all()


def test_a_field_has_a_value_once_its_lookback_is_over(make_bars: Make) -> None:
    rows = indicator_rows(make_bars(300), symbol=EURUSD, timeframe=HOUR)
    for name in INDICATOR_FIELDS:
        assert rows[name].iloc[PRODUCER[name].lookback :].notna().all(), name
    assert rows["sma_200"].first_valid_index() == 199


def test_values_are_talibs(make_bars: Make) -> None:
    bars = make_bars(300)
    rows = indicator_rows(bars, symbol=EURUSD, timeframe=HOUR)
    close = bars["close"].to_numpy()
    np.testing.assert_array_equal(rows["sma_50"], talib.SMA(close, 50))
    np.testing.assert_array_equal(rows["rsi_14"], talib.RSI(close, 14))


def test_rows_keep_the_bars_index(make_bars: Make) -> None:
    bars = make_bars(30).set_index(np.arange(100, 130))
    assert list(indicator_rows(bars, symbol=EURUSD, timeframe=HOUR).index) == list(range(100, 130))


def test_no_bars_make_no_rows(make_bars: Make) -> None:
    rows = indicator_rows(make_bars(0), symbol=EURUSD, timeframe=HOUR)
    assert (len(rows), list(rows)[2:]) == (0, [*INDICATOR_FIELDS])


def test_the_trading_day_turns_at_five_in_new_york(make_bars: Make) -> None:
    bars = make_bars(60)
    day = input_columns(bars, EURUSD, HOUR)["session_day"]
    turns = bars["open_time"][1:][np.diff(day) != 0].dt.tz_convert("America/New_York")
    assert set(turns.dt.hour) == {17}


def test_the_evening_of_a_stock_belongs_to_the_day_that_it_ends(make_bars: Make) -> None:
    """From 19:00 to 20:00 New York it is the next day in UTC, in winter."""
    stock, times = SYMBOLS["AAPL"], pd.date_range("2024-01-04 09:00", "2024-01-06 00:00", freq="h", tz="UTC")
    bars = make_bars(len(times), symbol="AAPL").assign(open_time=times.as_unit("us"))
    day = input_columns(bars, stock, HOUR)["session_day"]
    new_york = times.tz_convert("America/New_York")
    np.testing.assert_array_equal(day, new_york.tz_localize(None).normalize().to_numpy("datetime64[D]").astype(float))
    vwap = indicator_rows(bars, symbol=stock, timeframe=HOUR)["vwap"].iloc[-1]
    typical, own = bars[["high", "low", "close"]].mean(axis=1), (new_york.date == new_york[-1].date())
    np.testing.assert_allclose(vwap, np.average(typical[own], weights=bars["volume"][own]))
    days = bars.head(2).assign(open_time=pd.DatetimeIndex(["2024-01-04", "2024-01-05"], tz="UTC").as_unit("us"))
    dates = input_columns(days, stock, TIMEFRAMES["1d"])["session_day"]
    assert np.array(dates, "datetime64[D]").astype(str).tolist() == ["2024-01-04", "2024-01-05"]
    assert day.dtype == np.float64
