"""What every ``OnlineReader`` and every ``Reader`` keeps, whichever store or service is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pytest
import pytest_asyncio

from feature_repo.catalog import WINDOW_TIME, symbol, timeframe
from feature_repo.repo import Repo
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.doubt import lift_doubt, mark_doubt
from feature_repo.stores.window import Window
from fsclient.answers.values import NO_BAR
from fsclient.backends import open_online
from fsclient.cache.invalidator import NewListener
from fsclient.errors import FeatureStoreUnavailable
from fsclient.questions.latest import latest_request
from fsclient.questions.ranges import compute_request, range_request
from fsclient.reading.reader import OnlineReader, Reader
from fsclient.reading.stores import StoreReader
from fsclient.remote.reader import ServiceReader
from fsclient.resilience.guard import OUTAGE
from fsclient.resilience.retry import Deadline
from tests.fsclient.proxy import Proxy
from tests.fsclient.reading.memory_reader import MemoryListener, MemoryReader
from tests.fsclient.serving import Serving
from tests.fsclient.stack import KNOWN_WITHOUT_DATA, PUBLISHED, Clock, Market

HOUR, FOUR_HOURS = timeframe("1h"), timeframe("4h")
EURUSD, GBPUSD, ABSENT = (symbol(name) for name in (*PUBLISHED, KNOWN_WITHOUT_DATA))


class Store(Protocol):
    """An online store of one of the kinds, holding the market, as the suite changes it."""

    reader: OnlineReader
    listener: NewListener

    def publish(self, symbol: str, timeframe: str, window: Window) -> None: ...

    def doubt(self, symbol: str, timeframe: str, reason: str) -> None: ...

    def go_away(self) -> None: ...


class RedisStore:
    """The market's server, behind a proxy."""

    def __init__(self, market: Market, proxy: Proxy, repo: Repo, threads: ThreadPoolExecutor) -> None:
        self.reader, self.listener = open_online(repo, timeout_s=5.0, threads=threads)
        self._market, self._proxy = market, proxy

    def publish(self, symbol: str, timeframe: str, window: Window) -> None:
        assert self._market.publish(symbol, timeframe, window)

    def doubt(self, symbol: str, timeframe: str, reason: str) -> None:
        with connect(self._market.url) as redis:
            mark_doubt(redis, self._market.repo.project, symbol, timeframe, reason)

    def go_away(self) -> None:
        self._proxy.refuse()

    def end(self) -> None:
        with connect(self._market.url) as redis:
            lift_doubt(redis, self._market.repo.project, "EUR/USD", "1h")


class MemoryStore:
    """The same in memory."""

    def __init__(self, market: Market, reader: MemoryReader, listener: NewListener) -> None:
        self.reader, self.listener = reader, listener
        self.publish, self.doubt = reader.publish, reader.doubt
        for pair, window in market.windows.items():
            self.publish(*pair, window)

    def go_away(self) -> None:
        self.reader.is_away = True


def in_memory(market: Market) -> MemoryStore:
    reader = MemoryReader()
    return MemoryStore(market, reader, partial(MemoryListener, reader))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=2) as threads:
        yield threads


@pytest_asyncio.fixture(params=["redis", "memory"])
async def store(
    request: pytest.FixtureRequest, market: Market, proxy: Proxy, repo: Repo, threads: ThreadPoolExecutor
) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield in_memory(market)
        return
    store = RedisStore(market, proxy, repo, threads)
    yield store
    store.end()
    await store.reader.close()


# --------------------------------------------------------------------------------------------------- OnlineReader


async def test_the_newest_values_of_every_symbol_and_view(store: Store, market: Market) -> None:
    names = ["close", "rsi_14", "4h:sma_200"]
    values = await store.reader.latest(latest_request(PUBLISHED, names, "1h"))
    for i, name in enumerate(PUBLISHED):
        hours, four_hours = market.windows[name, "1h"], market.windows[name, "4h"]
        expected = [hours.columns["close"][-1], hours.columns["rsi_14"][-1], four_hours.columns["sma_200"][-1]]
        np.testing.assert_array_equal(values.values[i], expected)
        assert values.event_us[i].tolist() == [hours.event_us, hours.event_us, four_hours.event_us]
    assert values.stored.all()
    assert values.doubt == ()


async def test_what_was_never_published_is_absent_and_no_error(store: Store) -> None:
    values = await store.reader.latest(latest_request([KNOWN_WITHOUT_DATA, "EUR/USD"], ["close"], "1h"))
    assert np.isnan(values.values[0]).all()
    assert not values.stored[0].any()
    assert values.event_us[0].tolist() == [NO_BAR]
    assert values.stored[1].all()
    assert await store.reader.window(ABSENT, HOUR, ["close"]) is None


async def test_a_window_holds_its_bars_with_the_columns_that_were_asked_for(store: Store, market: Market) -> None:
    published = market.windows["EUR/USD", "1h"]
    window = await store.reader.window(EURUSD, HOUR, ["close", "sma_5", "never_published"])
    assert window is not None
    assert set(window.columns) == {"close", "sma_5"}
    for name, values in window.columns.items():
        np.testing.assert_array_equal(values, published.columns[name])
    np.testing.assert_array_equal(window.opens_us, (published.columns[WINDOW_TIME] * 1e6).astype(np.int64))
    assert (window.event_us, window.doubt) == (published.event_us, ())


async def test_a_publish_is_seen_by_the_next_read_and_changes_the_revision_of_its_own(
    store: Store, market: Market
) -> None:
    reader = store.reader
    before = await reader.revision(EURUSD, HOUR)
    others = [await reader.revision(EURUSD, FOUR_HOURS), await reader.revision(GBPUSD, HOUR)]
    assert await reader.revision(EURUSD, HOUR) == before
    store.publish("EUR/USD", "1h", market.corrected(close=1.75))
    assert await reader.revision(EURUSD, HOUR) != before
    assert [await reader.revision(EURUSD, FOUR_HOURS), await reader.revision(GBPUSD, HOUR)] == others
    values = await reader.latest(latest_request("EUR/USD", ["close"], "1h"))
    assert values.values.tolist() == [[1.75]]
    window = await reader.window(EURUSD, HOUR, ["close"])
    assert window is not None
    assert window.columns["close"][-1] == 1.75


async def test_a_publish_is_heard_until_the_listener_stops(store: Store, market: Market) -> None:
    heard = asyncio.Queue[tuple[str, str]]()
    listening = asyncio.Event()

    async def on_publish(changed: Iterable[tuple[str, str]]) -> None:
        for pair in changed:
            heard.put_nowait(pair)

    async def on_lost() -> None:
        listening.set()  # what was published before was not heard

    listener = store.listener(on_publish=on_publish, on_lost=on_lost)
    listener.start()
    async with asyncio.timeout(10):
        await listening.wait()
        store.publish("EUR/USD", "1h", market.corrected(close=1.75))
        assert await heard.get() == ("EUR/USD", "1h")
    assert listener.is_listening
    await listener.stop()
    assert not listener.is_listening


async def test_a_doubt_is_said_beside_the_values_it_is_about_and_changes_the_revision(store: Store) -> None:
    reader, doubt = store.reader, {"symbol": "EUR/USD", "timeframe": "1h", "reason": "rsi_14 differs"}
    before = await reader.revision(EURUSD, HOUR)
    store.doubt("EUR/USD", "1h", "rsi_14 differs")
    assert (await reader.latest(latest_request(PUBLISHED, ["close"], "1h"))).doubt == (doubt,)
    assert (await reader.latest(latest_request(PUBLISHED, ["close"], "4h"))).doubt == ()
    for tf, expected in ((HOUR, (doubt,)), (FOUR_HOURS, ())):
        window = await reader.window(EURUSD, tf, ["close"])
        assert window is not None
        assert window.doubt == expected
    assert await reader.revision(EURUSD, HOUR) != before


async def test_reads_may_overlap(store: Store, market: Market) -> None:
    requests = [latest_request(name, ["close"], tf) for name in PUBLISHED for tf in ("1h", "4h")] * 16
    answers = await asyncio.gather(*(store.reader.latest(request) for request in requests))
    for request, values in zip(requests, answers, strict=True):
        window = market.windows[request.symbols[0].name, request.timeframe.name]
        assert values.values.tolist() == [[window.columns["close"][-1]]]


def reads(reader: OnlineReader) -> list[Any]:
    return [
        reader.latest(latest_request("EUR/USD", ["close"], "1h")),
        reader.window(EURUSD, HOUR, ["close"]),
        reader.revision(EURUSD, HOUR),
        reader.ping(),
    ]


async def test_a_store_that_is_gone_is_an_outage(store: Store) -> None:
    await store.reader.ping()
    store.go_away()
    for read in reads(store.reader):
        with pytest.raises(OUTAGE):
            await read


async def test_a_closed_reader_says_so_and_may_be_closed_again(store: Store) -> None:
    await store.reader.ping()
    await store.reader.close()
    await store.reader.close()
    for read in reads(store.reader):
        with pytest.raises(FeatureStoreUnavailable, match="closed"):
            await read


# --------------------------------------------------------------------------------------------------------- Reader

MakeReader = Callable[[], Reader]


@pytest_asyncio.fixture(params=["stores", "stores, online in memory", "service"])
async def reader(
    request: pytest.FixtureRequest, market: Market, proxy: Proxy, repo: Repo, clock: Clock
) -> AsyncIterator[Reader]:
    options: dict[str, Any] = {"kept_share": 0.0, "retries": 0, "on_breaker": lambda _: None}
    options |= {"now": clock.now, "clock": clock.monotonic}
    reader: Reader
    if request.param == "service":
        service: Serving = request.getfixturevalue("service")
        reader = ServiceReader(service.url, api_key=None, **options)
    else:
        threads = ThreadPoolExecutor(max_workers=2)
        online: OnlineReader = in_memory(market).reader
        if request.param == "stores":
            online, _ = open_online(repo, timeout_s=5.0, threads=threads)
        reader = StoreReader(online, repo.tables(), threads=threads, **options)
    yield reader
    await reader.close()


def soon(clock: Clock) -> Deadline:
    return Deadline.after(10.0, clock=clock.monotonic)


async def test_a_lookup_is_answered_online_and_recomputed_alike(reader: Reader, clock: Clock) -> None:
    request = latest_request(PUBLISHED, ["close", "rsi_14", "4h:sma_5"], "1h")
    online = await reader.latest(request, soon(clock))
    assert (online.record.source, online.record.complete, online.record.age_bars) == ("online", True, 0)
    recomputed = await reader.recomputed(request, soon(clock))
    assert recomputed.record.as_of == online.record.as_of
    np.testing.assert_allclose(recomputed.floats, online.floats, rtol=1e-9)


async def test_a_lookup_without_data_is_an_answer(reader: Reader, clock: Clock) -> None:
    answer = await reader.latest(latest_request(KNOWN_WITHOUT_DATA, ["close"], "1h"), soon(clock))
    assert answer.record.as_of is None
    assert [entry["reason"] for entry in answer.record.missing] == ["no_data"]


@pytest.mark.parametrize(
    ("days", "source"), [(("2024-06-24", "2024-06-26"), "online"), (("2024-03-04",) * 2, "offline")]
)
async def test_a_range_is_answered_from_the_window_or_from_history(
    days: tuple[str, str], source: str, reader: Reader, market: Market, clock: Clock
) -> None:
    request = range_request("EUR/USD", *days, "1h", ["close", "sma_5"])
    answer = await reader.range(request, soon(clock))
    assert answer.record.source == source
    assert answer.names == ("close", "sma_5")
    rows = market.tables.read_range(
        "indicators",
        timeframe="1h",
        symbol="EUR/USD",
        start=request.start.to_pydatetime(),
        end=request.end.to_pydatetime(),
        columns=["sma_5"],
    )
    np.testing.assert_array_equal(answer.values[1], rows["sma_5"].to_numpy())


async def test_a_feature_is_computed_over_its_range(reader: Reader, clock: Clock) -> None:
    request = compute_request("sma", "EUR/USD", "2024-03-04", "2024-03-05", "1h", {"window": 5})
    computed = await reader.computed(request, soon(clock))
    stored = await reader.range(range_request("EUR/USD", "2024-03-04", "2024-03-05", "1h", ["sma_5"]), soon(clock))
    assert computed.record.source == "recomputed"
    pd.testing.assert_index_equal(computed.index, stored.index)
    np.testing.assert_allclose(computed.values, stored.values, rtol=1e-9)


async def test_a_closed_reader_has_no_answer(reader: Reader, clock: Clock) -> None:
    await reader.close()
    for answer in (
        reader.latest(latest_request("EUR/USD", ["close"], "1h"), soon(clock)),
        reader.range(range_request("EUR/USD", "2024-03-04", "2024-03-05", "1h"), soon(clock)),
    ):
        with pytest.raises(FeatureStoreUnavailable, match="closed"):
            await answer
