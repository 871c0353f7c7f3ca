"""Causality: what comes after a moment changes nothing that was known at it, on any way that a value can take.

A value is known from its bar's close on. So whatever is done to the bars that close after a moment T (cut off, or
other prices, or some missing), every value with ``event_timestamp`` <= T stays as it is, to the last bit: as computed,
in a historical join, online, and recomputed by the client that has lost the online store. T lies anywhere, mostly
within a bar.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.agreement import agree
from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SYMBOLS, TIMEFRAMES, VIEW_KINDS, view
from feature_repo.series import Series
from feature_repo.sessions import expected_opens
from feature_repo.stores.redis.codec import FENCE_KEY, revision_key
from flows.apply import apply_definitions
from flows.compute.derive import closes, complete_until, derive_bars, opens_us
from flows.compute.increment import STATE_FIELDS, compute_from, input_columns
from flows.ingest.ingest import ingest
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings
from flows.sources import SourceBars
from fsclient import FeatureStoreClient

FRAMES = ("1h", "4h", "1d")
HOUR = TIMEFRAMES["1h"]
MARKETS = {
    "fx over Christmas": ("EUR/USD", datetime(2023, 12, 11, tzinfo=UTC), datetime(2024, 1, 6, tzinfo=UTC)),
    "fx, clocks go forward": ("EUR/USD", datetime(2024, 2, 26, tzinfo=UTC), datetime(2024, 4, 6, tzinfo=UTC)),
    "fx, clocks go back": ("USD/JPY", datetime(2024, 10, 14, tzinfo=UTC), datetime(2024, 11, 9, tzinfo=UTC)),
    "a broker's days": ("AUD/USD.MT", datetime(2024, 2, 26, tzinfo=UTC), datetime(2024, 4, 6, tzinfo=UTC)),
    "24x7": ("BTC/USD", datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 4, 3, tzinfo=UTC)),
    "an exchange, Thanksgiving": ("AAPL", datetime(2024, 10, 21, tzinfo=UTC), datetime(2024, 12, 7, tzinfo=UTC)),
}


def history(market: str, *, seed: int = 0, before: timedelta = timedelta(0)) -> pd.DataFrame:
    """All hourly bars that the market makes, a random walk."""
    name, start, end = MARKETS[market]
    spec, first, last = SYMBOLS[name], int((start - before).timestamp()), int(end.timestamp())
    opens = expected_opens(spec.session, HOUR, first * 1_000_000, last * 1_000_000)
    rng = np.random.default_rng(seed)
    n = len(opens)
    close = np.round(2 * spec.price_min * np.exp(np.cumsum(rng.normal(0, 3e-4, n))), spec.digits)
    high, low = close * (1 + rng.uniform(0, 2e-4, n)), close * (1 - rng.uniform(0, 2e-4, n))
    volume = rng.integers(0, 1000, n).astype(np.float64)
    bars = pd.DataFrame({"open": close, "high": high, "low": low, "close": close, "volume": volume})
    bars.insert(0, "open_time", pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"))
    return bars


def known_at(bars: pd.DataFrame, moment: datetime) -> pd.DataFrame:
    """The bars that have closed by a moment."""
    return bars[(closes(bars, HOUR) <= moment).to_numpy()].reset_index(drop=True)


# ------------------------------------------------------------------------------------------------- as computed


def computed(bars: pd.DataFrame, market: str, timeframe: str, now: datetime) -> pd.DataFrame:
    """Bars and indicators of a timeframe, as a run at ``now`` makes them."""
    spec, frame = SYMBOLS[MARKETS[market][0]], TIMEFRAMES[timeframe]
    if timeframe != "1h":
        newest_us, now_us = int(opens_us(bars)[-1]), int(now.timestamp() * 1e6)
        until_us = complete_until(spec.session, HOUR, newest_us, now_us)
        bars = derive_bars(bars, session=spec.session, source=HOUR, target=frame, watermark_us=until_us)
        bars = bars[["open_time", *BAR_FIELDS]]
    unknown = {name: np.full(len(bars), np.nan) for name in STATE_FIELDS}
    values = compute_from(0, input_columns(bars, spec, frame), opens_us(bars), frame, whole=True, stored=unknown)
    return bars.assign(event_timestamp=closes(bars, frame), **values)


def changed_after(bars: pd.DataFrame, moment: datetime, how: str, seed: int) -> pd.DataFrame:
    """The bars with those changed that close after a moment."""
    known, rng = len(known_at(bars, moment)), np.random.default_rng(seed)
    if how == "cut":
        return bars.head(known)
    after = bars.iloc[known:].copy()
    if how == "some missing":
        return pd.concat([bars.head(known), after[rng.random(len(after)) < 0.5]], ignore_index=True)
    after[["open", "high", "low", "close"]] *= np.exp(rng.normal(0, 0.2))
    after["volume"] = rng.choice([np.nan, 0.0, 1e9], len(after))
    return pd.concat([bars.head(known), after], ignore_index=True)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("market", MARKETS)
def test_no_value_changes_as_computed(market: str, data: st.DataObject) -> None:
    """Every indicator, and every bar that is derived of others."""
    _, start, end = MARKETS[market]
    seed = data.draw(st.integers(0, 999))
    bars = history(market, seed=seed, before=timedelta(days=data.draw(st.sampled_from([0, 60]))))
    first, last = ((day + timedelta(days=1)).replace(tzinfo=None) for day in (start, end))
    moment = data.draw(st.datetimes(first, last)).replace(tzinfo=UTC)
    how = data.draw(st.sampled_from(["cut", "cut", "other prices", "some missing"]))
    other = changed_after(bars, moment, how, seed)
    for timeframe in FRAMES:
        now = moment if how == "cut" else end + timedelta(days=7)
        expected, actual = (
            computed(market_bars, market, timeframe, at)
            for market_bars, at in ((bars, end + timedelta(days=7)), (other, now))
        )
        expected, actual = (rows[(rows["event_timestamp"] <= moment).to_numpy()] for rows in (expected, actual))
        pd.testing.assert_frame_equal(actual, expected, check_exact=True)


def test_the_property_would_see_a_value_that_looks_ahead() -> None:
    """Else it would prove nothing: a centred mean changes when the bars after it do."""
    bars = history("24x7")
    moment = bars["open_time"].iloc[500].to_pydatetime() + timedelta(minutes=30)
    other = changed_after(bars, moment, "other prices", 1)
    known = len(known_at(bars, moment))
    was, is_now = (market_bars["close"].rolling(3, center=True).mean()[:known] for market_bars in (bars, other))
    assert not was.equals(is_now)


# ------------------------------------------------------------------------------------------------ as stored

STORED = {
    "fx over Christmas": datetime(2023, 12, 27, 17, 23, 11, 1, tzinfo=UTC),  # within an hour, a 4h bar and a day
    "24x7": datetime(2024, 3, 31, 1, 30, tzinfo=UTC),
    "an exchange, Thanksgiving": datetime(2024, 11, 28, 3, 0, tzinfo=UTC),  # Wednesday's last bar closed at midnight
}


class World:
    """A home of its own, beside the one online store."""

    def __init__(self, home: Path, redis: Any, url: str, symbol: str, *, applied: Path | None = None) -> None:
        if applied:
            shutil.copytree(applied, home)
        self.settings = Settings(home=home, redis_url=url)
        self.symbol = symbol
        self._redis = redis

    def take(self, source: SourceBars, now: datetime) -> None:
        with self._ledger(now) as ledger:
            ingest(
                source,
                series=Series(symbol=SYMBOLS[self.symbol], timeframe=HOUR),
                tables=self.settings.tables(),
                ledger=ledger,
                now=now,
                max_bad_share=0.05,
            )

    def materialize(self, now: datetime) -> dict[bytes, bytes]:
        """Runs. Returns what is online then, in a store that was empty; whoever published it and when."""
        self._redis.flushall()
        with self._ledger(now) as ledger:
            outcomes = materialize_symbols(
                Run(ledger=ledger, tables=self.settings.tables(), now=now), [self.symbol], FRAMES, self.settings
            )
        assert [(o.timeframe, o.problem) for o in outcomes] == [(tf, "") for tf in FRAMES]
        (key,) = self._redis.keys("*")
        about = {FENCE_KEY, *(revision_key(view(kind, tf).name) for tf in FRAMES for kind in VIEW_KINDS)}
        return {name: value for name, value in self._redis.hgetall(key).items() if name not in about}

    def joined(self, moment: datetime) -> pd.DataFrame:
        """All values as of a moment, by Feast's point-in-time join."""
        store = self.settings.repo().feature_store()
        views = [view(kind, tf) for tf in FRAMES for kind in VIEW_KINDS]
        features = [f"{spec.name}:{name}" for spec in views for name in spec.fields]
        entity = pd.DataFrame({"symbol": self.symbol, "event_timestamp": [moment]})
        frame: pd.DataFrame = store.get_historical_features(entity, features, full_feature_names=True).to_df()
        return frame

    async def recomputed(self, moment: datetime) -> dict[str, pd.DataFrame]:
        """What a client answers at a moment when its online store is unavailable."""
        repo = replace(self.settings.repo(), redis_url="redis://127.0.0.1:1")
        span, frames = (self.symbol, moment - timedelta(days=4), moment), {}
        async with FeatureStoreClient(
            repo=repo, use_cache=False, on_unavailable="recompute", publish_metrics=False, timeout_s=60.0, retries=0,
            now=moment.timestamp,
        ) as client:  # fmt: skip
            for tf in FRAMES:
                every = [*BAR_FIELDS, *INDICATOR_FIELDS]
                frames[f"latest {tf}"] = await client.get_latest([self.symbol], every, timeframe=tf)
                frames[f"ohlcv {tf}"] = await client.get_ohlcv(*span, tf)
                frames[f"indicators {tf}"] = await client.get_indicators(*span, tf, INDICATOR_FIELDS)
                frames[f"computed {tf}"] = (await client.compute_feature("RSI", *span, tf)).to_frame()
        assert frames["latest 1h"].attrs["provenance"]["source"] == "recomputed"
        return frames

    def _ledger(self, now: datetime) -> Ledger:
        return Ledger(f"sqlite:///{self.settings.home / 'ledger.db'}", now=now.timestamp)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory, server_url: str) -> Path:
    """A home in which Feast knows all views, to be copied."""
    home = tmp_path_factory.mktemp("applied")
    apply_definitions(Settings(home=home, redis_url=server_url).repo().feature_store())
    return home


@pytest.mark.parametrize("market", STORED)
async def test_no_value_changes_as_stored_joined_published_and_recomputed(
    market: str,
    source_of: Callable[[pd.DataFrame], SourceBars],
    redis: Any,
    server_url: str,
    applied: Path,
    tmp_path: Path,
) -> None:
    """A world without the bars that come after a moment beside one that has them.

    A strategy trains on the one and trades in the other, so both must show it the same.
    """
    symbol, _, end = MARKETS[market]
    moment, later, bars = STORED[market], end + timedelta(days=7), history(market)
    cut, whole = (World(tmp_path / name, redis, server_url, symbol, applied=applied) for name in ("cut", "whole"))
    cut.take(source_of(known_at(bars, moment)), moment)
    published = cut.materialize(moment)

    # Bars that a clock running ahead has stored too early wait until they have closed.
    whole.take(source_of(bars), later)
    assert whole.materialize(moment) == published
    whole.materialize(later)

    # A join in hindsight returns what was read then.
    known = cut.joined(moment)
    pd.testing.assert_frame_equal(whole.joined(moment), known, check_exact=True)

    expected, actual = await cut.recomputed(moment), await whole.recomputed(moment)
    for question, answer in expected.items():
        pd.testing.assert_frame_equal(actual[question], answer, check_exact=True)
    for tf in FRAMES:
        for name in (*BAR_FIELDS, *INDICATOR_FIELDS):
            spec = view("ohlcv" if name in BAR_FIELDS else "indicators", tf)
            was = known[f"{spec.name}__{name}"].to_numpy(dtype=np.float64)
            assert agree(was, expected[f"latest {tf}"][name].to_numpy()).all(), (tf, name)


def test_an_exchanges_last_bar_is_made_when_it_closes(
    source_of: Callable[[pd.DataFrame], SourceBars], redis: Any, server_url: str, tmp_path: Path
) -> None:
    """Trading ends at 21:00 UTC, the day's bars close at midnight: a run after that makes them, without a new bar."""
    market = "an exchange, Thanksgiving"
    evening, night = datetime(2024, 11, 27, 22, 0, tzinfo=UTC), datetime(2024, 11, 28, 0, 5, tzinfo=UTC)
    world = World(tmp_path, redis, server_url, MARKETS[market][0])
    world.take(source_of(known_at(history(market), evening)), evening)
    newest = []
    for now in (evening, night, night + timedelta(hours=5)):
        world.materialize(now)
        tables = world.settings.tables()
        newest.append([tables.read("indicators", timeframe=tf)["event_timestamp"][-1].as_py() for tf in FRAMES])
    midnight = night.replace(minute=0)
    assert newest[0] == [evening - timedelta(hours=1), midnight - timedelta(hours=4), midnight - timedelta(days=1)]
    assert newest[1] == newest[2] == [evening - timedelta(hours=1), midnight, midnight]
