"""A feed's filling of closed hours is set aside; what was traded then is kept."""

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import symbol, timeframe
from flows.quality.closed_hours import idle_bars

FRIDAY = "2024-06-07T16:00"  # the market closes at 21:00 UTC
NAN = float("nan")


def idle(name, tf, start, rows, close_before=NAN):
    """Of bars from ``start`` on, each (open, high, low, close, volume)."""
    opens = np.datetime64(start, "us").view(np.int64) + np.arange(len(rows)) * timeframe(tf).microseconds
    bars = np.array(rows, dtype=float).T
    before = np.append(close_before, bars[3])[:-1]
    return idle_bars(symbol(name), timeframe(tf), opens, bars, before).tolist()


def flat(price, volume=0.0):
    return (price, price, price, price, volume)


def test_flat_bars_without_volume_of_closed_hours_are_idle():
    hours = [flat(1.08)] * 8
    assert idle("EUR/USD", "1h", FRIDAY, hours) == [False] * 5 + [True] * 3
    assert idle("EUR/USD", "1d", "2024-06-07T21:00", hours) == [True, True] + [False] * 5 + [True]


@pytest.mark.parametrize("bar", [(1.08, 1.09, 1.08, 1.08, 0.0), flat(1.08, 7.0)])
def test_a_bar_of_closed_hours_in_which_something_happened_is_not(bar):
    assert idle("EUR/USD", "1h", "2024-06-08T10:00", [bar]) == [False]


def test_without_reported_volume_a_repetition_of_the_last_close_is_idle():
    rows = [flat(1.08, NAN), flat(1.08, NAN), flat(1.09, NAN)]
    assert idle("EUR/USD", "1h", "2024-06-08T10:00", rows) == [False, True, False]
    assert idle("EUR/USD", "1h", "2024-06-08T10:00", rows, close_before=1.08) == [True, True, False]


def test_hours_before_and_after_an_exchanges_trading():
    assert idle("AAPL", "1h", "2024-06-07T10:00", [flat(190.0), flat(190.0, 5.0)]) == [True, False]
    assert idle("AAPL", "1h", "2024-06-07T14:00", [flat(190.0)]) == [False]


def test_a_market_that_never_closes_has_no_idle_bars():
    assert idle("BTC/USD", "1h", "2024-06-08T10:00", [flat(70_000.0)] * 3) == [False] * 3


def test_the_gate_sets_idle_bars_aside_without_counting_them_as_bad(check, make_bars):
    """A vendor fills the weekend: two sevenths of the rows say nothing against the rest."""
    bars = make_bars(200)
    friday = bars["open_time"] + pd.Timedelta(days=4, hours=20, minutes=20)
    bars["open_time"] = friday.dt.as_unit("us")  # from 20:20 UTC on: the market closes before the last 100
    bars.loc[100:, ["open", "high", "low", "close"]] = bars.loc[99, "close"]
    bars["volume"] = np.where(np.arange(200) < 100, 5.0, 0.0)
    verdict = check(bars, max_bad_share=0.0)
    assert verdict.passed
    assert verdict.by_rule == {"closed_market_flat": 100}
    assert (len(verdict.good), verdict.bad_rows, verdict.set_aside) == (100, 100, 100)
    bars.loc[3, "close"] = np.nan
    verdict = check(bars, max_bad_share=0.009)
    assert verdict.reason == "1 % of the rows are bad, at most 0.9 % are tolerated"
    assert check(bars.iloc[100:]).passed  # nothing but filling
