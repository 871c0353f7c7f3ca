"""What was known at a moment: two downloads of one history, an unfinished last bar, and the same again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_repo.catalog import BAR_FIELDS, SYMBOLS, TIMEFRAMES, view
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.codec import entity_key, field_key, revision_key
from flows.ingest.ingest import IngestReport
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings
from flows.sources import SourceBars, read_bars
from fsclient import FeatureStoreClient

Make = Callable[..., pd.DataFrame]
Take = Callable[..., IngestReport]
Counts = tuple[int, int, int, int]
BTC, HOUR = SYMBOLS["BTC/USD"], TIMEFRAMES["1h"]
LAST = datetime(2024, 1, 10, 3, 0, tzinfo=UTC)
"""Open of the last bar of the first download, which was made half an hour later."""


def counts(report: IngestReport) -> Counts:
    return report.stored, report.revised, report.unchanged, report.superseded


# ----------------------------------------------------------------------------------------------- two downloads


@pytest.fixture
def downloads(make_bars: Make, source_of: Callable[[pd.DataFrame], SourceBars]) -> tuple[SourceBars, SourceBars]:
    """One in the midst of an hour, whose bar it takes for finished, and one of the same history weeks later."""
    whole = make_bars(200, symbol="BTC/USD")
    early = whole[(whole["open_time"] <= LAST).to_numpy()].reset_index(drop=True)
    at = len(early) - 1
    early.loc[at, ["high", "close"]] = early.loc[at, "open"] * 1.00001
    early.loc[at, ["low", "volume"]] = early.loc[at, "open"] * 0.99999, 7.0
    return tuple(replace(source_of(bars), digest=f"download {len(bars)}") for bars in (early, whole))  # type: ignore[return-value]


def test_two_downloads_are_one_revision(
    downloads: tuple[SourceBars, SourceBars], take: Take, tables: DeltaTables, now: datetime
) -> None:
    first, second = downloads
    n, total = len(first.frame), len(second.frame)
    assert counts(take(first, symbol="BTC/USD", now=now)) == (n, 0, 0, 0)
    assert counts(take(second, symbol="BTC/USD", now=now + timedelta(hours=1))) == (total - n, 1, n - 1, 0)
    rows = tables.read("bars", columns=["close"], all_revisions=True).to_pandas()
    assert rows[rows.duplicated("open_time")]["open_time"].tolist() == [pd.Timestamp(LAST)]


def test_the_older_download_given_again_undoes_nothing(
    downloads: tuple[SourceBars, SourceBars], take: Take, contents: Any, now: datetime
) -> None:
    first, second = downloads
    for n, source in enumerate(downloads):
        take(source, symbol="BTC/USD", now=now + timedelta(hours=n))
    before = contents()
    for n in (2, 3):
        assert counts(take(first, symbol="BTC/USD", now=now + timedelta(hours=n))) == (0, 0, len(first.frame) - 1, 1)
        assert counts(take(second, symbol="BTC/USD", now=now + timedelta(hours=n))) == (0, 0, len(second.frame), 0)
    assert contents() == before


async def test_both_values_are_readable(
    downloads: tuple[SourceBars, SourceBars],
    take: Take,
    tables: DeltaTables,
    settings: Settings,
    ledger: Ledger,
    now: datetime,
) -> None:
    """The bar itself, and every indicator that depends on it: a test of a strategy on what was known then sees both."""
    runs = [now + timedelta(hours=2 * n) for n in range(2)]
    for source, at in zip(downloads, runs, strict=True):
        take(source, symbol="BTC/USD", now=at)
        outcomes = materialize_symbols(
            Run(ledger=ledger, tables=settings.tables(), now=at + timedelta(hours=1)), ["BTC/USD"], ["1h"], settings
        )
        assert not any(outcome.problem for outcome in outcomes)
    moments = [*(at + timedelta(hours=1, minutes=30) for at in runs), None]
    clock = (now + timedelta(days=1)).timestamp
    async with FeatureStoreClient(repo=settings.repo(), use_cache=False, publish_metrics=False, now=clock) as client:
        bars = [await client.get_ohlcv("BTC/USD", LAST, LAST, "1h", as_known_at=known) for known in moments]
        sma = [
            await client.get_indicators("BTC/USD", LAST, LAST, "1h", ["sma_5"], as_known_at=known) for known in moments
        ]
        nothing = await client.get_ohlcv("BTC/USD", LAST, LAST, "1h", as_known_at=now - timedelta(days=1))
    for which, source in enumerate((*downloads, downloads[1])):
        frame = source.frame.set_index("open_time")
        assert bars[which].iloc[0].tolist() == frame.loc[pd.Timestamp(LAST), [*BAR_FIELDS]].tolist()
        expected = frame.loc[: pd.Timestamp(LAST), "close"].tail(5).mean()
        assert sma[which]["sma_5"].tolist() == pytest.approx([expected], rel=1e-12)
    assert bars[0]["close"].iloc[0] != bars[1]["close"].iloc[0]
    assert nothing.empty or nothing["close"].isna().all()


def test_a_download_whose_bars_were_not_stored_is_no_newer_when_it_is_given_again(
    downloads: tuple[SourceBars, SourceBars],
    take: Take,
    tables: DeltaTables,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault: its process died before its bars were committed, and a newer download came before it was taken again."""
    first, second = downloads
    with monkeypatch.context() as patch:
        patch.setattr(DeltaTables, "append", _die)
        with pytest.raises(KeyboardInterrupt):
            take(first, symbol="BTC/USD", now=now)
    take(second, symbol="BTC/USD", now=now + timedelta(hours=1))
    again = take(first, symbol="BTC/USD", now=now + timedelta(hours=2))
    assert (again.stored, again.revised) == (0, 0)
    closes = tables.read("bars", columns=["close"])["close"].to_pylist()
    assert closes == second.frame["close"].tolist()


def _die(*_arguments: Any, **_options: Any) -> None:
    raise KeyboardInterrupt


# ---------------------------------------------------------------------------------------------- the same again


def test_the_same_file_again_stores_nothing(
    make_bars: Make, take: Take, settings: Settings, ledger: Ledger, contents: Any, tmp_path: Path, now: datetime
) -> None:
    file = tmp_path / "bars.csv"
    make_bars(120, symbol="BTC/USD").to_csv(file, index=False)
    sources = [read_bars(file, symbol=BTC, timeframe=HOUR) for _ in range(2)]
    assert take(sources[0], symbol="BTC/USD").stored == 120
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["BTC/USD"], ["1h", "4h"], settings)
    before = contents()
    for n in (1, 2):
        assert counts(take(sources[1], symbol="BTC/USD", now=now + n * timedelta(hours=1))) == (0, 0, 120, 0)
        outcomes = materialize_symbols(
            Run(ledger=ledger, tables=settings.tables(), now=now + n * timedelta(hours=2)),
            ["BTC/USD"],
            ["1h", "4h"],
            settings,
        )
        assert [(o.bars, o.stored, o.revised, o.published) for o in outcomes] == [(0, 0, 0, False)] * 2
    assert contents() == before


# -------------------------------------------------------------------------------------------- an unfinished bar


def newest(tables: DeltaTables) -> datetime:
    open_time: datetime = tables.read("bars", columns=[])["open_time"][-1].as_py()
    return open_time


def test_a_bar_that_is_open_by_the_clock_is_held_back(make_bars: Make, take: Take, tables: DeltaTables) -> None:
    bars = make_bars(50, symbol="BTC/USD")
    last = bars["open_time"].iloc[-1].to_pydatetime()
    report = take(bars, symbol="BTC/USD", now=last + timedelta(minutes=59))
    assert (report.stored, report.unfinished, report.quarantined) == (49, 1, 0)
    assert newest(tables) == last - timedelta(hours=1)
    report = take(bars, symbol="BTC/USD", now=last + timedelta(minutes=60))
    assert (report.stored, report.revised, report.unfinished) == (1, 0, 0)


@pytest.mark.parametrize(("minutes", "unfinished"), [(0, 1), (59, 1), (60, 0), (6000, 0)])
def test_a_bar_that_was_open_when_its_file_was_written_is_held_back(
    make_bars: Make, take: Take, source_of: Any, tables: DeltaTables, minutes: int, unfinished: int
) -> None:
    """However long ago that was: the file's last bar never closed in it."""
    bars = make_bars(50, symbol="BTC/USD")
    last = bars["open_time"].iloc[-1].to_pydatetime()
    source = replace(source_of(bars), written_at=last + timedelta(minutes=minutes))
    report = take(source, symbol="BTC/USD")
    assert (report.stored, report.unfinished) == (50 - unfinished, unfinished)


def test_a_file_written_before_all_of_its_bars_says_nothing(make_bars: Make, take: Take, source_of: Any) -> None:
    """Fault: a clock that was never set, or a copy that lost the file's time."""
    source = replace(source_of(make_bars(50, symbol="BTC/USD")), written_at=datetime(1980, 1, 1, tzinfo=UTC))
    assert take(source, symbol="BTC/USD").stored == 50


def test_whoever_knows_better_says_so(make_bars: Make, take: Take, source_of: Any) -> None:
    bars = make_bars(50, symbol="BTC/USD")
    last = bars["open_time"].iloc[-1].to_pydatetime()
    source = replace(source_of(bars), written_at=last + timedelta(minutes=5))
    assert take(source, symbol="BTC/USD", final=False).unfinished == 1
    report = take(source, symbol="BTC/USD", final=True)
    assert (report.stored, report.unfinished) == (1, 0)


def test_a_bar_that_has_not_closed_is_never_final(make_bars: Make, take: Take, tables: DeltaTables) -> None:
    bars = make_bars(50, symbol="BTC/USD")
    last = bars["open_time"].iloc[-1].to_pydatetime()
    report = take(bars, symbol="BTC/USD", now=last + timedelta(minutes=59), final=True)
    assert (report.stored, report.unfinished) == (49, 1)


# ------------------------------------------------------------------------------------- an online store that lost all


@pytest.mark.parametrize("loss", ["all", "a symbol", "a view", "a view's revision"])
def test_one_run_rebuilds_what_the_online_store_has_lost(
    loss: str, make_bars: Make, take: Take, settings: Settings, ledger: Ledger, redis: Any, contents: Any, now: datetime
) -> None:
    """Faults: FLUSHALL or another server, a deleted key, fields that are gone."""
    names, frames = ["BTC/USD", "EUR/USD"], ["1h", "4h"]
    for name in names:
        take(make_bars(150, symbol=name), symbol=name)
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), names, frames, settings)
    before = contents()
    key, spec = entity_key("EUR/USD", settings.repo().project), view("indicators", "4h")
    if loss == "all":
        redis.flushall()
    elif loss == "a symbol":
        redis.delete(key)
    elif loss == "a view":
        redis.hdel(key, revision_key(spec.name), *(field_key(spec.name, name) for name in spec.fields))
    else:
        redis.hdel(key, revision_key(spec.name))
    assert contents() != before
    outcomes = materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now + timedelta(hours=1)), names, frames, settings
    )
    assert contents() == before
    rebuilt = {(o.symbol, o.timeframe) for o in outcomes if o.published}
    assert rebuilt == {
        "all": {(name, tf) for name in names for tf in frames},
        "a symbol": {("EUR/USD", tf) for tf in frames},
    }.get(loss, {("EUR/USD", "4h")})
