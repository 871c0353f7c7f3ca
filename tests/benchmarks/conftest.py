"""A stack with generated data, and the table that the benchmarks print."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from feature_repo import catalog
from feature_repo.repo import Repo
from feature_repo.stores.redis.connection import connect, online_url
from feature_repo.stores.redis.embedded import stop_server
from feature_repo.stores.schemas import SCHEMAS
from feature_repo.stores.window import Window
from flows.compute.changes import as_table
from flows.runs.publish import publish_window
from flows.settings import Settings

HOUR_US = 3_600_000_000
YEAR_BARS = 8760
TIMEFRAME = catalog.timeframe("1h")


@dataclass(slots=True)
class Report:
    """Rows of (what, ours, compared with, ratio, goal), printed when the session ends."""

    rows: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def ratio(self, measure: str, ours_s: float, floor_s: float, floor: str, goal: str) -> None:
        self.rows.append((measure, _time(ours_s), f"{floor} {_time(floor_s)}", f"{ours_s / floor_s:.2f}x", goal))

    def time(self, measure: str, ours_s: float, goal: str) -> None:
        self.rows.append((measure, _time(ours_s), "", "", goal))

    def text(self) -> str:
        rows = [("measured (median)", "ours", "side by side with", "ratio", "goal"), *self.rows]
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:,.2f} ms"


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    report = Report()
    yield report
    print("\n\n" + report.text())


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repo]:
    """100 symbols online (windows of 1h and 4h), one of them with a year of hourly bars and indicators offline."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    repo = settings.repo()
    rng = np.random.default_rng(7)
    names = list(catalog.SYMBOLS)[:100]
    now_us = int(time.time() * 1e6)
    last_open = now_us // HOUR_US * HOUR_US - HOUR_US
    with connect(online_url(repo)) as client:
        for name in names:
            for tf in (TIMEFRAME, catalog.timeframe("4h")):
                opens = last_open - np.arange(catalog.WINDOW_BARS)[::-1] * tf.microseconds
                columns = {f: rng.uniform(1, 2, len(opens)) for f in catalog.WINDOW_FIELDS}
                columns[catalog.WINDOW_TIME] = opens / 1e6
                window = Window(event_us=int(opens[-1]) + tf.microseconds, created_us=now_us, columns=columns)
                publish_window(client, repo.project, name, tf, window)
    _store_year(settings, rng, last_open)
    yield repo
    stop_server(settings.home)


def _store_year(settings: Settings, rng: np.random.Generator, last_open: int) -> None:
    opens = pd.to_datetime(last_open - np.arange(YEAR_BARS)[::-1] * HOUR_US, unit="us", utc=True).astype(
        "datetime64[us, UTC]"
    )
    frame = pd.DataFrame({"open_time": opens, "event_timestamp": opens + np.timedelta64(3600, "s")})
    frame["created"] = frame["event_timestamp"]
    for table, names in (("bars", catalog.BAR_FIELDS), ("indicators", catalog.INDICATOR_FIELDS)):
        rows = frame.assign(**{n: rng.uniform(1, 2, YEAR_BARS) for n in names})
        stored = as_table(rows, SCHEMAS[table], symbol="EUR/USD", timeframe="1h")  # type: ignore[index]
        settings.tables().append(table, stored)  # type: ignore[arg-type]
