"""Binance's kline streams: ``wss://stream.binance.com:9443/stream?streams=btcusdt@kline_1m/…``.

A message arrives every second or two while a bar is open; only the one marked as closed (``"x": true``) is a bar.
Source: Binance, "WebSocket Streams", Kline/Candlestick Streams.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from feature_repo import catalog
from flows.stream.bar import BadEntryError, LiveBar, from_milliseconds

BINANCE = "wss://stream.binance.com:9443"


def kline_url(symbols: Sequence[str], timeframe: str, *, base: str = BINANCE) -> str:
    """The address of the combined stream of these symbols.

    Raises:
        CatalogError: an unknown symbol or timeframe.
    """
    interval = catalog.timeframe(timeframe).name
    names = [f"{_kline_symbol(catalog.symbol(symbol).name).lower()}@kline_{interval}" for symbol in symbols]
    return f"{base}/stream?streams={'/'.join(names)}"


def kline_parser(symbols: Sequence[str]) -> Callable[[str | bytes], LiveBar | None]:
    """A reader of the messages of these symbols' stream."""
    known = {_kline_symbol(symbol): symbol for symbol in symbols}

    def parse(message: str | bytes) -> LiveBar | None:
        try:
            event = json.loads(message)
            event = event.get("data", event)
            if event.get("e") != "kline":
                return None  # an answer to a subscription
            kline = event["k"]
            if kline["x"] is not True:
                return None
            return LiveBar(
                symbol=known.get(kline["s"], str(kline["s"])),
                timeframe=str(kline["i"]),
                open_us=from_milliseconds(int(kline["t"])),
                **{name: float(kline[key]) for name, key in _FIELDS.items()},
            )
        except BadEntryError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadEntryError("unreadable", f"{type(error).__name__}: {error}"[:200]) from None

    return parse


_FIELDS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}


def _kline_symbol(symbol: str) -> str:
    return symbol.replace("/", "")
