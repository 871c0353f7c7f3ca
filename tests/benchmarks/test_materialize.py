"""What one new hourly bar costs for 200 symbols: the same with ten years of history as with one.

Each history is stored and then run over in a process of its own, so that the peak of memory is the run's. All symbols
share one computed history under their own names: as many rows, and the same work, as if each had had its own. Work is
the processor's time, which other processes on the machine disturb less.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo import catalog
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from flows.ledger import Run

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

SYMBOLS = 200
SHARD = 25
YEARS = (1, 10)
NEWEST = datetime(2024, 6, 26, 11, 0, tzinfo=UTC)
"""Open of the one new bar; it has closed by ``NOW``."""
NOW = datetime(2024, 6, 26, 12, 5, tzinfo=UTC)
STORED = NOW - timedelta(hours=1)
GOAL = 1.2


def test_a_new_bar_costs_the_same_however_long_the_history(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("server")
    url = ensure_server(home)
    costs = {}
    try:
        for years in YEARS:
            folder = tmp_path_factory.mktemp(f"years{years}")
            child("store", folder, url, years)
            costs[years] = child("run", folder, url, years)
    finally:
        stop_server(home)
    parts = ("read_s", "judge_s", "store_s", "publish_s")
    rows = [("history", "rows", "run", "work", "reading, gate, storing, publishing", "peak memory", "of it the run's")]
    for years, cost in costs.items():
        spent = ", ".join(f"{cost[part]:.1f}" for part in parts)
        took = f"{cost['run_s']:.1f} s", f"{cost['cpu_s']:.1f} s", f"{spent} s"
        memory_ = f"{cost['peak_mb']:.0f} MB", f"{cost['peak_mb'] - cost['idle_mb']:.0f} MB"
        rows.append((f"{years} a", f"{cost['rows']:,}", *took, *memory_))
    few, many = (costs[years] for years in YEARS)
    run, work, memory = (f"{many[name] / few[name]:.2f}x" for name in ("run_s", "cpu_s", "peak_mb"))
    rows.append(("ratio", "", run, work, "", memory, f"goal {GOAL}x"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    print("\n\n" + "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows))
    assert few["stored"] == many["stored"] == SYMBOLS


def child(job: str, folder: Path, url: str, years: int) -> dict[str, Any]:
    """The result that a separate process prints for a job."""
    command = [sys.executable, __file__, job, str(folder), url, str(years)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


# ------------------------------------------------------------------------------------------------- the processes


def fill_catalog() -> list[str]:
    """Gives the catalog 200 currency pairs, before any other module reads it. Returns their names."""
    pair = catalog.SYMBOLS["EUR/USD"]
    names = [f"P{n:03d}/USD" for n in range(SYMBOLS)]
    catalog.SYMBOLS = {name: dataclasses.replace(pair, name=name) for name in names}
    return names


def history(years: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hourly bars of a currency pair up to ``NEWEST``, and their indicators."""
    from feature_repo.sessions import expected_opens
    from tests.indicator_rows import indicator_rows

    pair, hour = next(iter(catalog.SYMBOLS.values())), catalog.timeframe("1h")
    last = int(NEWEST.timestamp()) * 1_000_000
    opens = expected_opens(pair.session, hour, last - years * 365 * 86_400_000_000, last + 1)
    rng, n = np.random.default_rng(5), len(opens)
    close = np.round(1.1 * np.exp(np.cumsum(rng.normal(0, 3e-4, n))), 5)
    high, low = close * (1 + rng.uniform(0, 2e-4, n)), close * (1 - rng.uniform(0, 2e-4, n))
    volume = rng.integers(1, 1000, n).astype(np.float64)
    bars = pd.DataFrame({"open": close, "high": high, "low": low, "close": close, "volume": volume})
    bars.insert(0, "open_time", pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"))
    features = indicator_rows(bars, symbol=pair, timeframe=hour)
    return bars.assign(event_timestamp=features["event_timestamp"]), features


def append(tables: Any, table: Any, rows: pd.DataFrame, names: Sequence[str], created: datetime) -> None:
    """Appends the same rows under each name, in one commit."""
    import pyarrow as pa

    from feature_repo.stores.schemas import SCHEMAS
    from flows.compute.changes import as_table

    table_ = as_table(rows.assign(created=pd.Timestamp(created)), SCHEMAS[table], symbol="", timeframe="1h")
    at = table_.schema.get_field_index("symbol")
    named = [table_.set_column(at, "symbol", pa.array([name] * table_.num_rows)) for name in names]
    tables.append(table, pa.concat_tables(named))


def store(settings: Any, names: Sequence[str], years: int) -> dict[str, Any]:
    """Stores the history without its newest bar, a month a commit, and notes it as done; then the newest bar."""
    from flows.ledger import IngestedSeries, Watermark
    from flows.runs.plan import DEFINITIONS_DIGEST

    tables = settings.tables()
    for table, rows in zip(("bars", "indicators"), history(years), strict=True):
        for _, month in rows.iloc[:-1].groupby(rows["open_time"].dt.strftime("%Y-%m")):
            append(tables, table, month, names, STORED)
    bars, _ = history(years)
    first_us, last_us = (int(bars["open_time"].iloc[i].value // 1000) for i in (0, -2))
    stored_us, close_us = int(STORED.timestamp()) * 1_000_000, last_us + 3_600_000_000
    with settings.ledger() as ledger, ledger.lease(names, owner="benchmark") as lease:
        ledger.list_series(
            [
                IngestedSeries(symbol=name, timeframe="1h", first_us=first_us, last_us=last_us, listed_us=stored_us)
                for name in names
            ]
        )
        ledger.advance(
            lease,
            [
                Watermark(symbol=name, timeframe="1h", event_us=close_us, seen_us=stored_us, recipe=DEFINITIONS_DIGEST)
                for name in names
            ],
        )
    append(tables, "bars", bars.tail(1), names, NOW - timedelta(minutes=1))
    return {"rows": len(bars) * len(names)}


def run(settings: Any, names: Sequence[str], years: int) -> dict[str, Any]:
    """Materializes all symbols, one shard after another, and returns what it cost."""
    from feature_repo.stores.redis.connection import connect
    from flows.materialize import stages
    from flows.quality import suite

    with connect(settings.redis_url) as redis:
        redis.flushall()
    spent: dict[str, float] = dict.fromkeys(("read_s", "judge_s", "store_s", "publish_s"), 0.0)
    timed(spent, "judge_s", suite, "evaluate")
    timed(spent, "store_s", store, "store")
    timed(spent, "publish_s", stages._Shard, "_publish")
    timed(spent, "read_s", stages, "pending")
    reading = stages.read_histories
    stages.read_histories = lambda *arguments: stepped(spent, "read_s", reading(*arguments))  # type: ignore[assignment]
    idle_mb, started, worked = peak_mb(), time.perf_counter(), time.process_time()
    outcomes = []
    for i in range(0, len(names), SHARD):
        outcomes += stages.materialize_symbols(
            Run(ledger=settings.ledger(), tables=settings.tables(), now=NOW), names[i : i + SHARD], ["1h"], settings
        )
    run_s, cpu_s = time.perf_counter() - started, time.process_time() - worked
    assert not any(o.problem for o in outcomes), [o.problem for o in outcomes if o.problem][:3]
    return spent | {
        "run_s": run_s, "cpu_s": cpu_s, "idle_mb": idle_mb, "peak_mb": peak_mb(),
        "rows": len(history(years)[0]) * len(names), "stored": sum(o.stored for o in outcomes),
    }  # fmt: skip


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(spent: dict[str, float], what: str, owner: Any, name: str) -> None:
    """Adds up the work of a function's calls."""
    function = getattr(owner, name)

    def measured(*arguments: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[what] += time.process_time() - started

    setattr(owner, name, measured)


def stepped(spent: dict[str, float], what: str, steps: Any) -> Any:
    """Adds up the work of an iterator between its items."""
    while True:
        started = time.process_time()
        item = next(steps, None)
        spent[what] += time.process_time() - started
        if item is None:
            return
        yield item


def main(job: str, folder: str, url: str, years: str) -> None:
    names = fill_catalog()
    from flows.settings import Settings

    settings = Settings(home=Path(folder), redis_url=url)
    print(json.dumps({"store": store, "run": run}[job](settings, names, int(years))))


if __name__ == "__main__":
    main(*sys.argv[1:])
