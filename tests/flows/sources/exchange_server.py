"""An exchange on this machine that speaks the public REST interface of Binance's spot market, with its faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MINUTE_MS = 60_000


@dataclass
class Exchange:
    """What the exchange has, and how it behaves.

    Attributes:
        candles: open time (milliseconds), open, high, low, close, volume; ascending.
        now_ms: its clock.
        page: the most candles that it returns at once.
        overlap: candles before the requested time that it returns too.
        faults: status and headers of the next answers, before it answers well again.
        asked: path and parameters of all requests.
    """

    candles: list[tuple[int, float, float, float, float, float]]
    now_ms: int
    page: int = 1000
    overlap: int = 0
    faults: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(self, path: str, parameters: dict[str, str]) -> Any:
        if path == "/api/v3/time":
            return {"serverTime": self.now_ms}
        if path == "/api/v3/exchangeInfo":
            return {"timezone": "UTC", "serverTime": self.now_ms, "symbols": [_market("BTC", "USDT")]}
        if path == "/api/v3/klines":
            start, step = int(parameters["startTime"]), MINUTE_MS
            known = [c for c in self.candles if c[0] >= start - self.overlap * step]
            return [_kline(candle, step) for candle in known[: min(self.page, int(parameters["limit"]))]]
        raise LookupError(path)


@contextmanager
def serving(exchange: Exchange) -> Iterator[str]:
    """The address at which the exchange answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            parameters = {name: values[0] for name, values in parse_qs(address.query).items()}
            exchange.asked.append((address.path, parameters))
            status, headers, body = 200, {}, b""
            if exchange.faults:
                status, headers = exchange.faults.pop(0)
                body = (
                    b'{"code":-1003,"msg":"Too much request weight used."}' if status == 429 else b"<html>sorry</html>"
                )
            else:
                body = json.dumps(exchange.answer(address.path, parameters)).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                **headers,
                "Content-Length": str(len(body)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _kline(candle: tuple[int, float, float, float, float, float], step: int) -> list[Any]:
    """A candle as Binance writes it: prices as text, then close time, quote volume, trades, taker volumes, unused."""
    opened, *numbers = candle
    return [opened, *(f"{n:.8f}" for n in numbers), opened + step - 1, "0.0", 1, "0.0", "0.0", "0"]


def _market(base: str, quote: str) -> dict[str, Any]:
    return {
        "symbol": base + quote,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "permissions": ["SPOT"],
        "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
        ],
    }
