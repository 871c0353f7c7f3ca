"""Commands that look values up through the client, with their provenance: latest and get."""

from __future__ import annotations

import asyncio
from typing import Annotated

import pandas as pd
import typer

from flows.cli import show
from flows.cli.arguments import END_HELP, START_HELP, AsJson, Symbol, Timeframe
from flows.settings import load_settings
from fsclient import FeatureStoreClient

DEFAULT_FEATURES = "close,sma_50,rsi_14,macd,bb_percent_b,atr_14"


def client() -> FeatureStoreClient:
    """A client of the configured repository, without a cache, because a command asks only once."""
    return FeatureStoreClient(repo=load_settings().repo(), use_cache=False, timeout_s=30.0)


def latest(
    symbols: Annotated[list[str], typer.Argument(help="Symbols, such as EUR/USD GBP/USD.")],
    timeframe: Timeframe = "1h",
    features: Annotated[
        str, typer.Option(help="Comma-separated; 4h:rsi_14 is of another timeframe.")
    ] = DEFAULT_FEATURES,
    as_json: AsJson = False,
) -> None:
    """Look up the features of the newest closed bar in the online store."""

    async def read() -> pd.DataFrame:
        async with client() as reader:
            return await reader.get_latest(symbols, show.split(features), timeframe=timeframe)

    show.frame(asyncio.run(read()), as_json=as_json)


def get(
    symbol: Symbol,
    start: Annotated[str, typer.Option(help=START_HELP)],
    end: Annotated[str, typer.Option(help=END_HELP)],
    timeframe: Timeframe = "1h",
    indicators: Annotated[str, typer.Option(help="Comma-separated; the bars themselves by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """Look up bars or indicators over a range of open times, both ends inclusive."""

    async def read() -> pd.DataFrame:
        async with client() as reader:
            if indicators:
                return await reader.get_indicators(
                    symbol=symbol,
                    start_date=start,
                    end_date=end,
                    timeframe=timeframe,
                    indicators=show.split(indicators),
                )
            return await reader.get_ohlcv(symbol=symbol, start_date=start, end_date=end, timeframe=timeframe)

    show.frame(asyncio.run(read()), as_json=as_json)
