"""Bid and ask bars to bars of the mid price."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.sources.columns import PRICES

_NOISE = 1e-12
"""A share of the price: two spellings of one number do not cross."""
_SLIGHT = 3e-4
"""A share of the price by which an open, high or low of the ask may lie below the bid's."""


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


def mid(rows: pd.DataFrame, digits: int) -> pd.DataFrame:
    """The rows with the mid of their bid and ask prices.

    Args:
        rows: bid prices in ``open`` to ``close``, ask prices in ``ask_open`` to ``ask_close``.
        digits: decimals of the symbol's prices; a mid may need one more.
    """
    return rows.assign(**{price: ((rows[price] + rows[f"ask_{price}"]) / 2).round(digits + 1) for price in PRICES})


def crossed_prices(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Which prices of the ask lie below the bid's, (rows, ``PRICES``) bool.

    As long as no quote crosses, the ask opens, peaks, bottoms and closes at or above the bid. A close that crosses is
    what the market was last said to be. The other prices need not be of one moment: in real files, whose sides come
    from separate quotes, a few in a hundred cross by up to a fiftieth of a percent. Only what crosses by more than
    ``_SLIGHT`` is a quote that was no price.

    Args:
        rows: as ``mid`` takes them. A price that is missing does not cross.
    """
    bid = rows[[*PRICES]].to_numpy(dtype=np.float64)
    ask = rows[[f"ask_{price}" for price in PRICES]].to_numpy(dtype=np.float64)
    tolerated = np.array([_NOISE if price == "close" else _SLIGHT for price in PRICES])
    crossed: NDArray[np.bool_] = bid - ask > tolerated * np.abs(bid)
    return crossed


def _positions(rows: pd.DataFrame, side: str) -> pd.DataFrame:
    nth = rows.groupby("open_time").cumcount().to_numpy()
    return pd.DataFrame({"open_time": rows["open_time"].to_numpy(), "nth": nth, side: np.arange(len(rows))})
