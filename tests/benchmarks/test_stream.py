"""How long a live bar takes from its arrival until it is online, and where the time goes. Asserts no time."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from feature_repo import catalog
from feature_repo.stores.redis.codec import decode_timestamp, entity_key, timestamp_key
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from feature_repo.stores.redis.publish import publish
from flows.compute.increment import STATE_FIELDS
from flows.ledger import IngestedSeries as Listed
from flows.ledger import Ledger, Watermark
from flows.runs.plan import DEFINITIONS_DIGEST
from flows.runs.publish import publish_window, view_rows
from flows.settings import Settings
from flows.stream import Feed, LiveBar, StreamConfig, fast_path, stream
from flows.stream.fast_path import TAIL_BARS, LiveSeries
from flows.stream.feed import SHARDS

from .conftest import Report

pytestmark = pytest.mark.benchmark

MINUTE_US = 60_000_000
MANY = 500
ROUNDS = 5
BARS = TAIL_BARS  # a full tail: the most that a bar may have to be computed from
MINUTE = catalog.timeframe("1m")
START_US = 1_704_067_200_000_000 + 30 * MINUTE_US  # no other timeframe closes with the first rounds' bars
VIEW = catalog.view("window", "1m").name


def symbol(n: int) -> catalog.Symbol:
    return catalog.Symbol(
        name=f"BENCH.{n}/USD", session=catalog.SESSIONS["24x7"], digits=5, price_min=0.1, price_max=9.0
    )


def walk(n: int) -> Any:
    rng = np.random.default_rng(3)
    close = np.exp(np.cumsum(rng.normal(0, 1e-4, n)))
    return np.stack([close, close * 1.0001, close * 0.9999, close, rng.uniform(1, 9, n)])


WALK = walk(BARS + 400)


def bars_of(names: list[str], at: int) -> list[LiveBar]:
    values = dict(zip(catalog.BAR_FIELDS, WALK[:, BARS + at].tolist(), strict=True))
    open_us = START_US + (BARS + at) * MINUTE_US
    return [LiveBar(symbol=name, timeframe="1m", open_us=open_us, **values) for name in names]


OPENS_US = START_US + np.arange(BARS) * MINUTE_US


def empty(spec: catalog.Symbol) -> LiveSeries:
    return LiveSeries(spec, MINUTE, None, opens_us=OPENS_US[:0], bars=WALK[:, :0], state=np.empty((3, 0)), whole=True,
                  window=None, settled_us=0)  # fmt: skip


@pytest.fixture(scope="module")
def full() -> Callable[[catalog.Symbol], LiveSeries]:
    """A symbol in memory with a full tail."""
    fresh = fast_path.take(empty(symbol(0)), OPENS_US, WALK[:, :BARS], 1)
    state = np.stack([fresh.features[catalog.INDICATOR_FIELDS.index(name)] for name in STATE_FIELDS])

    def make(spec: catalog.Symbol) -> LiveSeries:
        return LiveSeries(spec, MINUTE, None, opens_us=OPENS_US, bars=WALK[:, :BARS], state=state, whole=False,
                      window=fresh.window, settled_us=0)  # fmt: skip

    return make


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, full: Callable[[catalog.Symbol], LiveSeries]) -> Iterator[Settings]:
    """500 symbols that have minutes and nothing longer, as they are when a stream has read them."""
    with pytest.MonkeyPatch.context() as patch:
        specs = {spec.name: spec for spec in map(symbol, range(MANY))}
        patch.setattr(catalog, "SYMBOLS", MappingProxyType(specs))
        patch.setattr("feature_repo.catalog.symbols.SYMBOLS", MappingProxyType(specs))
        patch.setattr("flows.stream.loaded.TIMEFRAMES", {"1m": MINUTE})
        patch.setattr("flows.stream.loaded.load", lambda symbols, *_: {s.name: {"1m": full(s)} for s in symbols})
        home = tmp_path_factory.mktemp("stream_home")
        settings = Settings(home=home, redis_url=ensure_server(home))
        created_us = int(OPENS_US[-1]) + MINUTE_US
        with Ledger(f"sqlite:///{home / 'ledger.db'}") as ledger, ledger.lease([*specs], owner="benchmark") as lease:
            ledger.list_series(
                [Listed(symbol=name, timeframe="1m", first_us=START_US, last_us=int(OPENS_US[-1]),
                        listed_us=created_us) for name in specs]
            )  # fmt: skip
            ledger.advance(
                lease,
                [Watermark(symbol=name, timeframe="1m", event_us=created_us, seen_us=created_us,
                           recipe=DEFINITIONS_DIGEST) for name in specs],
            )  # fmt: skip
        yield settings
        stop_server(home)


def work(settings: Settings, shards: list[int], pipe: Any) -> None:
    stop = threading.Event()

    def watch() -> None:
        with contextlib.suppress(EOFError):
            pipe.recv()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    stream(settings, shards=shards, config=StreamConfig(max_symbols=MANY), stop=stop, ready=lambda: pipe.send("ready"))


@pytest.fixture
def workers(place: Settings) -> Iterator[None]:
    """Two processes that share the symbols; forked, so that they know them."""
    context, started = multiprocessing.get_context("fork"), []
    for n in range(2):
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(place, [*range(n, SHARDS, 2)], theirs))
        process.start()
        started.append((process, ours))
    for _, pipe in started:
        assert pipe.poll(120)
        pipe.recv()
    yield
    for process, pipe in started:
        pipe.send("stop")
        process.join(30)
        process.kill()


def shown(client: Any, project: str, names: list[str], close_us: int) -> None:
    """Waits until all of these are online."""
    keys, field, left = {n: entity_key(n, project) for n in names}, timestamp_key(VIEW), list(names)
    while left:
        with client.pipeline(transaction=False) as pipe:
            for name in left[:1]:
                pipe.hget(keys[name], field)
            stamp = pipe.execute()[0]
        if stamp and decode_timestamp(stamp) >= close_us:
            left = left[1:]
        else:
            time.sleep(0.0005)


def test_bars_that_close_at_once(
    place: Settings, workers: None, full: Callable[[catalog.Symbol], LiveSeries], report: Report
) -> None:
    project, names = place.repo().project, list(catalog.SYMBOLS)
    single, batch = [], []
    with connect(place.redis_url) as client, connect(place.redis_url) as watcher:
        feed = Feed(client, project)
        for at in range(200):
            begun = time.perf_counter()
            feed.put(bars_of(names[:1], at))
            shown(watcher, project, names[:1], START_US + (BARS + at + 1) * MINUTE_US)
            single.append(time.perf_counter() - begun)
            time.sleep(0.02)
        for at in range(ROUNDS):
            begun = time.perf_counter()
            feed.put(bars_of(names[1:], at))
            shown(watcher, project, names[1:], START_US + (BARS + at + 1) * MINUTE_US)
            batch.append(time.perf_counter() - begun)
            time.sleep(3.0)
    writes = [floor_of(place, full, MANY - 1) for _ in range(3)]
    bare, floor = min(writes) / (MANY - 1), "the writes alone"
    report.ratio("live bar to online, one symbol, median", float(np.median(single)), bare, floor, "-")
    report.ratio("live bar to online, one symbol, p99", float(np.quantile(single, 0.99)), bare, floor, "10 ms")
    report.ratio(f"{MANY - 1} symbols at once, all online, best", min(batch), min(writes), floor, "1 s")
    report.ratio(f"{MANY - 1} symbols at once, median", float(np.median(batch)), float(np.median(writes)), floor, "1 s")


def floor_of(place: Settings, full: Callable[[catalog.Symbol], LiveSeries], count: int) -> float:
    """Seconds that the online store itself takes for so many writes of a prepared window, one after another."""
    window = fast_path.take(full(symbol(0)), OPENS_US[-1:] + MINUTE_US, WALK[:, BARS : BARS + 1], 2).window
    rows = view_rows(MINUTE, window)
    with connect(place.redis_url) as client:
        begun = time.perf_counter()
        for n in range(count):
            publish(client, "floor", f"S{n}", rows)
        return time.perf_counter() - begun


def test_where_the_time_goes(place: Settings, full: Callable[[catalog.Symbol], LiveSeries], report: Report) -> None:
    series = full(symbol(0))
    times: dict[str, list[float]] = {"compute and check": [], "encode": [], "encode and publish": []}
    with connect(place.redis_url) as client:
        for at in range(200):
            opens = np.array([START_US + (BARS + at) * MINUTE_US])
            begun = time.perf_counter()
            fast_path.bad_bars(series.symbol, MINUTE, opens, WALK[:, BARS + at : BARS + at + 1], int(opens[0]) * 2)
            fresh = fast_path.take(series, opens, WALK[:, BARS + at : BARS + at + 1], 10 + at)
            times["compute and check"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            view_rows(MINUTE, fresh.window)
            times["encode"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            publish_window(client, "benchmark", "S", MINUTE, fresh.window)
            times["encode and publish"].append(time.perf_counter() - begun)
    for step, times_s in times.items():
        report.time(f"live bar: {step}", float(np.median(times_s)), "-")
