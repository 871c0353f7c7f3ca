"""What brings bars: a WebSocket, an exchange's, and a replay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from websockets.asyncio.server import serve

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from flows.settings import Settings
from flows.stream import Feed, LiveBar
from flows.stream.bar import BadEntryError
from flows.stream.klines import kline_parser, kline_url
from flows.stream.replay import newer_than_stored, replay
from flows.stream.websocket import RECONNECT_S, receive
from tests.flows.stream.streaming import by_batch, live

MINUTE = TIMEFRAMES["1m"]
START_MS = 1_704_711_600_000  # 2024-01-08 11:00 UTC


class Sink:
    """A feed that keeps what it is sent, and signals when there is enough."""

    def __init__(self, enough: int) -> None:
        self.bars: list[LiveBar] = []
        self.unreadable: list[str] = []
        self.rules: list[str] = []
        self._enough, self.done = enough, asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def put(self, bars: list[LiveBar]) -> None:
        self.bars += bars
        self._count()

    def put_unreadable(self, text: str, error: BadEntryError) -> None:
        self.unreadable.append(text)
        self.rules.append(error.rule)
        self._count()

    def _count(self) -> None:
        if len(self.bars) + len(self.unreadable) >= self._enough:
            self._loop.call_soon_threadsafe(self.done.set)


def message(minute: int) -> str:
    return json.dumps({"symbol": "BTC/USD", "timeframe": "1m", "open_time": START_MS + minute * 60_000, "open": 1,
                       "high": 2, "low": 0.5, "close": 1.5, "volume": None})  # fmt: skip


async def test_a_lost_connection_is_reopened() -> None:
    """Each connection brings two messages, one of them not a bar, and breaks."""
    visits, waits = [0], []

    async def bars(connection: Any) -> None:
        assert await connection.recv() == "subscribe"
        visits[0] += 1
        await connection.send(message(visits[0]))
        await connection.send("no bar")
        if visits[0] % 2:
            connection.transport.abort()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    sink = Sink(6)
    async with serve(bars, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        task = asyncio.create_task(
            receive(f"ws://127.0.0.1:{port}", sink, hello=["subscribe"], sleep=sleep, jitter=lambda: 0.0)  # type: ignore[arg-type]
        )
        await asyncio.wait_for(sink.done.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert {bar.open_us for bar in sink.bars} <= {START_MS * 1000 + n * 60_000_000 for n in range(1, visits[0] + 1)}
    assert set(sink.unreadable) == {"no bar"}
    assert waits[0] == RECONNECT_S[0]


async def test_attempts_to_reach_an_unavailable_server_are_further_and_further_apart() -> None:
    waits: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 7:
            enough.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(receive("ws://127.0.0.1:9", Sink(1), sleep=sleep, jitter=lambda: 0.0))  # type: ignore[arg-type]
    await asyncio.wait_for(enough.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert waits == [*RECONNECT_S, RECONNECT_S[-1], RECONNECT_S[-1]]


def kline(minute: int, *, closed: bool, symbol: str = "BTCUSDT") -> str:
    open_ms = START_MS + minute * 60_000
    k = {"t": open_ms, "T": open_ms + 59_999, "s": symbol, "i": "1m", "f": 100, "L": 200, "o": "0.0010",
         "c": "0.0020", "h": "0.0025", "l": "0.0005", "v": "1000", "n": 100, "x": closed, "q": "1.0", "V": "500",
         "Q": "0.5", "B": "0"}  # fmt: skip
    return json.dumps({"stream": "btcusdt@kline_1m", "data": {"e": "kline", "E": 1, "s": symbol, "k": k}})


async def test_only_an_exchange_s_closed_bars_are_taken() -> None:
    paths = []

    async def exchange(connection: Any) -> None:
        paths.append(connection.request.path)
        await connection.send('{"result": null, "id": 1}')
        for minute in range(3):
            for closed in (False, False, True):
                await connection.send(kline(minute, closed=closed))
        await connection.wait_closed()

    sink = Sink(3)
    async with serve(exchange, "127.0.0.1", 0) as server:
        url = kline_url(["BTC/USDT", "ETH/USDT"], "1m", base=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        task = asyncio.create_task(receive(url, sink, parse=kline_parser(["BTC/USDT", "ETH/USDT"])))  # type: ignore[arg-type]
        await asyncio.wait_for(sink.done.wait(), 30)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert paths == ["/stream?streams=btcusdt@kline_1m/ethusdt@kline_1m"]
    assert [(b.symbol, b.open_us, b.values) for b in sink.bars] == [
        ("BTC/USDT", START_MS * 1000 + n * 60_000_000, (0.001, 0.0025, 0.0005, 0.002, 1000.0)) for n in range(3)
    ]


@pytest.mark.parametrize("text", ["[]", "{", '{"e": "kline"}', '{"e": "kline", "k": {"x": true}}'])
def test_a_message_that_an_exchange_never_sends_is_bad(text: str) -> None:
    with pytest.raises(BadEntryError):
        kline_parser([])(text)


async def test_a_time_in_seconds_is_rejected_by_name_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def bars(connection: Any) -> None:
        for minute in range(3):
            bar = json.loads(message(minute))
            await connection.send(json.dumps(bar | {"open_time": bar["open_time"] // 1000}))
        await connection.wait_closed()

    sink = Sink(3)
    async with serve(bars, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with caplog.at_level("WARNING", logger="fstore"):
            task = asyncio.create_task(receive(url, sink))  # type: ignore[arg-type]
            await asyncio.wait_for(sink.done.wait(), 30)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert sink.bars == []
    assert sink.rules == ["impossible_time"] * 3
    reports = [record.getMessage() for record in caplog.records if "message rejected" in record.getMessage()]
    assert len(reports) == 1  # the first, the tenth, the hundredth, ...
    assert "a count of seconds; milliseconds since 1970 are expected" in reports[0]


# --------------------------------------------------------------------------------------------------- replay


def test_a_replay_keeps_time(minutes: Callable[..., pd.DataFrame]) -> None:
    """60 times as fast: one minute per second, holes included."""
    clock, fed = [0.0], []

    class Timed:
        def put(self, bars: list[LiveBar]) -> None:
            fed.append((clock[0], bars[0].open_us))

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    bars = minutes(10).drop(index=[4, 5]).reset_index(drop=True)
    now = bars["open_time"].iloc[-1].to_pydatetime()  # the last one has not closed
    count = replay(
        bars, SYMBOLS["BTC/USD"], MINUTE, Timed(), speed=60, now=now, sleep=sleep, monotonic=lambda: clock[0]
    )  # type: ignore[arg-type]
    assert count == len(fed) == 7
    assert [round(at, 6) for at, _ in fed] == [0, 1, 2, 3, 6, 7, 8]


def test_a_replay_continues_where_the_last_one_ended(
    settings: Settings, feed: Feed, minutes: Callable[..., pd.DataFrame]
) -> None:
    bars = minutes(300)
    by_batch(settings, {"BTC/USD": bars.head(200)})
    rest = newer_than_stored(bars, SYMBOLS["BTC/USD"], MINUTE, settings.tables())
    assert live(rest) == live(bars.iloc[200:])
    fed: list[int] = []
    assert replay(rest, SYMBOLS["BTC/USD"], MINUTE, feed, speed=0, now=datetime.now(UTC), progress=fed.append) == 100
    assert (feed.backlog(), fed) == (100, [100])
