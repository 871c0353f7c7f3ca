"""One call through the client: what its cache repeats and for how long, whose frame it is, what blocks the loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uvloop

from feature_repo.repo import Repo
from feature_repo.stores.redis.connection import connect
from fsclient import (
    FeatureCache,
    FeatureStoreClient,
    FeatureStoreUnavailable,
    InvalidRequestError,
    UnknownFeatureError,
    UnknownSymbolError,
)
from fsclient.answers.repeating import ABSENT_S, CLOSED_S, SETTLE_S, UNHEARD_S
from fsclient.cache.invalidator import REVISION_S
from fsclient.metrics.registry import Metrics
from tests.fsclient.proxy import Proxy
from tests.fsclient.stack import (
    EVERY_FIELD,
    KNOWN_WITHOUT_DATA,
    MINUTES,
    PUBLISHED,
    Clock,
    Market,
    hearing,
    reasons,
    source,
    until,
)

Make = Callable[..., FeatureStoreClient]
LIVE = ("2024-06-25", "2024-06-27")
"""A range that reaches past NOW."""
CLOSED = ("2024-03-04", "2024-03-08")


# -------------------------------------------------------------------------------------------------------- the cache


async def test_a_call_after_a_publish_does_not_join_a_load_that_began_before_it(
    client: FeatureStoreClient, proxy: Proxy
) -> None:
    await hearing(client)
    proxy.forget()
    proxy.delay(0.2)
    early = asyncio.create_task(client.get_latest("GBP/USD", ["close"]))
    await until(lambda: proxy.heard(b"HMGET") == 1, "the load to begin")
    await client._invalidator._published([("GBP/USD", "1h")])  # type: ignore[union-attr]  # while the line is slow too
    late = asyncio.create_task(client.get_latest("GBP/USD", ["close"]))
    assert [source(frame) for frame in await asyncio.gather(early, late)] == ["online", "online"]
    assert proxy.heard(b"HMGET") == 2


async def test_the_newest_bar_is_repeated_until_the_next_close_and_then_asked_for_until_it_comes(
    client: FeatureStoreClient, clock: Clock
) -> None:
    await hearing(client)

    async def ask() -> tuple[str, int]:
        frame = await client.get_latest(PUBLISHED, ["close", "rsi_14"])
        return source(frame), frame.attrs["provenance"]["age_bars"]

    assert await ask() == ("online", 0)
    clock.forward(29 * 60)  # 12:59
    assert await ask() == ("cache", 0)
    clock.forward(61)  # 13:00:01: a bar has closed and is not there yet
    assert await ask() == ("online", 1)
    clock.forward(SETTLE_S - 1)
    assert await ask() == ("cache", 1)
    clock.forward(2)
    assert await ask() == ("online", 1)


async def test_the_shortest_timeframe_asked_for_sets_the_next_close(client: FeatureStoreClient, clock: Clock) -> None:
    await hearing(client)
    await client.get_latest("EUR/USD", ["close"], timeframe="4h")
    await client.get_latest("EUR/USD", ["close", "1h:close"], timeframe="4h")
    clock.forward(29 * 60 + 61)  # the hour's close, not the 4h bar's, which is at 13:00 too for fx; so one hour on
    clock.forward(3600 - SETTLE_S)
    assert source(await client.get_latest("EUR/USD", ["close", "1h:close"], timeframe="4h")) == "online"


@pytest.mark.parametrize("days", [CLOSED, ("2024-03-04", "2024-03-09")], ids=["friday", "saturday"])
async def test_a_closed_range_lives_long(days: tuple[str, str], client: FeatureStoreClient, clock: Clock) -> None:
    await hearing(client)
    for call in (
        lambda: client.get_ohlcv("EUR/USD", *days),
        lambda: client.compute_feature("sma", "EUR/USD", *days, parameters={"window": 3}),
    ):
        first = await call()
        assert source(first) != "cache"
        clock.forward(CLOSED_S - 60)
        assert source(await call()) == "cache"
        clock.forward(120)
        assert source(await call()) != "cache"


async def test_a_range_that_reaches_the_present_is_asked_again_after_the_next_close(
    client: FeatureStoreClient, clock: Clock
) -> None:
    await hearing(client)
    assert source(await client.get_ohlcv("EUR/USD", *LIVE)) == "online"
    assert source(await client.get_ohlcv("EUR/USD", *LIVE)) == "cache"
    clock.forward(30 * 60 + 1)
    later = await client.get_ohlcv("EUR/USD", *LIVE)
    assert source(later) == "online"
    assert later.attrs["provenance"]["age_bars"] == 1
    assert reasons(later) == {"gap"}


async def test_without_hearing_publishes_an_answer_is_repeated_for_a_second(
    client: FeatureStoreClient, proxy: Proxy, clock: Clock
) -> None:
    del proxy
    client._invalidator.begin = lambda: False  # type: ignore[method-assign]
    assert source(await client.get_ohlcv("EUR/USD", *CLOSED)) == "offline"
    assert source(await client.get_ohlcv("EUR/USD", *CLOSED)) == "cache"
    clock.forward(UNHEARD_S + 0.1)
    assert source(await client.get_ohlcv("EUR/USD", *CLOSED)) == "offline"


_PUBLISH = """
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from feature_repo.catalog import TIMEFRAMES
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.window import read_window
from flows.runs.publish import publish_window

offline, url, project, symbol, tf, end = sys.argv[1:]
window = read_window(DeltaTables(offline), TIMEFRAMES[tf], symbol, end=datetime.fromisoformat(end))
columns = dict(window.columns)
columns["close"] = columns["close"].copy()
columns["close"][-1] = 1.25
with connect(url) as redis:
    later = replace(window, created_us=window.created_us + 1, columns=columns)
    assert publish_window(redis, project, symbol, TIMEFRAMES[tf], later)
"""


async def test_a_publish_by_another_process_invalidates_what_it_changed_and_leaves_the_rest(
    client: FeatureStoreClient, market: Market
) -> None:
    await hearing(client)
    changed = {
        "one": lambda: client.get_latest("EUR/USD", ["close"]),
        "mixed timeframes": lambda: client.get_latest("EUR/USD", ["close", "4h:close"]),
        "mixed, the other first": lambda: client.get_latest("EUR/USD", ["1h:close"], timeframe="4h"),
        "many": lambda: client.get_latest(PUBLISHED, ["close"]),
        "range": lambda: client.get_ohlcv("EUR/USD", *LIVE),
        "closed range": lambda: client.get_ohlcv("EUR/USD", *CLOSED),
        "computed": lambda: client.compute_feature("RSI", "EUR/USD", *CLOSED),
    }
    others = {
        "another symbol": lambda: client.get_latest("GBP/USD", ["close"]),
        "another timeframe": lambda: client.get_latest("EUR/USD", ["close"], timeframe="4h"),
        "another symbol's range": lambda: client.get_ohlcv("GBP/USD", *CLOSED),
        "another timeframe's range": lambda: client.get_ohlcv("EUR/USD", *CLOSED, timeframe="4h"),
    }
    questions = changed | others
    for ask in questions.values():
        await ask()
    assert {name: source(await ask()) for name, ask in questions.items()} == dict.fromkeys(questions, "cache")

    arguments = [market.repo.offline, market.url, market.repo.project, "EUR/USD", "1h", "2024-06-26T11:00:00+00:00"]
    child = await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", _PUBLISH, *arguments)
    assert await child.wait() == 0
    await until(lambda: _size(client) == len(others), "the publish to be heard", within_s=2)
    assert {name: source(await ask()) for name, ask in others.items()} == dict.fromkeys(others, "cache")
    answers = {name: await ask() for name, ask in changed.items()}
    assert "cache" not in {source(frame) for frame in answers.values()}
    assert answers["one"].loc["EUR/USD", "close"] == 1.25
    assert answers["mixed timeframes"].loc["EUR/USD", "close"] == 1.25
    assert answers["range"]["close"].iloc[-1] == 1.25


def _size(client: FeatureStoreClient) -> int:
    assert client._pipeline._cache is not None
    return int(client._pipeline._cache.get_stats()["size"])


async def test_what_is_published_while_the_channel_is_lost_is_not_missed(
    client: FeatureStoreClient, proxy: Proxy, market: Market
) -> None:
    """Fault: the connection that hears publishes is cut, and one comes before there is another."""
    await hearing(client)
    await client.get_latest("EUR/USD", ["close"])
    assert source(await client.get_latest("EUR/USD", ["close"])) == "cache"
    proxy.refuse()
    await until(lambda: not client.hears_publishes, "the loss of the channel to be noticed")
    assert _size(client) == 0
    market.publish("EUR/USD", "1h", market.corrected(close=1.75))
    proxy.forward()
    await until(lambda: client.hears_publishes, "the client to hear again")
    frame = await client.get_latest("EUR/USD", ["close"])
    assert frame.loc["EUR/USD", "close"] == 1.75


async def test_a_load_that_a_publish_overtook_is_not_cached(
    client: FeatureStoreClient, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsclient.reading.stores as module

    read, begun, go_on = module.read_range, threading.Event(), threading.Event()

    def slowly(*args: object) -> object:
        values = read(*args)  # type: ignore[arg-type]
        begun.set()
        go_on.wait(10)
        return values

    monkeypatch.setattr(module, "read_range", slowly)
    await hearing(client)
    await client.get_latest("EUR/USD", ["close"])  # when this is forgotten, the publish has been heard
    assert _size(client) == 1
    old = asyncio.create_task(client.get_ohlcv("EUR/USD", *CLOSED))
    await until(begun.is_set, "the load to have read")
    market.publish("EUR/USD", "1h", market.corrected())
    await until(lambda: _size(client) == 0, "the publish to be heard")
    go_on.set()
    assert source(await old) == "offline"
    assert _size(client) == 0
    assert source(await client.get_ohlcv("EUR/USD", *CLOSED)) == "offline"
    assert source(await client.get_ohlcv("EUR/USD", *CLOSED)) == "cache"


async def test_errors_and_stand_ins_are_never_cached(make_client: Make, proxy: Proxy) -> None:
    client = make_client(on_unavailable="last_good", timeout_s=0.5)
    await client.get_latest("EUR/USD", ["close"])
    client._pipeline._cache = FeatureCache()
    proxy.refuse()
    assert source(await client.get_latest("EUR/USD", ["close"])) == "last_good"
    with pytest.raises(FeatureStoreUnavailable):
        await client.get_latest("EUR/USD", ["open"])
    assert _size(client) == 0
    proxy.forward()
    assert source(await client.get_latest("EUR/USD", ["open"])) == "online"
    assert source(await client.get_latest("EUR/USD", ["close"])) == "online"


async def test_a_symbol_without_data_is_remembered_briefly_and_until_it_is_published(
    client: FeatureStoreClient, proxy: Proxy, clock: Clock, market: Market
) -> None:
    await hearing(client)

    async def ask() -> tuple[str, set[str]]:
        frame = await client.get_latest(KNOWN_WITHOUT_DATA, ["close", "rsi_14"])
        return source(frame), reasons(frame)

    assert await ask() == ("online", {"no_data"})
    assert await ask() == ("cache", {"no_data"})
    clock.forward(ABSENT_S + 0.1)
    assert await ask() == ("online", {"no_data"})
    market.publish(KNOWN_WITHOUT_DATA, "1h", market.windows["EUR/USD", "1h"])
    await until(lambda: _size(client) == 0, "the publish to be heard")
    assert await ask() == ("online", set())
    assert proxy.heard(b"HMGET") >= 3


MISTAKES = {
    "unknown symbol": (lambda c: c.get_latest("EUR/USX", ["close"]), UnknownSymbolError),
    "unknown feature": (lambda c: c.get_latest("EUR/USD", ["rsi_15"]), UnknownFeatureError),
    "unknown timeframe": (lambda c: c.get_ohlcv("EUR/USD", *CLOSED, timeframe="2h"), InvalidRequestError),
    "several symbols": (lambda c: c.get_indicators([*PUBLISHED], *CLOSED, indicators=["close"]), InvalidRequestError),
    "another timeframe": (
        lambda c: c.get_indicators(PUBLISHED[0], *CLOSED, indicators=["5m:close"]),
        InvalidRequestError,
    ),
    "start after end": (lambda c: c.get_ohlcv("EUR/USD", *CLOSED[::-1]), InvalidRequestError),
    "no features": (lambda c: c.get_indicators("EUR/USD", *CLOSED), InvalidRequestError),
    "features is None": (lambda c: c.get_indicators("EUR/USD", *CLOSED, indicators=None), InvalidRequestError),
    "wrong parameter": (
        lambda c: c.compute_feature("sma", "EUR/USD", *CLOSED, parameters={"windw": 3}),
        InvalidRequestError,
    ),
    "parameter out of range": (
        lambda c: c.compute_feature("RSI", "EUR/USD", *CLOSED, parameters={"timeperiod": 0}),
        InvalidRequestError,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_callers_mistake_is_never_retried_cached_counted_or_answered_by_a_fallback(
    mistake: str, client: FeatureStoreClient, proxy: Proxy
) -> None:
    call, error = MISTAKES[mistake]
    for _ in range(8):
        with pytest.raises(error):
            await call(client)
    assert proxy.heard(b"HMGET") == 0
    assert _size(client) == 0
    breaker = client._reader.guard.breaker.snapshot()
    assert (breaker.state, breaker.calls, breaker.failed) == ("closed", 0, 0)
    assert not list((client._repo.home / "spool").glob("*"))


async def test_one_cache_for_clients_of_two_repositories_keeps_them_apart(
    make_client: Make, repo: Repo, tmp_path: Path
) -> None:
    cache = FeatureCache()
    first = make_client(cache=cache)
    second = make_client(cache=cache, repo=replace(repo, project="another"))
    third = make_client(cache=cache, repo=replace(repo, offline=str(tmp_path)))
    assert source(await first.get_latest("EUR/USD", ["close"])) == "online"
    for other in (second, third):
        assert source(await other.get_latest("EUR/USD", ["close"])) != "cache"
    assert source(await second.get_latest("EUR/USD", ["open"])) == "recomputed"  # nothing is published there
    frame = await third.get_ohlcv("EUR/USD", *CLOSED)
    assert (len(frame), reasons(frame)) == (0, {"no_data"})


async def test_a_publish_reaches_answers_in_the_tier_that_processes_share(make_client: Make, market: Market) -> None:
    tiers = [FeatureCache(redis_url=market.url) for _ in range(2)]
    first, second = (make_client(cache=cache) for cache in tiers)
    for client in (first, second):
        await hearing(client)
    await first.get_ohlcv("EUR/USD", *CLOSED)
    assert source(await second.get_ohlcv("EUR/USD", *CLOSED)) == "cache"
    market.publish("EUR/USD", "1h", market.corrected())
    await until(lambda: all(cache.get_stats()["size"] == 0 for cache in tiers), "the publish to be heard")
    assert source(await first.get_ohlcv("EUR/USD", *CLOSED)) == "offline"
    for cache in tiers:
        cache.close()


async def test_a_process_that_begins_to_listen_drops_nothing_that_others_share(
    make_client: Make, market: Market
) -> None:
    for number in range(3):
        cache = FeatureCache(redis_url=market.url)
        client = make_client(cache=cache)
        await hearing(client)
        assert source(await client.get_ohlcv("EUR/USD", *CLOSED)) == ("cache" if number else "offline")
        await client.close()
        cache.close()


async def test_what_is_shared_is_not_served_after_a_publish_that_nobody_heard(
    make_client: Make, market: Market
) -> None:
    """Fault: every listener is gone when a correction is published, and what they shared is still there."""
    for published in (False, True):
        if published:
            market.publish("EUR/USD", "1h", market.corrected(close=1.75))
        cache = FeatureCache(redis_url=market.url)
        client = make_client(cache=cache)
        await hearing(client)
        frames = [await client.get_latest(PUBLISHED, ["close"]), await client.get_latest("EUR/USD", ["close", "open"])]
        assert {source(frame) for frame in frames} == {"online"}
        for frame in frames:
            assert bool(frame.loc["EUR/USD", "close"] == 1.75) is published
        assert source(await client.get_latest(PUBLISHED, ["close"])) == "cache"
        await client.close()
        cache.close()


async def test_who_cannot_read_the_revision_shares_for_a_second_only(
    make_client: Make, market: Market, proxy: Proxy, clock: Clock
) -> None:
    """Fault: the online store is slower than a question for a revision may take."""
    cache = FeatureCache(redis_url=market.url, clock=clock.monotonic)
    client = make_client(cache=cache, on_unavailable="fail")
    await hearing(client)
    with connect(market.url) as redis:
        before = set(redis.scan_iter("fstore:cache:value:*"))
        proxy.delay(2 * REVISION_S)
        assert source(await client.get_latest("EUR/USD", ["open"])) == "online"
        proxy.forward()
        (unheard,) = set(redis.scan_iter("fstore:cache:value:*")) - before
        assert redis.pttl(unheard) <= 1000 * UNHEARD_S
    assert source(await client.get_latest("EUR/USD", ["open"])) == "online", "under the name that holds its revision"
    assert source(await client.get_latest("EUR/USD", ["open"])) == "cache"
    cache.close()


# -------------------------------------------------------------------------------------- a frame is its caller's own


def spoil(frame: pd.DataFrame) -> None:
    """Changes all of a frame that its holder can change."""
    frame.iloc[:, 0] = -1.0
    frame.to_numpy()[:] = -2.0 if frame.to_numpy().dtype == float else frame.to_numpy()
    for name in frame.columns:
        if frame[name].dtype == float:
            frame[name].to_numpy().flags.writeable and frame[name].to_numpy().fill(-3.0)
    for labels in (frame.index, frame.columns):
        values = labels.values
        if values.flags.writeable:
            values[:] = values[::-1].copy()
    if isinstance(frame.index, pd.DatetimeIndex):
        with suppress(ValueError):  # where the market was closed in between
            frame.index.freq = "h"
    frame.index.name = "spoilt"
    frame.columns = [f"spoilt_{n}" for n in range(frame.shape[1])]
    frame.attrs["provenance"]["missing"].append("spoilt")
    frame.attrs["provenance"]["source"] = "spoilt"
    frame.attrs["spoilt"] = True


def assert_unspoilt(frame: pd.DataFrame, like: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(frame, like, check_exact=True)
    assert frame.index.name == like.index.name
    assert "spoilt" not in str(frame.attrs)


CALLS = {
    "latest": lambda c: c.get_latest(PUBLISHED, ["close", "rsi_14"]),
    "range": lambda c: c.get_ohlcv("EUR/USD", *LIVE),
    "offline range": lambda c: c.get_indicators("EUR/USD", *CLOSED, indicators=["sma_5", "rsi_14"]),
    "computed": lambda c: c.compute_feature("MACD", "EUR/USD", *CLOSED),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("way", ["cached", "shared flight", "last good", "last good from disk, shared"])
async def test_what_a_caller_changes_in_a_frame_changes_nothing_for_others(
    way: str, call: str, make_client: Make, proxy: Proxy, repo: Repo
) -> None:
    client = make_client(timeout_s=1.0, use_cache=way == "cached")
    ask = CALLS[call]
    if way == "cached":
        await hearing(client)
    truth = (await ask(client)).copy()
    if way == "cached":
        frames = [await ask(client) for _ in range(3)]
        assert {source(frame) for frame in frames} == {"cache"}
    elif way == "shared flight":
        frames = list(await asyncio.gather(*(ask(client) for _ in range(3))))
    else:
        if "disk" in way:
            await client.close()
            await until(lambda: list((repo.home / "spool").glob("*.arrow")), "the answer to be on disk")
            client = make_client(timeout_s=1.0, use_cache=False)
        _take_away_both_stores(client, proxy)
        frames = list(await asyncio.gather(*(ask(client) for _ in range(3))))
        assert {source(frame) for frame in frames} == {"last_good"}
    spoil(frames[0])
    assert_unspoilt(frames[1], truth)
    spoil(frames[1])
    assert_unspoilt(frames[2], truth)
    spoil(frames[2])
    again = await ask(client)
    assert_unspoilt(again, truth)


def _take_away_both_stores(client: FeatureStoreClient, proxy: Proxy) -> None:
    proxy.refuse()
    client._reader._tables = None  # type: ignore[assignment]

    async def unavailable(*_: object) -> object:
        raise FeatureStoreUnavailable("the offline store is away")

    client._reader._bounded = unavailable  # type: ignore[assignment, method-assign]


async def test_attributes_survive_parquet(client: FeatureStoreClient, tmp_path: Path) -> None:
    from fsclient import provenance

    frame = await client.get_ohlcv("EUR/USD", *LIVE)
    frame.to_parquet(tmp_path / "frame.parquet")
    back = pd.read_parquet(tmp_path / "frame.parquet")
    assert provenance(back) == provenance(frame)
    pd.testing.assert_frame_equal(back, frame)


# ---------------------------------------------------------------------------------------------------- event loops


def test_one_client_on_two_event_loops_in_turn(market: Market, proxy: Proxy, repo: Repo, clock: Clock) -> None:
    client = FeatureStoreClient(repo=repo, now=clock.now, clock=clock.monotonic, publish_metrics=False)

    async def ask() -> tuple[str, str, float]:
        first = await client.get_latest("EUR/USD", ["close"])
        await hearing(client)
        await client.get_latest("EUR/USD", ["close"])
        return source(first), source(await client.get_latest("EUR/USD", ["close"])), first["close"].iloc[0]

    for close in (1.25, 1.5, 1.75):
        window = market.corrected(close=close)
        market.publish("EUR/USD", "1h", replace(window, created_us=window.created_us + int(close * 1e6)))
        assert asyncio.run(ask()) == ("online", "cache", close), "what was published between two loops was missed"
        gc.collect()  # what a loop leaves open, warns here
        assert _settled(lambda: proxy.connections_now == 0), "connections outlive their loop"
    asyncio.run(client.close())
    assert _settled(lambda: not [t for t in threading.enumerate() if t.name.startswith("fsclient")])


def _settled(condition: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 5
    while not condition() and time.monotonic() < ends:
        time.sleep(0.005)
    return condition()


async def test_a_client_on_a_loop_in_another_thread_is_closed_with_the_rest(
    client: FeatureStoreClient, proxy: Proxy
) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(hearing(client), loop))
        await hearing(client)
        await client.close()
        await until(lambda: proxy.connections_now == 0, "both loops' connections to end")
        await until(lambda: not asyncio.all_tasks(loop), "the other loop's tasks to end")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_a_thousand_concurrent_calls(make_client: Make, proxy: Proxy, market: Market) -> None:
    client = make_client(timeout_s=30.0)  # a busy machine may take longer than the usual two seconds for all of them
    pairs = list(itertools.islice(itertools.combinations(EVERY_FIELD, 2), 500))
    calls = [(symbol, pair) for pair in pairs for symbol in PUBLISHED]
    frames = await asyncio.gather(*(client.get_latest(symbol, pair) for symbol, pair in calls))
    for (symbol, pair), frame in zip(calls, frames, strict=True):
        truth = [market.windows[symbol, "1h"].columns[name][-1] for name in pair]
        np.testing.assert_array_equal(frame.loc[symbol, list(pair)].to_numpy(dtype=float), truth)
    assert proxy.connections_now <= 2  # one to ask by, one to hear publishes


@pytest.mark.parametrize("use_cache", [True, False])
async def test_lookups_leave_nothing_to_python_s_collector(use_cache: bool, make_client: Make) -> None:
    """Fault: objects that refer to each other, call after call, until all of the process stands still to find them."""
    client = make_client(use_cache=use_cache)

    async def ask() -> None:
        await client.get_latest(PUBLISHED, ["close", "rsi_14"])
        await client.get_ohlcv("EUR/USD", "2024-06-24", "2024-06-26")

    await ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            await ask()
        assert gc.collect() < 50
    finally:
        gc.enable()


async def test_reading_a_large_range_does_not_hold_up_the_event_loop(make_client: Make) -> None:
    """Half a million bars, three times; a machine that is busy elsewhere may hold up two of them."""
    client = make_client(timeout_s=30.0, use_cache=False)
    rounds = [await _heartbeat(lambda: client.get_ohlcv(MINUTES, "2023-06-01", "2024-06-01", timeframe="1m"))]
    while len(rounds) < 3 and not _beats(*rounds[-1]):
        rounds.append(await _heartbeat(lambda: client.get_ohlcv(MINUTES, "2023-06-01", "2024-06-01", timeframe="1m")))
    assert _beats(*rounds[-1]), f"longest silence and whole, in seconds: {rounds}"


def _beats(longest_s: float, took_s: float) -> bool:
    return longest_s < 0.05 and longest_s < took_s / 3


async def _heartbeat(call: Callable[[], Awaitable[pd.DataFrame]]) -> tuple[float, float]:
    """The longest time for which a call blocked the loop, and how long the call took."""
    loop = asyncio.get_running_loop()
    longest_s, last = 0.0, loop.time()

    def beat() -> None:
        nonlocal longest_s, last, handle
        now = loop.time()
        longest_s, last = max(longest_s, now - last), now
        handle = loop.call_later(0.001, beat)

    handle = loop.call_later(0.001, beat)
    started = loop.time()
    frame = await call()
    took_s = loop.time() - started
    handle.cancel()
    assert len(frame) > 500_000
    return longest_s, took_s


# ------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
        {"timeout_s": float("nan")},
        {"retries": -1},
        {"on_unavailable": "invent"},
        {"max_age_bars": -1},
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused_by_name(options: dict[str, float], repo: Repo) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(options))):
        FeatureStoreClient(repo=repo, **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ its metrics, for others


async def test_metrics_are_published_from_the_first_answer_until_the_last_client_closes(
    make_client: Make, market: Market
) -> None:
    metrics = Metrics()
    first, second = (make_client(metrics=metrics, publish_metrics=True) for _ in range(2))
    for client in (first, second):
        await client.get_latest("EUR/USD", ["close"])
    assert _publisher_threads() == 1, "one for all clients of a process"
    await first.close()
    assert _publisher_threads() == 1
    await second.close()
    await until(lambda: _publisher_threads() == 0, "the publisher to end")


async def test_a_client_that_never_reached_the_store_publishes_nothing(make_client: Make, proxy: Proxy) -> None:
    proxy.refuse()
    client = make_client(publish_metrics=True, on_unavailable="fail")
    with pytest.raises(FeatureStoreUnavailable):
        await client.get_latest("EUR/USD", ["close"])
    assert _publisher_threads() == 0


def _publisher_threads() -> int:
    return sum(thread.name.startswith("fsclient-metrics") for thread in threading.enumerate())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_whole_client_answers_on_loops_of_either_kind(
    new_loop: Callable[[], asyncio.AbstractEventLoop], market: Market, repo: Repo, clock: Clock, proxy: Proxy
) -> None:
    """uvloop's transports are not asyncio's, and its tasks are scheduled by another loop."""

    async def main() -> list[str]:
        options = {"repo": repo, "publish_metrics": False, "now": clock.now, "clock": clock.monotonic}
        async with FeatureStoreClient(**options) as client:
            await hearing(client)
            crowd = await asyncio.gather(*(client.get_latest(PUBLISHED, ["close", "rsi_14"]) for _ in range(50)))
            answers = [crowd[0], crowd[-1], await client.get_latest(PUBLISHED, ["close", "rsi_14"])]
            answers.append(await client.get_ohlcv("EUR/USD", *CLOSED))
            answers.append(await client.compute_feature("sma", "EUR/USD", *CLOSED, parameters={"window": 3}))
            proxy.refuse()
            clock.forward(3600)
            answers.append(await client.get_latest(PUBLISHED, ["close", "rsi_14"]))
        leftover = asyncio.all_tasks() - {asyncio.current_task()}
        assert leftover == set()
        return [source(answer) for answer in answers]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        sources = runner.run(main())
    assert sources == ["online", "online", "cache", "offline", "recomputed", "last_good"]
    assert proxy.heard(b"HMGET") >= len(PUBLISHED)
