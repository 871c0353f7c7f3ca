"""Faults of the way to the service, made for real: what a caller gets, how soon, and what is left behind."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.repo import Repo
from feature_repo.stores.redis.connection import connect
from fsclient import (
    AuthenticationError,
    CircuitOpenError,
    FeatureCache,
    FeatureStoreClient,
    FeatureStoreUnavailable,
    InvalidRequestError,
    RequestTimeout,
    StaleDataError,
    UnknownSymbolError,
    feature,
)
from fsclient.computed.registered import registered
from fsclient.metrics.registry import Metrics
from fsclient.reading.stores import BREAKER
from tests.fsclient.outcomes import in_time, outcome
from tests.fsclient.proxy import Proxy
from tests.fsclient.serving import Serving
from tests.fsclient.stack import PUBLISHED, Clock, Market, hearing, source, until

Make = Callable[..., FeatureStoreClient]

TIMEOUT_S = 0.5
RECOMPUTE_TIMEOUT_S = 2.0
FEATURES = ("close", "rsi_14", "4h:ema_20")


def refused(way: Proxy) -> None:
    way.refuse()


def black_holed(way: Proxy) -> None:
    way.black_hole()


def cut_in_mid_reply(way: Proxy) -> None:
    way.cut(after_bytes=400)


def slower_than_the_timeout(way: Proxy) -> None:
    way.delay(10 * TIMEOUT_S)


FAULTS = (refused, black_holed, cut_in_mid_reply, slower_than_the_timeout)


# --------------------------------------------------------------------------------- the service is unavailable


@pytest.mark.parametrize("mode", ["last_good", "recompute", "fail"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_is_answered_as_chosen_in_time_and_the_service_asked_again_afterwards(
    fault: Callable[[Proxy], None], mode: str, make_remote: Make, way: Proxy, clock: Clock
) -> None:
    client = make_remote(on_unavailable=mode, timeout_s=TIMEOUT_S, use_cache=False)

    def ask() -> Awaitable[tuple[str, float, pd.DataFrame | None]]:
        return outcome(client.get_latest(PUBLISHED, FEATURES))

    await until_online(client)
    label, _, before = await ask()
    assert label in ("online", "cache")

    fault(way)
    for _ in range(3):
        label, took_s, frame = await ask()
        # Nobody can recompute without the service: its stores are there.
        assert label == ("last_good" if mode == "last_good" else "FeatureStoreUnavailable")
        assert in_time(took_s, TIMEOUT_S), f"{took_s:.3f} s"
        if frame is not None:
            assert before is not None
            np.testing.assert_array_equal(frame[list(FEATURES)], before[list(FEATURES)])
            assert frame.attrs["provenance"]["stale"] is True

    way.forward()
    clock.forward(BREAKER.wait_open_s)
    await until_online(client)


async def until_online(client: FeatureStoreClient) -> None:
    """Waits for the service's own answer: the first one loads what it takes."""
    for _ in range(20):
        label, *_ = await outcome(client.get_latest(PUBLISHED, FEATURES))
        if label in ("online", "cache"):
            return
    pytest.fail(f"the service does not answer: {label}")


async def test_a_range_and_a_computation_have_a_last_good_answer_too(make_remote: Make, way: Proxy) -> None:
    client = make_remote(use_cache=False, timeout_s=5.0)
    days = ("EUR/USD", "2024-03-04", "2024-03-08")
    bars = await client.get_ohlcv(*days)
    computed = await client.compute_feature("RSI", *days)
    way.refuse()
    assert source(bars) == "offline"
    again = await client.get_ohlcv(*days)
    pd.testing.assert_frame_equal(again, bars, check_exact=True)
    assert source(again) == source(await client.compute_feature("RSI", *days)) == "last_good"
    assert source(computed) == "recomputed"


async def test_a_process_that_starts_in_an_outage_finds_the_last_good_answer_on_its_disk(
    make_remote: Make, way: Proxy, tmp_path: Path
) -> None:
    first = make_remote(use_cache=False)
    await first.get_latest("EUR/USD", ["close"])
    spool = tmp_path / "elsewhere" / "spool"
    await until(lambda: list(spool.glob("*.arrow")), "the answer to be on disk")
    await first.close()
    way.refuse()
    assert source(await make_remote(use_cache=False).get_latest("EUR/USD", ["close"])) == "last_good"


async def test_a_way_that_fails_is_left_alone_and_says_for_how_long(make_remote: Make, way: Proxy) -> None:
    metrics = Metrics()
    client = make_remote(on_unavailable="fail", retries=0, use_cache=False, metrics=metrics)
    assert metrics.states == {"breaker.service": "closed"}
    way.refuse()
    for _ in range(BREAKER.minimum_calls):
        with pytest.raises(FeatureStoreUnavailable) as caught:
            await client.get_latest("EUR/USD", ["close"])
    assert f"the service at http://127.0.0.1:{way.port} is out of reach (ConnectError)" in str(caught.value)
    with pytest.raises(CircuitOpenError) as left_alone:
        await client.get_latest("EUR/USD", ["close"])
    assert 0 < left_alone.value.retry_after_s <= BREAKER.wait_open_s
    assert metrics.states == {"breaker.service": "open"}


async def test_one_fault_is_fixed_by_a_retry(make_remote: Make, way: Proxy) -> None:
    """Fault: the service was restarted, and the connections of before are gone."""
    metrics = Metrics()
    client = make_remote(on_unavailable="fail", use_cache=False, timeout_s=5.0, metrics=metrics)
    await client.get_latest("EUR/USD", ["close"])
    way.drop()
    await client.get_latest("EUR/USD", ["open"])
    assert metrics.get_metrics()["errors"]["total"] == 0


async def test_200_concurrent_misses_make_one_question(make_remote: Make, service: Serving) -> None:
    client = make_remote(timeout_s=10.0)
    frames = await asyncio.gather(*(client.get_latest(PUBLISHED, FEATURES) for _ in range(200)))
    assert service.metrics.get_metrics()["calls"]["total"] == 1
    assert len({id(frame) for frame in frames}) == 200


async def test_callers_that_give_up_leave_the_others_their_own_answers(make_remote: Make, market: Market) -> None:
    """Fault: callers give up at any moment, even in the middle of a reply."""
    client = make_remote(on_unavailable="fail", use_cache=False, timeout_s=20.0)
    truth = {symbol: market.windows[symbol, "1h"].columns for symbol in PUBLISHED}
    names = ("open", "high", "low", "close", "sma_5", "rsi_14")

    async def ask(i: int) -> int:
        symbol, name = PUBLISHED[i % 2], names[i % len(names)]
        frame = await client.get_latest(symbol, [name])
        assert list(frame.columns[:1]) == [name]
        assert frame[name].iloc[0] == truth[symbol][name][-1]
        return 1

    async def impatient(i: int) -> int | BaseException:
        call = asyncio.create_task(ask(i))
        asyncio.get_running_loop().call_later(0.002 * (i % 9), call.cancel)
        return (await asyncio.gather(call, return_exceptions=True))[0]

    rounds = [await asyncio.gather(*(impatient(i + n) for i in range(10))) for n in range(15)]
    assert all(result == 1 or isinstance(result, asyncio.CancelledError) for row in rounds for result in row)
    assert sum([await ask(i) for i in range(12)]) == 12


# -------------------------------------------------------------------------- the service's store is unavailable


@pytest.mark.parametrize("fault", ["refused", pytest.param("black_holed", marks=pytest.mark.drill)])
@pytest.mark.parametrize("mode", ["last_good", "recompute", "fail"])
async def test_an_unavailable_online_store_behind_the_service_is_covered_as_it_is_locally(
    mode: str, fault: str, make_remote: Make, proxy: Proxy, market: Market, service: Serving
) -> None:
    timeout_s = RECOMPUTE_TIMEOUT_S
    client = make_remote(on_unavailable=mode, timeout_s=timeout_s, use_cache=False)
    await until_online(client)
    await until(lambda: service.hears, "the service to hear publishes")
    changes = service.lookups.invalidator.changes
    market.publish("EUR/USD", "1h", market.corrected(close=1.5))
    await until(lambda: service.lookups.invalidator.changes > changes, "the service's cache to have no answer any more")
    proxy.refuse() if fault == "refused" else proxy.black_hole()
    expected = {"last_good": "last_good", "recompute": "recomputed", "fail": "FeatureStoreUnavailable"}[mode]
    for names in (FEATURES, FEATURES[:1], FEATURES[1:]):
        if mode == "last_good" and names != FEATURES:
            continue
        label, took_s, _ = await outcome(client.get_latest(PUBLISHED, names))
        assert label == expected
        assert in_time(took_s, timeout_s), f"{took_s:.3f} s"
    # The way to the service is well: a range is asked for and answered from the service's offline store.
    assert client._reader.guard.breaker.snapshot().failed == 0
    assert source(await client.get_ohlcv("EUR/USD", "2024-06-24", "2024-06-26")) == "offline"


async def test_an_online_store_that_lost_its_data_is_covered_too(make_remote: Make, market: Market) -> None:
    """Fault: FLUSHALL, and a service that has never seen what was there."""
    with connect(market.url) as redis:
        redis.flushall()
    frame = await make_remote(on_unavailable="recompute", use_cache=False, timeout_s=20.0).get_latest(
        PUBLISHED, FEATURES
    )
    assert source(frame) == "recomputed"
    assert not frame[list(FEATURES)].isna().any().any()


async def test_too_old_an_answer_is_withheld_by_the_client(make_remote: Make, clock: Clock) -> None:
    clock.forward(5 * 3600)
    with pytest.raises(StaleDataError, match="max_age_bars is 2"):
        await make_remote(max_age_bars=2).get_latest("EUR/USD", ["close"])


async def test_a_mistake_is_neither_retried_nor_covered_up(
    make_remote: Make, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbol that this machine's catalog has and the service's has not."""
    client = make_remote(timeout_s=5.0)
    await client.get_latest("EUR/USD", ["close"])

    def unknown(*_: Any) -> Any:
        raise UnknownSymbolError("unknown symbol 'EUR/USD' there")

    monkeypatch.setattr("fsclient.service.lookups.latest_request", unknown)
    monkeypatch.setattr(client._pipeline._cache, "aget", nothing)
    for _ in range(3):
        with pytest.raises(UnknownSymbolError, match="there"):
            await client.get_latest("EUR/USD", ["close"])
    assert service.metrics.get_metrics()["calls"]["total"] == 4


async def nothing(*_: Any) -> None:
    return None


# ------------------------------------------------------------------------------------------------ what is left


@pytest.fixture
def own() -> Iterator[None]:
    """A function that only this process knows, so that the client computes too."""
    feature("own")(lambda close: close)
    yield
    del registered["own"]


@pytest.mark.parametrize("fault", [None, *FAULTS], ids=lambda fault: fault.__name__ if fault else "none")
async def test_nothing_is_left_after_close(
    fault: Callable[[Proxy], None] | None, make_remote: Make, way: Proxy, own: None
) -> None:
    tasks = asyncio.all_tasks()
    client = make_remote(timeout_s=2.0)
    await hearing(client)
    await client.compute_feature("own", "EUR/USD", "2024-03-01", "2024-03-02")
    if fault is not None:
        fault(way)
    under_way = asyncio.create_task(outcome(client.get_latest("GBP/USD", ["open"])))
    await asyncio.wait([under_way], timeout=0.01)
    await client.close()
    await client.close()
    await asyncio.wait_for(under_way, 3.0)
    await until(lambda: asyncio.all_tasks() == tasks, f"these tasks to end: {asyncio.all_tasks() - tasks}")
    way.forward()
    await until(lambda: way.connections_now == 0, "the connections to end")
    await until(lambda: not threads(), f"these threads to end: {threads()}")
    with pytest.raises(FeatureStoreUnavailable, match="closed"):
        await client.get_latest("EUR/USD", ["close"])


def threads() -> list[str]:
    """The client's; those of the service, which runs in this process too, have other names."""
    return [t.name for t in threading.enumerate() if t.name.startswith(("fsclient-remote", "fsclient-spool"))]


# -------------------------------------------------------------------------------------------------------- keys


async def test_a_key_opens_and_is_never_shown(
    make_remote: Make, service: Serving, way: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = service.keys.add("mine")
    opened = make_remote(api_key=key, timeout_s=10.0)
    async with asyncio.timeout(30.0):  # on a busy machine it may miss the publishes for a moment, and forgets then
        await hearing(opened)
        while source(await opened.get_latest("EUR/USD", ["close"])) != "cache":
            await hearing(opened)
    way.refuse()
    locked = make_remote(api_key=key, on_unavailable="fail", use_cache=False)
    with pytest.raises(FeatureStoreUnavailable) as caught:
        await locked.get_latest("EUR/USD", ["close"])
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert key not in shown + "".join(repr(part) + repr(vars(part)) for part in (opened, opened._reader))


@pytest.mark.parametrize("key", [None, "fstore_wrong-but-secret"])
async def test_a_key_that_is_not_known_is_no_outage(key: str | None, make_remote: Make, service: Serving) -> None:
    first = make_remote(use_cache=False)
    await first.get_latest("EUR/USD", ["close"])
    service.keys.add("mine")
    client = make_remote(api_key=key, on_unavailable="last_good", use_cache=False)
    for _ in range(2 * BREAKER.minimum_calls):
        with pytest.raises(AuthenticationError, match="api_key=") as refused_:
            await client.get_latest("EUR/USD", ["close"])
    assert "secret" not in "".join(traceback.format_exception(refused_.value))
    snapshot = client._reader.guard.breaker.snapshot()
    assert (snapshot.failed, snapshot.state) == (0, "closed")


async def test_a_key_that_is_revoked_ends_answers_and_the_line_of_publishes(
    make_remote: Make, service: Serving
) -> None:
    key = service.keys.add("mine")
    client = make_remote(api_key=key)
    await hearing(client)
    service.keys.revoke("mine")
    await until(lambda: not client.hears_publishes, "the line to end")
    with pytest.raises(AuthenticationError):
        await client.get_latest("EUR/USD", ["open"])


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://user:secret@127.0.0.1", "http://127.0.0.1/?key=secret", ""],
)
def test_an_invalid_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidRequestError) as refused_:
        FeatureStoreClient(url=url)
    assert "secret" not in "".join(traceback.format_exception(refused_.value))


def test_a_key_that_can_be_read_on_the_way_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        FeatureStoreClient(url="http://features.example:8060", api_key="fstore_secret")
    FeatureStoreClient(url="http://127.0.0.1:8060", api_key="fstore_secret")
    FeatureStoreClient(url="https://features.example", api_key="fstore_secret")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "http://features.example:8060: key and answers can be read on the way" in caplog.text
    assert "secret" not in caplog.text


def test_arguments_that_exclude_each_other_are_refused(repo: Repo) -> None:
    with pytest.raises(InvalidRequestError, match="one of them"):
        FeatureStoreClient(url="http://127.0.0.1:8060", repo=repo)
    with pytest.raises(InvalidRequestError, match="url= too"):
        FeatureStoreClient(api_key="fstore_x")
    with pytest.raises(InvalidRequestError, match="api_key must be") as refused_:
        FeatureStoreClient(url="http://127.0.0.1:8060", api_key="secret\r\nx: y")
    assert "secret" not in str(refused_.value)


# ------------------------------------------------------------------------------------------------ somebody else


class Stranger(BaseHTTPRequestHandler):
    """A web server that is no service of ours."""

    status, body, kind = 200, b"<html>hello</html>", "text/html"
    asked: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        type(self).asked.append(str(self.headers))
        self.send_response(self.status)
        self.send_header("content-type", self.kind)
        self.send_header("content-length", str(len(self.body)))
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def stranger() -> Iterator[tuple[str, type[Stranger]]]:
    class Here(Stranger):
        asked: list[str] = []  # noqa: RUF012  # one a test

    server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", Here
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "body", "requests"),
    [
        (200, "text/html", b"<html>hello</html>", 1),
        (307, "text/html", b"elsewhere", 1),
        (404, "text/html", b"not here", 1),
        (502, "text/html", b"bad gateway", 3),
        (500, "application/json", b'{"error": {"kind": "InternalError", "message": "x"}}', 3),
        (200, "application/vnd.apache.arrow.stream", b"torn", 3),
    ],
)
async def test_what_no_service_of_ours_says_is_no_answer(
    status: int, kind: str, body: bytes, requests: int, stranger: tuple[str, type[Stranger]]
) -> None:
    url, here = stranger
    here.status, here.kind, here.body = status, kind, body
    async with FeatureStoreClient(url=url, api_key="fstore_x", on_unavailable="fail", use_cache=False) as client:
        with pytest.raises(FeatureStoreUnavailable):
            await client.get_latest("EUR/USD", ["close"])
    assert len(here.asked) == requests


async def test_no_proxy_of_the_environment_gets_the_key(
    stranger: tuple[str, type[Stranger]], make_remote: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, here = stranger
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, url)
    assert source(await make_remote(api_key="fstore_x", timeout_s=10.0).get_latest("EUR/USD", ["close"])) == "online"
    assert here.asked == []


async def test_clients_of_a_service_and_of_the_stores_keep_apart_in_one_cache(
    make_remote: Make, make_client: Make
) -> None:
    cache = FeatureCache()
    assert source(await make_client(cache=cache).get_latest("EUR/USD", ["close"])) == "online"
    assert source(await make_remote(cache=cache, timeout_s=10.0).get_latest("EUR/USD", ["close"])) == "online"


async def test_a_timeout_is_reported_as_one(make_remote: Make, way: Proxy) -> None:
    client = make_remote(on_unavailable="fail", timeout_s=0.2, use_cache=False)
    way.black_hole()
    with pytest.raises(RequestTimeout, match="did not answer in time"):
        await client.get_latest("EUR/USD", ["close"])


def test_who_asks_no_service_loads_nothing_for_it() -> None:
    program = "import sys, fsclient; print([m for m in ('httpx', 'fastapi', 'uvicorn', 'prefect') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    program = (
        "import sys, fsclient; fsclient.FeatureStoreClient(url='http://127.0.0.1:1');"
        "print([m for m in ('fastapi', 'uvicorn', 'prefect', 'feast') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
