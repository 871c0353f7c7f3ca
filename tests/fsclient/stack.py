"""What the client's tests run on: generated bars in offline tables, an embedded server, and a proxy before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SYMBOLS, TIMEFRAMES, WINDOW_BARS, WINDOW_TIME
from feature_repo.repo import Repo, load_repo
from feature_repo.sessions import expected_opens
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server
from feature_repo.stores.schemas import SCHEMAS
from feature_repo.stores.window import Window, read_window
from flows.compute.changes import as_table
from flows.compute.derive import derive_bars
from flows.runs.publish import publish_window
from tests.indicator_rows import indicator_rows

NOW = datetime(2024, 6, 26, 12, 30, tzinfo=UTC)
"""A Wednesday. The newest hourly bar opened at 11:00 and closed at 12:00, the newest 4h bar (of a day that starts at
17:00 New York) opened at 05:00 and closed at 09:00."""
NEWEST = datetime(2024, 6, 26, 11, 0, tzinfo=UTC)
START = datetime(2024, 2, 1, tzinfo=UTC)
PUBLISHED = ("EUR/USD", "GBP/USD")
"""Symbols with 1h bars from START to NEWEST, and the 4h bars derived of them, in both stores."""
MINUTES = "BTC/USD"
"""A symbol with a year of 1m bars in the offline store, without indicators and not published."""
KNOWN_WITHOUT_DATA = "AUD/USD"


@dataclass(slots=True)
class Clock:
    """Wall and monotonic time that run on by themselves from ``NOW``, and can be put forward."""

    started: float = field(default_factory=time.monotonic)
    ahead_s: float = 0.0

    def now(self) -> float:
        return NOW.timestamp() + self.monotonic() - self.started

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def forward(self, seconds: float) -> None:
        self.ahead_s += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """The generated market, stored once a session.

    Attributes:
        url: the embedded server's, past the proxy.
        windows: what is published of each symbol and timeframe.
    """

    repo: Repo
    url: str
    tables: DeltaTables
    windows: Mapping[tuple[str, str], Window]

    def publish(self, symbol: str, timeframe: str, window: Window | None = None) -> bool:
        """Publishes as a flow does, past the proxy."""
        with connect(self.url) as client:
            published = window or self.windows[symbol, timeframe]
            return publish_window(client, self.repo.project, symbol, TIMEFRAMES[timeframe], published)

    def publish_all(self) -> None:
        """The online store as a run leaves it."""
        with connect(self.url) as client:
            client.flushall()
            for (symbol, tf), window in self.windows.items():
                publish_window(client, self.repo.project, symbol, TIMEFRAMES[tf], window)

    def corrected(self, symbol: str = "EUR/USD", timeframe: str = "1h", *, close: float = 1.5) -> Window:
        """The published window with another close of its newest bar, as a later revision of that bar."""
        window = self.windows[symbol, timeframe]
        columns = {name: values.copy() for name, values in window.columns.items()}
        columns["close"][-1] = close
        return replace(window, created_us=window.created_us + 1_000_000, columns=columns)

    def advanced(self, symbol: str = "EUR/USD", timeframe: str = "1h", *, close: float = 1.5) -> Window:
        """The published window one bar on."""
        window, step = self.windows[symbol, timeframe], TIMEFRAMES[timeframe].seconds
        columns = {name: np.append(values[1:], values[-1]) for name, values in window.columns.items()}
        columns["close"][-1] = close
        columns[WINDOW_TIME][-1] += step
        return replace(
            window,
            event_us=window.event_us + step * 1_000_000,
            created_us=window.created_us + step * 1_000_000,
            columns=columns,
        )


def make_bars(
    symbol: str, timeframe: str, start: datetime, end: datetime, *, seed: int = 0, volume: bool = True
) -> pd.DataFrame:
    """The bars table of an open market in ``[start, end]`` (open times): a random walk, in ticks as quoted."""
    spec, tf = SYMBOLS[symbol], TIMEFRAMES[timeframe]
    first, last = (int(moment.timestamp() * 1e6) for moment in (start, end))
    opens = expected_opens(spec.session, tf, first, last + 1)
    rng = np.random.default_rng(seed)
    n = len(opens)
    close = 2 * spec.price_min * np.exp(np.cumsum(rng.normal(0, 8e-4, n)))
    open_ = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open_, close) * (1 + rng.uniform(0, 5e-4, n))
    low = np.minimum(open_, close) * (1 - rng.uniform(0, 5e-4, n))
    prices = {"open": open_, "high": high, "low": low, "close": close}
    frame = pd.DataFrame({name: np.round(values, spec.digits) for name, values in prices.items()})
    frame.insert(0, "open_time", pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"))
    frame["volume"] = rng.integers(1, 1000, n).astype(np.float64) if volume else np.nan
    return frame


def store_bars(bars: pd.DataFrame, symbol: str, timeframe: str, tables: DeltaTables, created: datetime) -> None:
    """Appends bars to the offline store without a gate, as revisions of a moment."""
    closes = bars["open_time"] + np.timedelta64(TIMEFRAMES[timeframe].seconds, "s")
    rows = bars.assign(event_timestamp=closes, created=pd.Timestamp(created))
    tables.append("bars", as_table(rows, SCHEMAS["bars"], symbol=symbol, timeframe=timeframe))


def store_indicators(rows: pd.DataFrame, symbol: str, timeframe: str, tables: DeltaTables, created: datetime) -> None:
    """Appends indicator rows (``open_time`` and fields) likewise."""
    closes = rows["open_time"] + np.timedelta64(TIMEFRAMES[timeframe].seconds, "s")
    whole = rows.reindex(columns=["open_time", *INDICATOR_FIELDS]).assign(
        event_timestamp=closes, created=pd.Timestamp(created)
    )
    tables.append("indicators", as_table(whole, SCHEMAS["indicators"], symbol=symbol, timeframe=timeframe))


def store_all(
    hours: pd.DataFrame, symbol: str, timeframes: Sequence[str], tables: DeltaTables, created: datetime
) -> None:
    """Stores hourly bars, those derived of them, and the indicators of all, as of a moment."""
    spec = SYMBOLS[symbol]
    for tf in (TIMEFRAMES[name] for name in timeframes):
        bars = hours
        if tf.name != "1h":
            derived = derive_bars(hours, session=spec.session, source=TIMEFRAMES["1h"], target=tf)
            closed = derived["open_time"] + np.timedelta64(tf.seconds, "s") <= pd.Timestamp(created)
            bars = derived.loc[closed, ["open_time", *BAR_FIELDS]]
        store_bars(bars, symbol, tf.name, tables, created)
        store_indicators(indicator_rows(bars, symbol=spec, timeframe=tf), symbol, tf.name, tables, created)


def build(repo: Repo, url: str) -> Market:
    """Stores the market."""
    tables = DeltaTables(repo.offline)
    windows: dict[tuple[str, str], Window] = {}
    for seed, symbol in enumerate(PUBLISHED):
        store_all(make_bars(symbol, "1h", START, NEWEST, seed=seed), symbol, ("1h", "4h"), tables, NOW)
        for tf in ("1h", "4h"):
            window = read_window(tables, TIMEFRAMES[tf], symbol, end=NOW)
            if window is None or len(window.columns[WINDOW_TIME]) != WINDOW_BARS:
                raise ValueError(f"{symbol} {tf}: the generated history fills no window")
            windows[symbol, tf] = window
    minutes = make_bars(MINUTES, "1m", datetime(2023, 6, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC), seed=9)
    store_bars(minutes, MINUTES, "1m", tables, NOW)
    return Market(repo=repo, url=url, tables=tables, windows=windows)


def repo_of(market: Market, home: Path, port: int) -> Repo:
    """The market's repository as a process of its own home sees it, its online store behind the proxy."""
    return replace(market.repo, home=home, redis_url=f"redis://127.0.0.1:{port}")


def bars_from(tables: DeltaTables, symbol: str, timeframe: str) -> dict[str, np.ndarray[Any, Any]]:
    """All of a symbol's stored bars as float64 arrays, and ``open_time`` as datetime64[us]."""
    rows = tables.read("bars", symbols=[symbol], timeframe=timeframe, columns=BAR_FIELDS)
    columns = {name: rows[name].to_numpy().astype(np.float64) for name in BAR_FIELDS}
    return columns | {"open_time": rows["open_time"].to_numpy().astype("datetime64[us]")}


async def until(condition: Callable[[], Any], what: str, *, within_s: float = 10.0) -> None:
    """Waits for a condition of something real."""
    ends = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {within_s:g} s in vain: {what}")
        await asyncio.sleep(0.002)


async def hearing(client: Any) -> None:
    """Waits until the client hears publishes."""
    await client.get_latest("EUR/USD", ["close"])
    await until(lambda: client.hears_publishes, "the client to hear publishes")


def source(frame: pd.DataFrame | pd.Series) -> str:
    return str(frame.attrs["provenance"]["source"])


def reasons(frame: pd.DataFrame | pd.Series) -> set[str]:
    return {entry["reason"] for entry in frame.attrs["provenance"]["missing"]}


EVERY_FIELD = (*BAR_FIELDS, *INDICATOR_FIELDS)
ALL_TIMEFRAMES = tuple(catalog.TIMEFRAMES)


def fill_home(home: Path, start: datetime, newest: datetime, *, timeframes: tuple[str, ...] = ("1h", "4h")) -> None:
    """A small home as a run leaves it, with bars and indicators of ``PUBLISHED`` in both stores; its server runs."""
    repo = load_repo(variables={"FSTORE_HOME": str(home), "FSTORE_REDIS_URL": ""})
    tables = DeltaTables(repo.offline)
    written = newest + timedelta(hours=1)
    with connect(ensure_server(home)) as redis:
        for seed, name in enumerate(PUBLISHED):
            store_all(make_bars(name, "1h", start, newest, seed=seed), name, timeframes, tables, written)
            for tf in (TIMEFRAMES[timeframe] for timeframe in timeframes):
                window = read_window(tables, tf, name, end=written)
                if window is not None:
                    publish_window(redis, repo.project, name, tf, window)
