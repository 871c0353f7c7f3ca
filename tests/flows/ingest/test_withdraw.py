"""Bars taken back: afterwards everything is as in a home that never had them, bit for bit, offline and online."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, SYMBOLS, TIMEFRAMES
from feature_repo.series import Series
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.publish import channel
from flows.ingest.ingest import IngestReport, ingest
from flows.ingest.withdraw import WithdrawError, withdraw
from flows.inspect.sources import sources_of
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings, load_settings

Make = Callable[..., pd.DataFrame]
SYMBOL = SYMBOLS["EUR/USD"]
FRAMES = ["1h", "4h", "1d"]
REASON = "a spike that nobody traded"
HOUR = timedelta(hours=1)


class Home:
    """A home with its own tables and ledger, and what may be done in it."""

    def __init__(self, settings: Settings, ledger: Ledger, source_of: Callable[..., Any], now: datetime) -> None:
        self.settings, self.ledger, self.now, self._source_of = settings, ledger, now, source_of
        self.tables: DeltaTables = settings.tables()

    def take(self, bars: pd.DataFrame, digest: str, **options: Any) -> IngestReport:
        source = replace(self._source_of(bars), digest=digest)
        return ingest(
            source, series=Series(symbol=SYMBOL, timeframe=TIMEFRAMES["1h"]), tables=self.tables, ledger=self.ledger,
            now=self.now, max_bad_share=0.05, **options,
        )  # fmt: skip

    def run(self) -> None:
        run = Run(ledger=self.ledger, tables=self.tables, now=self.now)
        outcomes = materialize_symbols(run, ["EUR/USD"], FRAMES, self.settings)
        assert not [outcome.problem for outcome in outcomes if outcome.problem]

    def withdraw(self, **which: Any) -> Any:
        which = {"reason": REASON} | which
        return withdraw(SYMBOL, tables=self.tables, ledger=self.ledger, now=self.now, **which)

    def offline(self) -> dict[str, bytes]:
        """The bits of all that is stored, by table, timeframe and column."""
        bits = {}
        columns = {"bars": (*BAR_FIELDS, "source_bars", "expected_bars"), "indicators": INDICATOR_FIELDS}
        for table, fields in columns.items():
            for tf in FRAMES:
                rows = self.tables.read(table, timeframe=tf, columns=fields).to_pandas()  # type: ignore[arg-type]
                for name in ("open_time", "event_timestamp"):
                    bits[f"{table} {tf} {name}"] = rows[name].to_numpy("datetime64[us]").tobytes()
                for name in fields:
                    bits[f"{table} {tf} {name}"] = rows[name].to_numpy(np.float64).tobytes()
        return bits


@pytest.fixture
def home(settings: Settings, ledger: Ledger, source_of: Any, now: datetime) -> Home:
    return Home(settings, ledger, source_of, now)


@pytest.fixture
def online(read_online: Callable[..., Any]) -> Callable[[], dict[str, Any]]:
    """The bits of what is shown, by timeframe."""

    def read() -> dict[str, Any]:
        shown = {}
        for tf in FRAMES:
            views = read_online("EUR/USD", tf)
            shown[tf] = views and (
                views.closes,
                {name: np.float64(value).tobytes() for name, value in views.scalars.items()},
                {name: values.tobytes() for name, values in views.window.items()},
            )
        return shown

    return read


@pytest.fixture
def never(
    home: Home, redis: Any, source_of: Any, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Another home, with an online store that is empty."""

    def make() -> Home:
        redis.flushall()
        monkeypatch.setenv("FSTORE_HOME", str(tmp_path / "never"))
        settings = load_settings()
        return Home(settings, Ledger(f"sqlite:///{tmp_path / 'never.db'}", now=now.timestamp), source_of, now)

    return make


def same_as_never(home: Home, never: Any, online: Any, bars: pd.DataFrame) -> None:
    was, shown = home.offline(), online()
    other = never()
    with other.ledger:
        if len(bars):
            other.take(bars, "a" * 64)
            other.run()
        assert {name for name, bits in other.offline().items() if was[name] != bits} == set()
        assert shown == online()


@pytest.mark.parametrize("at", [300, 599])  # in the middle of a day, and the newest one
def test_a_bar_that_was_withdrawn_was_never_there(
    home: Home, make_bars: Make, never: Any, online: Any, at: int
) -> None:
    bars = make_bars(600)
    spiked = bars.copy()
    spiked.loc[at, ["high", "close"]] *= 1.004
    home.take(spiked, "a" * 64)
    home.run()
    before, moment = home.offline(), bars["open_time"][at].to_pydatetime()
    known = home.tables.read("bars", timeframe="1h")["created"].to_pylist()[at]
    (withdrawn,) = home.withdraw(timeframe="1h", start=moment, end=moment)
    assert (withdrawn.bars, withdrawn.replaced, withdrawn.first_open, withdrawn.last_open) == (1, 0, moment, moment)
    home.run()
    assert home.offline() != before
    assert home.tables.read("bars", timeframe="1h").num_rows == 599
    assert home.tables.read("bars", timeframe="1h", as_known_at=known).num_rows == 600  # it was known then
    reasons = home.tables.read("bars", timeframe="1h", start=moment, end=moment, all_revisions=True)["withdrawn"]
    assert reasons.to_pylist() == [None, REASON]
    home.run()  # nothing is left to do
    same_as_never(home, never, online, bars.drop(index=at).reset_index(drop=True))


def test_a_file_that_was_withdrawn_was_never_there(home: Home, make_bars: Make, never: Any, online: Any) -> None:
    """It revised some bars of the file before it, which are that one's again, and brought others."""
    wrong = make_bars(600)
    bars = wrong[:400].copy()
    off = 1.002 + 1e-4 * (np.arange(210) % 7)  # no constant factor, which would be another basis
    wrong.loc[390:, [*BAR_FIELDS[:4]]] = wrong.loc[390:, [*BAR_FIELDS[:4]]].mul(off, axis=0)
    home.take(bars, "a" * 64)
    home.run()
    report = home.take(wrong[390:].reset_index(drop=True), "b" * 64, revise=True)
    assert (report.stored, report.revised) == (200, 10), report.stopped
    home.run()
    (withdrawn,) = home.withdraw(source="b" * 12)
    assert (withdrawn.bars, withdrawn.replaced) == (200, 10)
    home.run()
    same_as_never(home, never, online, bars)


def test_all_that_a_symbol_had(home: Home, make_bars: Make, never: Any, online: Any, redis: Any) -> None:
    home.take(make_bars(100), "a" * 64)
    home.run()
    with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(channel(home.settings.repo().project))
        subscription.get_message(timeout=1.0)
        home.withdraw(source="a" * 64)
        home.run()
        messages = [m["data"] for m in iter(lambda: subscription.get_message(timeout=0.2), None)]
    assert b"EUR/USD\nohlcv_1h indicators_1h window_1h" in messages  # caches hear of it
    same_as_never(home, never, online, make_bars(0))


def test_the_same_file_does_not_bring_it_back_unless_it_is_told_to(home: Home, make_bars: Make) -> None:
    longer = make_bars(61)
    bars = longer[:60].copy()
    home.take(bars, "a" * 64)
    moment = bars["open_time"][30].to_pydatetime()
    home.withdraw(timeframe="1h", start=moment, end=moment)
    again = home.take(bars, "a" * 64)
    assert (again.stored, again.withdrawn, again.unchanged) == (0, 1, 59)
    later = home.take(longer, "c" * 64)  # the vendor's next file still has it
    assert (later.stored, later.withdrawn) == (1, 1)
    right = bars.copy()
    right.loc[30, "high"] *= 1.0001
    assert home.take(right, "d" * 64).stored == 1  # another bar than the one that was withdrawn
    home.withdraw(timeframe="1h", start=moment, end=moment)
    assert home.take(bars, "a" * 64, restore=True).stored == 1
    assert home.tables.read("bars", timeframe="1h").num_rows == 61


def test_sources_are_listed_by_timeframe(home: Home, make_bars: Make) -> None:
    bars = make_bars(60)
    home.take(bars[:40].reset_index(drop=True), "a" * 64)
    home.take(bars[30:].reset_index(drop=True), "b" * 64)
    first, second = sources_of(SYMBOL, home.tables, home.ledger)
    assert (first.timeframe, first.digest, first.name, first.bars) == ("1h", "a" * 64, "bars.csv", 40)
    assert (second.digest, second.bars) == ("b" * 64, 20)
    assert second.first_open == bars["open_time"][40]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ({"source": "f" * 64}, "no ingested bars from a source"),
        ({"source": "a"}, "too short"),
        ({"reason": " ", "source": "a" * 64}, "say why"),
        ({"timeframe": "1h"}, "say which bars"),
    ],
)
def test_what_cannot_be_withdrawn_is_refused_before_anything_is_written(
    home: Home, make_bars: Make, which: dict[str, Any], message: str
) -> None:
    home.take(make_bars(10), "a" * 64)
    version = home.tables.version("bars")
    with pytest.raises(WithdrawError, match=message):
        home.withdraw(**which)
    assert home.tables.version("bars") == version
