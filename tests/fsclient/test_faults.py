"""Faults of the online store, made for real: what a caller gets, how soon, and what is left behind."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import TIMEFRAMES
from feature_repo.repo import Repo
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, running_server, stop_server
from flows.runs.publish import publish_window
from fsclient import (
    AuthenticationError,
    CircuitOpenError,
    FeatureStoreClient,
    FeatureStoreUnavailable,
    InvalidRequestError,
    RequestTimeout,
)
from fsclient.fallback.last_good import LastGood
from fsclient.metrics.registry import Metrics
from fsclient.pipeline import KEPT_SHARE
from fsclient.reading.stores import BREAKER
from tests.fsclient.outcomes import LATE_S, NOISE_S, in_time, outcome
from tests.fsclient.proxy import Proxy
from tests.fsclient.stack import PUBLISHED, Clock, Market, source, until

TIMEOUT_S = 0.4
RECOMPUTE_TIMEOUT_S = 1.0
"""Half of it is for recomputing, which takes a few hundredths of a second, and more on a busy machine."""
FEATURES = ("close", "rsi_14", "sma_50", "4h:ema_20")
INSTEAD = {"last_good": "last_good", "recompute": "recomputed", "fail": "FeatureStoreUnavailable"}

Make = Callable[..., FeatureStoreClient]


# ------------------------------------------------------------------------------------------------- each fault


def refused(proxy: Proxy, _: Market) -> None:
    proxy.refuse()


def black_holed(proxy: Proxy, _: Market) -> None:
    proxy.black_hole()


def killed_in_mid_reply(proxy: Proxy, _: Market) -> None:
    proxy.cut(after_bytes=20)


def slower_than_the_timeout(proxy: Proxy, _: Market) -> None:
    proxy.delay(10 * TIMEOUT_S)


def flushed(_: Proxy, market: Market) -> None:
    with connect(market.url) as redis:
        redis.flushall()


FAULTS = (refused, black_holed, killed_in_mid_reply, slower_than_the_timeout, flushed)


@pytest.mark.parametrize("mode", INSTEAD)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_is_answered_as_chosen_in_time_and_online_again_after_one_probe_interval(
    fault: Callable[[Proxy, Market], None],
    mode: str,
    make_client: Make,
    proxy: Proxy,
    market: Market,
    clock: Clock,
) -> None:
    timeout_s = RECOMPUTE_TIMEOUT_S if mode == "recompute" else TIMEOUT_S
    client = make_client(on_unavailable=mode, timeout_s=timeout_s, use_cache=False)

    def ask() -> Awaitable[tuple[str, float, pd.DataFrame | None]]:
        return outcome(client.get_latest(PUBLISHED, FEATURES))

    label, _, before = await ask()
    assert label == "online"

    fault(proxy, market)
    for _ in range(3):
        label, took_s, frame = await ask()
        assert label == INSTEAD[mode]
        assert in_time(took_s, timeout_s), f"{took_s:.3f} s"
        if frame is not None:
            assert before is not None
            np.testing.assert_allclose(frame[list(FEATURES)], before[list(FEATURES)], rtol=1e-9, atol=1e-9)
            assert frame.attrs["provenance"]["stale"] is (mode == "last_good")

    proxy.forward()
    market.publish_all()
    clock.forward(BREAKER.wait_open_s)
    label, took_s, frame = await ask()
    assert label == "online"
    assert frame is not None
    assert frame.attrs["provenance"]["stale"] is False


@pytest.mark.parametrize("fault", FAULTS[:4], ids=lambda fault: fault.__name__)
async def test_a_range_comes_from_the_offline_store_while_the_online_store_is_unavailable(
    fault: Callable[[Proxy, Market], None], make_client: Make, proxy: Proxy, market: Market
) -> None:
    client = make_client(on_unavailable="fail", timeout_s=1.0, use_cache=False)

    async def ask() -> pd.DataFrame:
        return await client.get_indicators("EUR/USD", "2024-06-24", "2024-06-26", "1h", ["rsi_14", "close"])

    online = await ask()
    fault(proxy, market)
    offline = await ask()
    assert (source(online), source(offline)) == ("online", "offline")
    pd.testing.assert_frame_equal(online, offline, check_exact=True)


async def test_slow_at_200_ms_is_still_online_when_there_is_time(make_client: Make, proxy: Proxy) -> None:
    proxy.delay(0.2)
    client = make_client(on_unavailable="fail", timeout_s=1.0, use_cache=False)
    for _ in range(2):
        label, took_s, _ = await outcome(client.get_latest("EUR/USD", ["close"]))
        assert label == "online"
        assert 0.2 <= took_s <= 1.0 + LATE_S + NOISE_S


async def test_a_call_that_comes_later_does_not_cut_off_one_that_waits_for_a_slow_server(
    make_client: Make, proxy: Proxy
) -> None:
    """Fault: a server that takes most of the caller's time. The silence before its reply is no dead connection."""
    proxy.delay(1.0)
    client = make_client(on_unavailable="fail", timeout_s=2.0, retries=0, use_cache=False)
    early = asyncio.create_task(client.get_latest("EUR/USD", ["close"]))
    await until(lambda: proxy.waiting_s > 0.7, "a reply to be on its way for long")
    late = asyncio.create_task(client.get_latest("GBP/USD", ["close"]))
    assert [source(frame) for frame in await asyncio.gather(early, late)] == ["online", "online"]
    assert proxy.connections_now == 1


@pytest.mark.parametrize("password", ["", "s3cret"])
async def test_a_connection_that_dies_silently_is_given_up(
    password: str, make_client: Make, proxy: Proxy, repo: Repo, market: Market
) -> None:
    """Fault: the network forgets a connection, or one that is being made; nothing ever comes on it, not even an end."""
    del market
    url = f"redis://:{password}@127.0.0.1:{proxy.port}" if password else repo.redis_url
    client = make_client(repo=replace(repo, redis_url=url), on_unavailable="fail", timeout_s=0.2, use_cache=False)
    proxy.black_hole()
    with pytest.raises(RequestTimeout):
        await client.get_latest("EUR/USD", ["close"])
    connections = proxy.connections
    with pytest.raises(FeatureStoreUnavailable):
        await client.get_latest("EUR/USD", ["close"])
    with pytest.raises(FeatureStoreUnavailable):
        await client.get_latest("EUR/USD", ["close"])
    assert proxy.connections > connections, "it waits on for the connection that was swallowed"


@pytest.mark.parametrize("mode", ["last_good", "recompute"])
async def test_flushed_is_noticed_by_a_client_that_starts_afterwards(
    mode: str, make_client: Make, market: Market
) -> None:
    """Fault: FLUSHALL, and a restart. An empty store is no answer while something knows better."""
    first = make_client(on_unavailable=mode, use_cache=False)
    await first.get_latest(PUBLISHED, FEATURES)
    await first.close()
    with connect(market.url) as redis:
        redis.flushall()
    second = make_client(on_unavailable=mode, use_cache=False)
    frame = await second.get_latest(PUBLISHED, FEATURES)
    assert source(frame) == INSTEAD[mode]
    assert not frame[list(FEATURES)].isna().any().any()


async def test_both_stores_unavailable_is_reported_in_time(make_client: Make, proxy: Proxy, repo: Repo) -> None:
    client = make_client(
        repo=replace(repo, offline=f"{repo.home}/nowhere"), on_unavailable="recompute", timeout_s=TIMEOUT_S
    )
    proxy.black_hole()
    label, took_s, _ = await outcome(client.get_latest("EUR/USD", ["close"]))
    assert label == "FeatureStoreUnavailable"
    assert in_time(took_s, TIMEOUT_S)


async def test_a_fallback_does_not_wait_behind_long_reads_of_the_offline_store(
    make_client: Make, proxy: Proxy, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: every thread hangs in the offline store. The spool has a thread of its own."""
    first = make_client(timeout_s=TIMEOUT_S, use_cache=False)
    await first.get_latest("EUR/USD", ["close"])
    await first.close()
    released = threading.Event()
    client = make_client(timeout_s=TIMEOUT_S, use_cache=False)
    monkeypatch.setattr("fsclient.reading.stores.read_range", lambda *_: released.wait(30))
    try:
        hung = [
            asyncio.create_task(outcome(client.get_ohlcv("EUR/USD", f"2024-03-{day:02}", f"2024-03-{day:02}")))
            for day in range(4, 14)
        ]
        proxy.refuse()
        label, took_s, _ = await outcome(client.get_latest("EUR/USD", ["close"]))
        assert label == "last_good"
        assert in_time(took_s, TIMEOUT_S)
        for label, took_s, _ in await asyncio.gather(*hung):
            assert label == "FeatureStoreUnavailable"
            assert in_time(took_s, TIMEOUT_S)
    finally:
        released.set()


async def test_time_is_kept_to_read_the_last_good_answer_from_a_slow_disk(
    make_client: Make, proxy: Proxy, repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: the store is a black hole to a process that has just started, and its disk takes a tenth of a second."""
    first = make_client(use_cache=False)
    await first.get_latest("EUR/USD", ["close"])
    await first.close()
    await until(lambda: list((repo.home / "spool").glob("*.arrow")), "the answer to be on disk")
    read, slow_s = LastGood.read_spool, 0.09

    def slowly(self: LastGood, key: str) -> pd.DataFrame | None:
        threading.Event().wait(slow_s)
        return read(self, key)

    monkeypatch.setattr(LastGood, "read_spool", slowly)
    timeout_s = 2.0
    assert slow_s < KEPT_SHARE["last_good"] * timeout_s
    proxy.black_hole()
    label, took_s, _ = await outcome(make_client(use_cache=False, timeout_s=timeout_s).get_latest("EUR/USD", ["close"]))
    assert label == "last_good"
    assert in_time(took_s, timeout_s), f"{took_s:.3f} s"


# ------------------------------------------------------------------------------------------------ what is left


@pytest.mark.parametrize("fault", [None, *FAULTS], ids=lambda fault: fault.__name__ if fault else "none")
async def test_nothing_is_left_after_close(
    fault: Callable[[Proxy, Market], None] | None, make_client: Make, proxy: Proxy, market: Market
) -> None:
    tasks = asyncio.all_tasks()
    client = make_client(timeout_s=0.2)
    await client.get_latest(PUBLISHED, FEATURES)
    await client.get_ohlcv("EUR/USD", "2024-03-01", "2024-03-02")
    await until(lambda: client.hears_publishes, "the client to hear publishes")
    if fault is not None:
        fault(proxy, market)
    under_way = asyncio.create_task(outcome(client.get_latest("GBP/USD", ["open"])))
    await asyncio.wait([under_way], timeout=0.01)
    await client.close()
    await client.close()
    await asyncio.wait_for(under_way, 1.0)
    await until(lambda: asyncio.all_tasks() == tasks, f"these tasks to end: {asyncio.all_tasks() - tasks}")
    await until(lambda: proxy.connections_now == 0, "the connections to end")
    await until(lambda: not _threads(), f"these threads to end: {_threads()}")
    with pytest.raises(FeatureStoreUnavailable, match="closed"):
        await client.get_latest("EUR/USD", ["close"])
    assert proxy.connections_now == 0


async def test_closed_while_it_connects_is_reported_as_such(make_client: Make, proxy: Proxy, repo: Repo) -> None:
    proxy.black_hole()
    client = make_client(repo=replace(repo, redis_url=f"redis://:secret@127.0.0.1:{proxy.port}"), use_cache=False)
    under_way = asyncio.create_task(client.get_latest("EUR/USD", ["close"]))
    await until(lambda: proxy.heard(b"AUTH"), "the connection to be made")
    await client.close()
    with pytest.raises(FeatureStoreUnavailable, match="closed"):
        await under_way


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith(("fsclient", "asyncio"))]


# ----------------------------------------------------------------------------------------- crowds and cancelling


async def test_200_concurrent_misses_make_one_load(make_client: Make, proxy: Proxy) -> None:
    client = make_client()
    proxy.delay(0.05)
    frames = await asyncio.gather(*(client.get_latest(PUBLISHED, FEATURES) for _ in range(200)))
    assert proxy.heard(b"HMGET") == len(PUBLISHED)
    assert {source(frame) for frame in frames} == {"online"}
    assert len({id(frame) for frame in frames}) == 200


async def test_the_leader_is_cancelled_and_the_other_199_still_answer(make_client: Make, proxy: Proxy) -> None:
    client = make_client()
    proxy.delay(0.05)
    calls = [asyncio.create_task(client.get_latest("EUR/USD", FEATURES)) for _ in range(200)]
    await until(lambda: proxy.heard(b"HMGET") == 1, "the load to begin")
    calls[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [source(frame) for frame in results[1:] if isinstance(frame, pd.DataFrame)] == ["online"] * 199
    assert proxy.heard(b"HMGET") == 1


async def test_calls_at_any_moment_of_connecting_share_one_connection(make_client: Make, proxy: Proxy) -> None:
    """Fault: a call that comes just when the connection is made opens another, which nobody ends."""
    client = make_client(on_unavailable="fail", use_cache=False)

    async def ask(turns: int) -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        return source(await client.get_latest("EUR/USD", [_NAMES[turns % len(_NAMES)]]))

    for _ in range(10):
        proxy.drop()
        await until(lambda: proxy.connections_now == 0, "the connections to end")
        before = proxy.connections
        assert set(await asyncio.gather(*(ask(turns) for turns in range(100)))) == {"online"}
        assert proxy.connections == before + 1


async def test_50_callers_in_half_open_make_at_most_the_permitted_probes(
    make_client: Make, proxy: Proxy, clock: Clock
) -> None:
    metrics = Metrics()
    client = make_client(on_unavailable="fail", retries=0, use_cache=False, metrics=metrics)
    assert metrics.states == {"breaker.online": "closed"}
    proxy.refuse()
    while True:
        with pytest.raises(FeatureStoreUnavailable) as failed:
            await client.get_latest("EUR/USD", ["close"])
        if isinstance(failed.value, CircuitOpenError):
            break
    assert 0 < failed.value.retry_after_s <= BREAKER.wait_open_s
    assert metrics.states == {"breaker.online": "open"}
    proxy.forward()
    proxy.delay(0.05)
    proxy.forget()
    clock.forward(BREAKER.wait_open_s)
    callers = [client.get_latest(symbol, [name]) for symbol in PUBLISHED for name in _NAMES]
    assert len(callers) == 50
    results = await asyncio.gather(*callers, return_exceptions=True)
    answered = [f for f in results if isinstance(f, pd.DataFrame)]
    assert len(answered) == BREAKER.probes
    assert proxy.heard(b"HMGET") == BREAKER.probes
    assert all(isinstance(f, CircuitOpenError) for f in results if not isinstance(f, pd.DataFrame))
    assert source(await client.get_latest("EUR/USD", ["close"])) == "online"
    assert metrics.states == {"breaker.online": "closed"}


_NAMES = (
    *("open", "high", "low", "close", "volume", "sma_5", "sma_10", "sma_20", "sma_50", "sma_100", "sma_200"),
    *("ema_9", "ema_12", "ema_20", "ema_26", "ema_50", "ema_200", "rsi_7", "rsi_14", "rsi_21", "atr_14", "cci_20"),
    *("roc_10", "mfi_14", "obv"),
)


async def test_a_cancel_storm_through_a_slow_proxy_never_mixes_up_two_symbols(
    make_client: Make, proxy: Proxy, market: Market
) -> None:
    """Fault: hundreds of callers give up at any moment, even between a command and its reply."""
    client = make_client(on_unavailable="fail", use_cache=False, timeout_s=5.0)
    truth = {symbol: market.windows[symbol, "1h"].columns for symbol in PUBLISHED}
    rng = random.Random(7)
    proxy.delay(0.002)

    async def ask(symbol: str, names: tuple[str, ...], *, window: bool) -> int:
        if window:
            frame = await client.get_indicators(symbol, "2024-06-24", "2024-06-26", "1h", names)
        else:
            frame = await client.get_latest(symbol, names)
        for name in names:
            np.testing.assert_array_equal(frame[name].iloc[-1], truth[symbol][name][-1])
        return 1

    async def impatient() -> list[int | BaseException]:
        """Asks again and again, most times giving up while the reply is on its way."""
        results: list[int | BaseException] = []
        for _ in range(25):
            names = tuple(rng.sample(_NAMES, 3))
            call = asyncio.create_task(ask(rng.choice(PUBLISHED), names, window=rng.random() < 0.3))
            if rng.random() < 0.7:
                asyncio.get_running_loop().call_later(rng.uniform(0, 0.006), call.cancel)
            results += await asyncio.gather(call, return_exceptions=True)
        return results

    results = list(itertools.chain.from_iterable(await asyncio.gather(*(impatient() for _ in range(20)))))
    wrong = [result for result in results if result != 1 and not isinstance(result, asyncio.CancelledError)]
    assert not wrong, wrong[0]
    assert 0 < results.count(1) < len(results), "the storm cancelled all or none"
    proxy.forward()
    for symbol in PUBLISHED * 10:
        await ask(symbol, _NAMES, window=False)
        await ask(symbol, _NAMES, window=True)


# ---------------------------------------------------------------------------------------------------- credentials

PASSWORD = "unguessable-%40"  # noqa: S105  # of a server that lives as long as a test


@pytest.fixture
def locked(market: Market) -> Iterator[None]:
    """The server asks for a password meanwhile."""
    with connect(market.url) as redis:
        redis.config_set("requirepass", PASSWORD)
        redis.acl_setuser("blind", enabled=True, passwords=["+blind"], commands=["+ping", "+subscribe"])
    yield
    name = market.url.removeprefix("unix://")
    with connect(f"unix://:{PASSWORD.replace('%', '%25')}@{name}") as redis:
        redis.acl_deluser("blind")
        redis.config_set("requirepass", "")


@pytest.mark.parametrize(
    ("user", "why"),
    [(":wrong-but-secret@", "wrong password"), ("", "no password"), ("blind:blind@", "may not read")],
    ids=lambda value: str(value).replace(" ", "_"),
)
async def test_refused_credentials_are_no_outage_and_never_shown(
    user: str,
    why: str,
    locked: None,
    make_client: Make,
    proxy: Proxy,
    repo: Repo,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client(
        repo=replace(repo, redis_url=f"redis://{user}127.0.0.1:{proxy.port}"),
        on_unavailable="recompute",
        use_cache=False,
    )
    for _ in range(8):  # more than the breaker would take
        proxy.forget()
        with pytest.raises(AuthenticationError) as refused:
            await client.get_latest("EUR/USD", ["close"])
        assert proxy.heard(b"HMGET") <= 1, f"{why}: retried"
        assert proxy.heard(b"AUTH") <= 1, f"{why}: retried"
    assert client._reader.guard.breaker.snapshot().failed == 0
    shown = "".join(traceback.format_exception(refused.value)) + caplog.text + repr(client) + repr(client._repo)
    assert "secret" not in shown
    assert "FSTORE_REDIS_URL" in str(refused.value)


async def test_the_right_password_opens(locked: None, make_client: Make, proxy: Proxy, repo: Repo) -> None:
    url = f"redis://:{PASSWORD.replace('%', '%25')}@127.0.0.1:{proxy.port}/0"
    client = make_client(repo=replace(repo, redis_url=url))
    assert source(await client.get_latest("EUR/USD", ["close"])) == "online"
    await until(lambda: client.hears_publishes, "the client to hear publishes")


@pytest.mark.parametrize("url", ["redis://user:p@ss:secret@host:port", "http://:secret@host", "secret"])
async def test_an_invalid_url_is_refused_at_once_and_not_shown(url: str, repo: Repo) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        FeatureStoreClient(repo=replace(repo, redis_url=url))
    assert "secret" not in "".join(traceback.format_exception(refused.value))


async def test_no_password_is_shown_when_the_store_is_unavailable(
    make_client: Make, proxy: Proxy, repo: Repo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    proxy.refuse()
    client = make_client(
        repo=replace(repo, redis_url=f"redis://me:secret@127.0.0.1:{proxy.port}"), on_unavailable="fail"
    )
    with pytest.raises(FeatureStoreUnavailable) as caught:
        await client.get_latest("EUR/USD", ["close"])
    await until(lambda: "publishes are not heard" in caplog.text, "the log to tell of the lost channel")
    assert "secret" not in "".join(traceback.format_exception(caught.value)) + caplog.text


# --------------------------------------------------------------------------------------------------- the embedded


async def test_an_embedded_server_that_ended_with_its_owner_is_started_again(
    make_client: Make, repo: Repo, market: Market
) -> None:
    """Fault: the process that had started it is gone, and its server with it."""
    home = repo.home
    own = replace(repo, redis_url=None)
    try:
        with connect(ensure_server(home)) as redis:
            publish_window(redis, repo.project, "EUR/USD", TIMEFRAMES["1h"], market.windows["EUR/USD", "1h"])
        client = make_client(repo=own, on_unavailable="fail", use_cache=False)
        assert source(await client.get_latest("EUR/USD", ["close"])) == "online"
        stop_server(home)
        assert running_server(home) is None
        frame = await client.get_latest("EUR/USD", ["close"])
        assert source(frame) == "online"  # its data is on disk
        assert running_server(home) is not None
    finally:
        stop_server(home)
