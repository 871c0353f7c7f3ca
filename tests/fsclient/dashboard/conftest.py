"""A live dashboard: bars of a generated market, a ledger, an online store, and clients that use it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from werkzeug.serving import make_server

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.repo import Repo
from feature_repo.series import Series
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from flows.cli.operations import LedgerOperations
from flows.compute.derive import closes
from flows.compute.rejected import quarantine_rows
from flows.ledger import Revision, Verdict
from flows.runs.store import store_quarantine
from flows.settings import Settings
from fsclient.dashboard import Access, Sources, create_app
from fsclient.metrics.history import pack
from tests.fsclient.dashboard.traffic import fill, processes, records, rows_of, times_back
from tests.fsclient.stack import PUBLISHED, fill_home, make_bars, store_bars

KEY = "a-long-enough-key"
HOURS = 24 * 40
REVISED_BACK, GAP_BACK = 30, 60
"""How many bars before the newest one of EUR/USD was rewritten, and where bars of GBP/USD are missing."""
GAP_BARS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What runs.

    Attributes:
        url: the online store's.
        newest: open of the newest hourly bar.
    """

    home: Path
    settings: Settings
    repo: Repo
    url: str
    sources: Sources
    newest: datetime


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Forty days of hourly bars up to a moment ago, published; a ledger with runs; half an hour of traffic."""
    import random

    # The dashboard loads it in a thread; it parses code, as pytest does, and Python 3.11 can't do that in two at once.
    import feast  # noqa: F401

    home = tmp_path_factory.mktemp("dashboard")
    now = datetime.now(UTC)
    newest = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    fill_home(home, newest - timedelta(hours=HOURS), newest)
    url = ensure_server(home)
    settings = Settings(home=home, redis_url=url)
    repo, tables = settings.repo(), settings.tables()
    _with_crypto(tables, newest, now)
    _with_ledger(settings, tables, newest, now)
    rng = random.Random(5)
    owners = processes(4, now.timestamp(), dead=1)
    slots = [[pack(rows_of(records(rng, 40, PUBLISHED, outage=n == 12))) for _ in owners] for n in range(30)]
    with connect(url) as client:
        fill(client, repo.project, owners, times_back("m", now.timestamp() - 120, 30), slots)
    operations = LedgerOperations(settings, prefect_url="http://127.0.0.1:4200")
    sources = Sources.of(repo, access=Access.to("127.0.0.1", KEY), operations=operations)
    yield Stack(home=home, settings=settings, repo=repo, url=url, sources=sources, newest=newest)
    settings.ledger().close()
    stop_server(home)


def _with_crypto(tables: DeltaTables, newest: datetime, now: datetime) -> None:
    """Bars of a market that never closes: one that was rewritten, and some that are missing."""
    bars = make_bars("BTC/USD", "1h", newest - timedelta(hours=HOURS), newest, seed=3)
    walk = 50_000 * np.exp(np.cumsum(np.random.default_rng(3).normal(0, 2e-3, len(bars))))
    bars["close"] = walk.round(2)
    bars["open"] = bars["close"].shift(1, fill_value=50_000.0)
    bars["high"] = bars[["open", "close"]].max(axis=1) + 12.5
    bars["low"] = bars[["open", "close"]].min(axis=1) - 12.5
    gap = range(len(bars) - GAP_BACK - GAP_BARS, len(bars) - GAP_BACK)
    store_bars(bars.drop(index=list(gap)), "BTC/USD", "1h", tables, now)
    rewritten = bars.iloc[[len(bars) - 1 - REVISED_BACK]].copy()
    rewritten["close"] = rewritten["low"]
    store_bars(rewritten, "BTC/USD", "1h", tables, now + timedelta(seconds=1))


def _with_ledger(settings: Settings, tables: DeltaTables, newest: datetime, now: datetime) -> None:
    """Runs, verdicts and alerts; and two quarantined rows, one of which fits the gap."""
    ledger, at_us = settings.ledger(), int(now.timestamp() * 1e6)
    run = ledger.begin("ingest", parameters={"symbol": "BTC/USD"}, flow_run="0190-abc")
    ledger.record(
        verdicts=[
            Verdict(run=run, symbol="BTC/USD", timeframe="1h", kind="bars", passed=True, rows=960, bad_rows=2,
                    by_rule={"high_below_open": 2}, at_us=at_us),
            Verdict(run=run, symbol="EUR/USD", timeframe="1h", kind="bars", passed=False, rows=960, bad_rows=120,
                    by_rule={"high_below_open": 120}, reason="12.5 % of the rows are bad", at_us=at_us),
        ],
        revisions=[
            Revision(run=run, symbol="BTC/USD", timeframe="1h", table="bars", first_open_us=at_us, last_open_us=at_us,
                     stored=957, revised=1, at_us=at_us)
        ],
    )  # fmt: skip
    ledger.end(run, state="completed", counts={"read": 960, "stored": 957, "revised": 1})
    ledger.begin("materialize", parameters={})
    ledger.open_alert("freshness", "EUR/USD 4h", "7 bars old")
    ledger.open_alert("gate", "GBP/USD 1h", "stopped")
    ledger.close_alert("gate", "GBP/USD 1h")
    opens = [newest - timedelta(hours=GAP_BACK), newest - timedelta(hours=GAP_BACK + 1)]
    bad = pd.DataFrame({
        "open_time": pd.Series(opens, dtype="datetime64[us, UTC]"), "open": [50_000.0, 50_010.0],
        "high": [49_990.0, 50_000.0], "low": [49_980.0, 49_990.0], "close": [49_985.0, 49_995.0], "volume": [1.5, 2.5],
        "rule": "high_below_open", "rules": "high_below_open", "detail": "open=50000.0, high=49990.0",
        "file": "bars.csv", "line": [7, 8],
    })  # fmt: skip
    assert len(closes(bad, TIMEFRAMES["1h"])) == 2
    rows = quarantine_rows(bad, kind="bars", timeframe=TIMEFRAMES["1h"], now=now)
    store_quarantine(tables, rows, Series(symbol=SYMBOLS["BTC/USD"], timeframe=TIMEFRAMES["1h"]))


@pytest.fixture(scope="package")
def served(stack: Stack) -> Iterator[str]:
    """The address of the dashboard."""
    with serving(stack.sources) as address:
        yield address


class serving:  # noqa: N801 - reads as what it does
    """A dashboard served in a thread."""

    def __init__(self, sources: Sources) -> None:
        self._server = make_server("127.0.0.1", 0, create_app(sources).server, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def read_anew(stack: Stack) -> None:
    """Reads the history at once, however recently that was done."""
    stack.sources.traffic._read_at = float("-inf")
    stack.sources.traffic.refresh()
