"""Bars that arrive one by one leave what the batch flow would have made of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.fence import FencedOutError
from flows.ingest.withdraw import withdraw
from flows.ledger import LeaseLost, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings
from flows.stream import Feed, LiveBar
from flows.stream.bar import to_fields
from flows.stream.feed import shard_of, stream_key
from tests.flows.stream.streaming import (
    FAST,
    Running,
    State,
    assert_same,
    by_batch,
    ledger_of,
    left_in_streams,
    live,
    state_of,
    through_stream,
)

Minutes = Callable[..., pd.DataFrame]
BTC = "BTC/USD"


def test_new_bars_leave_what_the_batch_flow_leaves(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame, expected: Callable[..., State]
) -> None:
    with Running(settings, redis) as running:
        for cut in [*range(1500, 1530), *range(1530, len(known), 100)]:
            step = 1 if cut < 1530 else 100
            feed.put(live(known.iloc[cut : cut + step]))
            running.work()
        running.finish()
        assert (running.stats.bars, running.stats.settled) == (600, 0)
    state = state_of(settings, [BTC])
    assert left_in_streams(redis, settings.repo().project) == (0, 0)
    assert_same(state, expected({BTC: known}))


def test_a_first_a_late_and_a_corrected_bar_are_left_to_the_batch_flow(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame, expected: Callable[..., State]
) -> None:
    """And later bars take the fast path again."""
    bars, rows = known.copy(), live(known)
    corrected = bars.loc[1510:1510].assign(volume=77.0)
    with Running(settings, redis) as running:
        feed.put([*rows[1500:1505], *rows[1506:1520]])
        running.work()
        feed.put([rows[1505], *live(corrected), *rows[1520:1600]])
        running.work()
        feed.put(live(minutes_of_a_new_symbol(bars), "ETH/USD"))
        running.work()
        feed.put(rows[1600:])
        running.finish()
        assert running.stats.settled > 2
        assert running.stats.bars > 500
    bars.loc[1510, "volume"] = 77.0
    state = state_of(settings, [BTC, "ETH/USD"])
    assert left_in_streams(redis, settings.repo().project) == (0, 0)
    assert_same(state, expected({BTC: bars, "ETH/USD": minutes_of_a_new_symbol(bars)}), revisions=False)


def minutes_of_a_new_symbol(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.head(90).reset_index(drop=True)


def test_bars_that_are_known_are_acknowledged_and_change_nothing(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame
) -> None:
    through_stream(settings, redis, feed, live(known.iloc[1500:]))
    tables = settings.tables()
    before = tables.version("bars"), tables.version("indicators"), state_of(settings, [BTC])
    stats = through_stream(settings, redis, feed, live(known.iloc[1400:]))
    assert (stats.bars, stats.unchanged, stats.settled) == (0, 700, 0)
    assert (tables.version("bars"), tables.version("indicators")) == before[:2]
    assert_same(state_of(settings, [BTC]), before[2])


def test_poison_is_quarantined_with_its_reason_and_stops_nothing(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame
) -> None:
    rows = live(known)
    key = stream_key(settings.repo().project, shard_of(BTC))
    bad = [
        replace(rows[1500], close=np.nan),
        replace(rows[1501], high=-1.0),
        replace(rows[1502], open_us=rows[1502].open_us + 7),
    ]
    with Running(settings, redis) as running:
        redis.xadd(key, {"nonsense": b"\xff\x00"})
        redis.xadd(key, {"symbol": "NO/SUCH", **{n: v for n, v in to_fields(rows[0]).items() if n != "symbol"}})
        redis.xadd(key, to_fields(rows[1503]) | {"close": "many"})
        redis.xadd(key, {"x" * 50_000: "y" * 50_000})
        redis.xadd(key, to_fields(rows[1503]) | {"open_us": str(rows[1503].open_us // 1000)})  # milliseconds
        feed.put([*bad, *rows[1503:1510]])
        running.finish()
        assert (running.stats.bars, running.stats.bad) == (7, 8)
    rejected = settings.tables().read("quarantine").to_pandas()
    unreadable = ["impossible_time", "unknown_symbol", *["unreadable"] * 3]
    assert sorted(rejected["rule"]) == sorted(
        ["close_missing", "high_not_positive", "incomplete", "off_grid", *unreadable]
    )
    assert rejected["row"].str.len().max() < 10_000
    assert left_in_streams(redis, settings.repo().project) == (0, 0)
    assert settings.tables().read("bars", timeframe="1m", columns=[]).num_rows == 1507


def test_a_symbol_that_another_run_holds_waits_and_the_others_go_on(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame, minutes: Minutes
) -> None:
    other = minutes(400, "ETH/USD", seed=5)
    by_batch(settings, {"ETH/USD": other.head(300)})
    clock = [0.0]
    with Running(settings, redis, monotonic=lambda: clock[0]) as running:
        running.session.end()
        running.session._leases.release()
        lease = running.ledger.lease([BTC], owner="a backfill")
        feed.put([*live(known.iloc[1500:1550]), *live(other.iloc[300:], "ETH/USD")])
        running.work()
        assert running.stats.bars == 100
        feed.put(live(known.iloc[1550:]))
        running.work()
        assert running.stats.bars == 100
        lease.release()
        clock[0] += 60
        running.finish()
        assert running.stats.bars == 700
    assert left_in_streams(redis, settings.repo().project) == (0, 0)


def test_a_stream_that_lost_its_lease_writes_nothing_more(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame, expected: Callable[..., State]
) -> None:
    """Its bars stay pending, and the next session takes them."""
    rows = live(known)
    config = replace(FAST, ttl_s=600.0)
    with Running(settings, redis, config=config) as paused:
        feed.put(rows[1500:1510])
        paused.work()
        with paused.ledger._writing() as connection:  # as if it had slept through its lease
            connection.exec_driver_sql("UPDATE ledger_leases SET until_us = 1")
        with paused.ledger.lease([BTC], owner="another"):
            feed.put(rows[1510:1520])
            with pytest.raises((LeaseLost, FencedOutError)):
                paused.finish()
    assert left_in_streams(redis, settings.repo().project)[0] > 0
    through_stream(settings, redis, feed, rows[1520:])
    assert_same(state_of(settings, [BTC]), expected({BTC: known}), revisions=False)


def test_the_offline_store_is_unavailable_for_a_while(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars are online at once nevertheless, and none is acknowledged before it is stored."""
    append, failures = DeltaTables.append, [2]

    def unreachable(self: DeltaTables, table: Any, rows: Any, **options: Any) -> None:
        if failures[0]:
            failures[0] -= 1
            raise OSError("the disk is full")
        append(self, table, rows, **options)

    monkeypatch.setattr("flows.stream.config.RETRY_S", (0.01,))
    with Running(settings, redis) as running:
        monkeypatch.setattr(DeltaTables, "append", unreachable)
        feed.put(live(known.iloc[1500:1505]))
        running.work()
        assert running.stats.bars == 5
        assert left_in_streams(redis, settings.repo().project) == (5, 5)
        running.finish()
    assert failures == [0]
    assert left_in_streams(redis, settings.repo().project) == (0, 0)
    assert settings.tables().read("bars", timeframe="1m", columns=[], all_revisions=True).num_rows == 1505


def test_a_bar_that_arrives_just_before_its_close_waits_for_it(
    settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame
) -> None:
    rows = live(known)
    close = datetime.fromtimestamp(rows[1500].open_us / 1e6 + 60, UTC)
    clock = [close - timedelta(seconds=1)]
    with Running(settings, redis, now=lambda: clock[0]) as running:
        feed.put(rows[1500:1501])
        running.work()
        assert running.stats.bars == 0
        clock[0] = close
        running.finish()
        assert (running.stats.bars, running.stats.bad) == (1, 0)


def scaled(bar: LiveBar, factor: float) -> LiveBar:
    return replace(bar, **{price: getattr(bar, price) * factor for price in ("open", "high", "low", "close")})


@pytest.mark.parametrize(
    ("first", "bars", "factor", "rule"),
    [
        (1505, 1, 100.0, "unit_error"),
        (1505, 40, 100.0, "unit_error"),
        (1380, 60, 4.0, "another_basis"),  # stored bars again, after a reverse split
    ],
)
def test_bars_in_another_unit_or_basis_are_quarantined_and_hold_nothing_up(
    first: int, bars: int, factor: float, rule: str, settings: Settings, redis: Any, feed: Feed, known: pd.DataFrame
) -> None:
    rows = live(known)
    with Running(settings, redis) as running:
        feed.put(rows[1500:1505])
        running.work()
        feed.put([scaled(bar, factor) for bar in rows[first : first + bars]])
        running.work()
        feed.put(rows[1545:1570])
        running.finish()
    assert left_in_streams(redis, settings.repo().project) == (0, 0)
    stored = settings.tables().read("bars", timeframe="1m", columns=["close"]).to_pandas()
    usual = known["close"].iloc[[*range(1505), *range(1545, 1570)]]
    np.testing.assert_array_equal(stored["close"], usual)
    quarantine = settings.tables().read("quarantine").to_pandas()
    assert (quarantine["rule"] == rule).sum() == bars


@pytest.mark.parametrize(("at", "computed"), [(1504, True), (1504, False), (1520, True)])  # 1520: the newest bar
def test_a_bar_that_is_withdrawn_beside_the_stream_was_never_there(
    at: int,
    computed: bool,
    settings: Settings,
    redis: Any,
    feed: Feed,
    known: pd.DataFrame,
    expected: Callable[..., State],
) -> None:
    """Nor does it come back when the feed repeats it; what follows is published as in a home that never had it."""
    rows, clock = live(known), [0.0]
    moment = known["open_time"][at].to_pydatetime()
    with Running(settings, redis, monotonic=lambda: clock[0]) as running:
        feed.put(rows[1500:1521])
        running.work()
        running.session._writer.store_all()
        clock[0] += 60
        running.work()  # no bar has come for a while: it gives its leases back
        with ledger_of(settings) as ledger:
            now, tables = datetime.now(UTC), settings.tables()
            about: dict[str, Any] = {"tables": tables, "ledger": ledger, "now": now, "reason": "a spike"}
            withdraw(SYMBOLS[BTC], timeframe="1m", start=moment, end=moment, **about)
            if computed:
                materialize_symbols(Run(ledger=ledger, tables=tables, now=now), [BTC], [*TIMEFRAMES], settings)
        feed.put(rows[1515:1540])
        running.work()
        feed.put([*rows[1500:1510], *rows[1540:]])
        running.finish()
    assert left_in_streams(redis, settings.repo().project) == (0, 0)
    found = state_of(settings, [BTC])
    assert_same(found, expected({BTC: known.drop(index=at).reset_index(drop=True)}), revisions=False)
