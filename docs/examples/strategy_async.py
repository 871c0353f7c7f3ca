"""A strategy that reads features live: it acts once on each closed bar, and on none that is late.

Run it after `make demo`:

    python docs/examples/strategy_async.py EUR/USD

The demo's bars are of 2018, so any age is allowed by default; with `--max-age-bars 1` it says why it does not trade.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from fsclient import FeatureStoreClient, FeatureStoreUnavailable, StaleDataError, provenance

FEATURES = ["close", "rsi_14", "4h:sma_50"]


@dataclass(slots=True)
class Pullback:
    """Long when an hourly pullback meets a rising 4h trend: RSI below 40, close above the 4h average."""

    acted_on: dict[str, pd.Timestamp] = field(default_factory=dict)

    def decide(self, now: pd.DataFrame) -> dict[str, str]:
        """Orders for the symbols whose bar is new and whole; a NaN is an answer too, and means: do nothing."""
        orders: dict[str, str] = {}
        for symbol, row in now.iterrows():
            if row[FEATURES].isna().any() or self.acted_on.get(symbol) == row["event_timestamp"]:
                continue
            self.acted_on[symbol] = row["event_timestamp"]
            long = row["rsi_14"] < 40 and row["close"] > row["4h:sma_50"]
            orders[symbol] = "long" if long else "flat"
        return orders


async def trade(client: FeatureStoreClient, symbols: Sequence[str], *, rounds: int, pause_s: float) -> None:
    """Asks again and again. Between two closes the answers come from memory, so asking often costs nothing."""
    strategy = Pullback()
    for _ in range(rounds):
        try:
            now = await client.get_latest(symbols, FEATURES, timeframe="1h")
        except StaleDataError as error:
            print(f"no trade: {error}")
        except FeatureStoreUnavailable as error:
            print(f"no trade, the store is unavailable: {error}")
        else:
            about = provenance(now)
            if about.stale:  # a last good answer stands in for the store, or the store doubts its own: no new orders
                why = about.doubt[0]["reason"] if about.doubt else "the store is unavailable"
                print(f"holding: {why}, this is of {about.as_of}")
            else:
                for symbol, order in strategy.decide(now).items():
                    print(f"{symbol} {order} at {now.at[symbol, 'close']} ({about.source}, bar closed {about.as_of})")
        await asyncio.sleep(pause_s)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("symbols", nargs="*", default=["EUR/USD"])
    parser.add_argument("--max-age-bars", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds")
    args = parser.parse_args()
    async with FeatureStoreClient(max_age_bars=args.max_age_bars, on_unavailable="last_good") as client:
        await trade(client, args.symbols, rounds=args.rounds, pause_s=args.pause)


if __name__ == "__main__":
    asyncio.run(main())
