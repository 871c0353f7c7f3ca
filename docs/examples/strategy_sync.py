"""The same features in code without an event loop: a class as freqtrade calls it, and one as backtrader does.

Neither package is needed to run this; the methods have the names and arguments that they expect. Run it after
`make demo`:

    python docs/examples/strategy_sync.py

Both act on a bar's values from its close on, which is the open of the next bar: a row's `open_time` is when its bar
began, and its values were known one timeframe later.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from fsclient import SyncFeatureStoreClient

SYMBOL, TIMEFRAME = "EUR/USD", "1h"
START, END = "2018-01-01", "2018-01-31"


class RsiReversal:
    """freqtrade: it hands a frame of candles (`date` is a candle's open time) and takes back one with signals."""

    timeframe = TIMEFRAME
    startup_candle_count = 0  # the store has computed over all history, so no candle is needed for warm-up

    def __init__(self, client: SyncFeatureStoreClient) -> None:
        self.client = client

    def populate_indicators(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:
        """Stored indicators beside the candles."""
        first, last = dataframe["date"].iloc[[0, -1]]
        values = self.client.get_indicators(metadata["pair"], first, last, self.timeframe, ["rsi_14", "bb_percent_b"])
        return dataframe.join(values, on="date")

    def populate_entry_trend(self, dataframe: pd.DataFrame, metadata: dict[str, Any]) -> pd.DataFrame:  # noqa: ARG002
        """freqtrade acts at the next candle's open."""
        signal = (dataframe["rsi_14"] < 30) & (dataframe["bb_percent_b"] < 0)
        return dataframe.assign(enter_long=signal.astype(int))


class MovingAverageCross:
    """backtrader: `start` once, then `next` at every bar's close."""

    def __init__(self, client: SyncFeatureStoreClient) -> None:
        self.client = client
        self.long = False

    def start(self, first: str, last: str) -> None:
        """Reads all that `next` will look at; one with a window of our own is computed from stored bars."""
        self.slow = self.client.get_indicators(SYMBOL, first, last, TIMEFRAME, ["sma_50"])["sma_50"]
        self.fast = self.client.compute_feature("sma", SYMBOL, first, last, TIMEFRAME, parameters={"window": 8})

    def next(self, open_time: pd.Timestamp) -> str | None:
        """The order after the bar that began at `open_time` has closed."""
        above = bool(self.fast[open_time] > self.slow[open_time])  # false while one of them is NaN
        if above == self.long:
            return None
        self.long = above
        return "buy" if above else "sell"


def run_freqtrade(client: SyncFeatureStoreClient) -> pd.DataFrame:
    """What freqtrade does with the first of them."""
    candles = client.get_ohlcv(SYMBOL, START, END, TIMEFRAME).rename_axis("date").reset_index()
    strategy, metadata = RsiReversal(client), {"pair": SYMBOL}
    return strategy.populate_entry_trend(strategy.populate_indicators(candles, metadata), metadata)


def run_backtrader(client: SyncFeatureStoreClient) -> pd.Series:
    """What backtrader does with the second: orders are filled at the next bar's open. Profit of each trade."""
    bars = client.get_ohlcv(SYMBOL, START, END, TIMEFRAME)
    strategy = MovingAverageCross(client)
    strategy.start(START, END)
    fills: list[tuple[pd.Timestamp, float]] = []
    for closed, following in zip(bars.index, bars.index[1:], strict=False):
        if strategy.next(closed):
            fills.append((following, bars["open"][following]))
    profits = {sold: out - into for (_, into), (sold, out) in zip(fills[::2], fills[1::2], strict=False)}
    return pd.Series(profits, dtype="float64")


def main() -> None:
    with SyncFeatureStoreClient() as client:
        candles = run_freqtrade(client)
        print(f"RsiReversal: {candles['enter_long'].sum()} signals in {len(candles)} candles")
        profits = run_backtrader(client)
        print(f"MovingAverageCross: {len(profits)} trades, {1e4 * profits.sum():+.1f} pips")


if __name__ == "__main__":
    main()
