"""``fstore latest`` and ``fstore get``: lookups through the client, with their provenance."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pandas as pd
import typer

from flows.cli import show
from flows.settings import load_settings
from fsclient import FeatureStoreClient

DEFAULT_FEATURES = "close,sma_50,rsi_14,macd,bb_percent_b,atr_14"

Timeframe = Annotated[str, typer.Option(help="1m, 5m, 15m, 30m, 1h, 4h or 1d.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON with all digits.")]


def client() -> FeatureStoreClient:
    """A client of the repository that the settings name, without a cache: a command asks once."""
    return FeatureStoreClient(repo=load_settings().repo(), use_cache=False, timeout_s=30.0)


def latest(
    symbols: Annotated[list[str], typer.Argument(help="Such as EUR/USD.")],
    timeframe: Timeframe = "1h",
    features: Annotated[str, typer.Option(help="Comma-separated; 4h:rsi_14 for another timeframe.")] = DEFAULT_FEATURES,
    as_json: AsJson = False,
) -> None:
    """The newest closed bar's features, from the online store."""

    async def read() -> pd.DataFrame:
        async with client() as reader:
            return await reader.get_latest(symbols, show.split(features), timeframe=timeframe)

    show.frame(asyncio.run(read()), as_json=as_json)


def get(
    symbol: Annotated[str, typer.Argument(help="Such as EUR/USD.")],
    start: Annotated[str, typer.Option(help="First open time; naive means UTC.")],
    end: Annotated[str, typer.Option(help="Last open time, inclusive; a date alone means that whole day.")],
    timeframe: Timeframe = "1h",
    indicators: Annotated[str, typer.Option(help="Comma-separated; the bars themselves when not given.")] = "",
    as_json: AsJson = False,
) -> None:
    """Bars or indicators over a range of open times, both ends inclusive."""

    async def read() -> pd.DataFrame:
        async with client() as reader:
            if indicators:
                return await reader.get_indicators(
                    symbol=symbol, start_date=start, end_date=end, timeframe=timeframe,
                    indicators=show.split(indicators),
                )  # fmt: skip
            return await reader.get_ohlcv(symbol=symbol, start_date=start, end_date=end, timeframe=timeframe)

    show.frame(asyncio.run(read()), as_json=as_json)
