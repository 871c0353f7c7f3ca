"""Bars from a crypto exchange, over its public interface by way of the package ccxt. No key is used or needed."""

from __future__ import annotations

import difflib
import importlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from feature_repo.catalog import Symbol, Timeframe
from flows.sources.error import MissingExtraError, SourceError, shown
from flows.sources.options import SourceOptions
from flows.sources.table import Table, from_arrow

_ATTEMPTS = 6
_LONGEST_WAIT_S = 120.0
_TIMEOUT_MS = 20_000
_SHOWN_CHARACTERS = 200
_PAGE = 500  # where ccxt does not know how much the exchange returns at once

Candle = list[float]  # open time in milliseconds, open, high, low, close, volume in the base asset
T = TypeVar("T")


def read_exchange(
    name: str,
    *,
    symbol: Symbol,
    timeframe: Timeframe,
    options: SourceOptions,
    sleep: Callable[[float], None] = time.sleep,
    chance: Callable[[], float] = random.random,
) -> Table:
    """Read the closed candles that open from ``options.start`` until ``options.end``, or now by the exchange's clock.

    Args:
        name: the exchange as ccxt calls it.
        sleep, chance: how to wait, in seconds, and evenly drawn numbers from 0 to 1.

    Raises:
        MissingExtraError: ccxt is not installed.
        SourceError: the exchange is not known, cannot be reached or lacks what is asked for.
    """
    label = f"exchange:{name}"
    if options.start is None:
        raise SourceError("from when on?", remedy="Use --start, as 2024-01-01.", file=label)
    ccxt = _ccxt(label)
    if name not in ccxt.exchanges:
        near = difflib.get_close_matches(name.lower(), ccxt.exchanges, n=3)
        remedy = f"Did you mean {' or '.join(near)}?" if near else "ccxt lists them as ccxt.exchanges."
        raise SourceError(f"unknown exchange {shown(name)}", remedy=remedy)
    # Only what spot trading needs is asked of an exchange that also has futures.
    spot = {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}
    exchange = getattr(ccxt, name)({"enableRateLimit": True, "timeout": _TIMEOUT_MS, "options": spot})
    if options.exchange_url is not None:
        exchange.urls["api"] = _moved(exchange.urls["api"], options.exchange_url)
    try:
        calls = _Calls(ccxt, exchange, label, sleep, chance)
        _check(calls(exchange.load_markets), exchange, symbol, timeframe, label)
        now_ms = calls(exchange.fetch_time) if exchange.has.get("fetchTime") else exchange.milliseconds()
        start_ms = int(options.start.timestamp() * 1000)
        end_ms = min(now_ms, int(options.end.timestamp() * 1000)) if options.end else now_ms
        limit = exchange.feature_value(symbol.name, "fetchOHLCV", "limit", _PAGE) or _PAGE
        step_ms = timeframe.seconds * 1000

        def page(since_ms: int) -> list[Candle]:
            candles: list[Candle] = calls(exchange.fetch_ohlcv, symbol.name, timeframe.name, since_ms, limit)
            return candles

        candles = list(pages(page, start_ms=start_ms, end_ms=end_ms, step_ms=step_ms, limit=limit))
    finally:
        exchange.session.close()
    closed = [candle for candle in candles if candle[0] + step_ms <= now_ms]
    if not closed:
        raise SourceError("no closed candle in that time", remedy="Check --start and --end.", file=label)
    return _table(closed, label, unfinished=len(candles) - len(closed), late=closed[0][0] - start_ms >= step_ms)


def pages(
    page: Callable[[int], list[Candle]], *, start_ms: int, end_ms: int, step_ms: int, limit: int
) -> Iterator[Candle]:
    """The candles that open in ``[start_ms, end_ms)``, ascending, each once, from pages that may overlap.

    Args:
        page: up to ``limit`` candles that open at or after a moment.
    """
    since_ms = start_ms
    while since_ms < end_ms:
        candles = page(since_ms)
        fresh = {int(candle[0]): candle for candle in candles if candle[0] >= since_ms}
        yield from (fresh[opened] for opened in sorted(fresh) if opened < end_ms)
        if fresh:
            since_ms = max(fresh) + step_ms
        else:  # some return an empty page for a stretch without trades: the candles go on after it
            since_ms += step_ms * (1 if candles else limit)


class _Calls:
    """Calls of an exchange, tried again when the network or the exchange is at fault; nothing below tries again."""

    def __init__(
        self,
        ccxt: Any,
        exchange: Any,
        label: str,
        sleep: Callable[[float], None],
        chance: Callable[[], float],
    ) -> None:
        self._ccxt, self._exchange, self._label = ccxt, exchange, label
        self._sleep, self._chance = sleep, chance

    def __call__(self, call: Callable[..., T], *arguments: Any) -> T:
        attempt = 0
        while True:
            attempt += 1
            self._exchange.last_response_headers = None
            try:
                return call(*arguments)
            except self._ccxt.NetworkError as error:
                wait_s = self._wait_s(attempt)
                if attempt == _ATTEMPTS or wait_s > _LONGEST_WAIT_S:
                    asked = f"; it asks to wait {wait_s:.0f} s" if wait_s > _LONGEST_WAIT_S else ""
                    what = f"no answer in {attempt} attempt{'s' * (attempt > 1)} ({type(error).__name__}{asked})"
                    raise SourceError(what, remedy="Try again later.", file=self._label) from None
                self._sleep(wait_s)
            except self._ccxt.BaseError as error:
                what = f"{type(error).__name__}: {str(error)[:_SHOWN_CHARACTERS]}"
                raise SourceError(what, remedy="Check symbol, timeframe and --start.", file=self._label) from None

    def _wait_s(self, attempt: int) -> float:
        """What the exchange asks for, else twice as long every time, half of it by chance."""
        retry_after = (self._exchange.last_response_headers or {}).get("Retry-After", "")
        return float(retry_after) if retry_after.isdigit() else 2.0 ** (attempt - 1) * (1 + self._chance()) / 2


def _ccxt(label: str) -> Any:
    try:
        return importlib.import_module("ccxt")
    except ModuleNotFoundError:
        remedy = 'Install the extra "ccxt": pip install "fstore[ccxt]".'
        raise MissingExtraError("the package ccxt is not installed", remedy=remedy, file=label) from None


def _moved(addresses: Any, base: str) -> Any:
    """The exchange's addresses, however they nest, with another scheme and host."""
    if isinstance(addresses, dict):
        return {name: _moved(address, base) for name, address in addresses.items()}
    scheme, host = urlsplit(base)[:2]
    return (
        urlsplit(addresses)._replace(scheme=scheme, netloc=host).geturl() if isinstance(addresses, str) else addresses
    )


def _check(markets: dict[str, Any], exchange: Any, symbol: Symbol, timeframe: Timeframe, label: str) -> None:
    if not exchange.has.get("fetchOHLCV") or timeframe.name not in (exchange.timeframes or {}):
        known = ", ".join(exchange.timeframes or ()) or "none"
        remedy = f"It has {known}; longer bars are made of shorter ones."
        raise SourceError(f"no {timeframe.name} candles", remedy=remedy, file=label)
    if symbol.name not in markets:
        near = difflib.get_close_matches(symbol.name, markets, n=3, cutoff=0.5)
        remedy = f"It has {', '.join(near)}." if near else ""
        raise SourceError(f"{symbol.name} is not traded there", remedy=remedy, file=label)


def _table(candles: list[Candle], label: str, *, unfinished: int, late: bool) -> Table:
    numbers = np.array(candles, np.float64)
    times = pa.array(numbers[:, 0].astype(np.int64) * 1000, pa.timestamp("us", "UTC"))
    names = ["open_time", "open", "high", "low", "close", "volume"]
    columns = pa.Table.from_arrays([times, *(pa.array(column) for column in numbers.T[1:])], names)
    detected = {"format": "ccxt"}
    if late:
        detected["reach"] = f"nothing before {np.datetime64(int(candles[0][0]), 'ms')}Z, later than --start"
    return from_arrow(columns, file=label, detected=detected, unfinished=unfinished)
