"""Bid and ask bars to bars of the mid price."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.sources.columns import PRICES


def pair(bid: pd.DataFrame, ask: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Put the rows of a bid and an ask source together by ``open_time``.

    Where a time has several rows, the first of one side goes with the first of the other and so on; the side with
    fewer repeats its last one, so that a conflict within one side stays to be seen.

    Returns:
        The bid's rows with the ask's prices as ``ask_open`` to ``ask_close``, the bid's rows that have no ask, and the
        ask's that have no bid.
    """
    has_ask, has_bid = bid["open_time"].isin(ask["open_time"]), ask["open_time"].isin(bid["open_time"])
    both_bid, both_ask = bid[has_ask], ask[has_bid]
    at = _positions(both_bid, "bid").merge(_positions(both_ask, "ask"), on=["open_time", "nth"], how="outer", sort=True)
    at[["bid", "ask"]] = at.groupby("open_time")[["bid", "ask"]].ffill().astype("int64")
    paired = both_bid.iloc[at["bid"]].reset_index(drop=True)
    asks = both_ask.iloc[at["ask"]].reset_index(drop=True)
    return paired.assign(**{f"ask_{price}": asks[price] for price in PRICES}), bid[~has_ask], ask[~has_bid]


def mid(rows: pd.DataFrame, digits: int) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The mid of bid and ask prices, and which rows have the ask's close below the bid's.

    Args:
        rows: bid prices in ``open`` to ``close``, ask prices in ``ask_open`` to ``ask_close``.
        digits: decimals of the symbol's prices; a mid may need one more.
    """
    crossed = (rows["ask_close"] < rows["close"]).to_numpy()
    mids = {price: ((rows[price] + rows[f"ask_{price}"]) / 2).round(digits + 1) for price in PRICES}
    return rows.assign(**mids), crossed


def _positions(rows: pd.DataFrame, side: str) -> pd.DataFrame:
    nth = rows.groupby("open_time").cumcount().to_numpy()
    return pd.DataFrame({"open_time": rows["open_time"].to_numpy(), "nth": nth, side: np.arange(len(rows))})
