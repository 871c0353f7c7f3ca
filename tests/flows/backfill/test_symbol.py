"""Backfill: the same values as ever, only where asked, resumable, and never from a truncated beginning."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_repo.catalog import INDICATOR_FIELDS
from feature_repo.stores.delta.tables import DeltaTables
from flows.backfill.span import Span, span_of
from flows.backfill.symbol import backfill_symbol
from flows.compute import step
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.runs.outcome import Outcome
from flows.settings import Settings

Make = Callable[..., pd.DataFrame]
Take = Callable[..., Any]
Backfill = Callable[..., dict[str, Outcome]]
FRAMES = ["1h", "4h"]
WHOLE = Span()
START, END = datetime(2024, 1, 12, tzinfo=UTC), datetime(2024, 1, 16, 23, tzinfo=UTC)


@pytest.fixture
def backfill(settings: Settings, ledger: Ledger, redis: Any, now: datetime) -> Backfill:
    """Backfills one symbol without Prefect; outcomes by timeframe."""

    def start(
        span: Span = WHOLE,
        *,
        symbol: str = "EUR/USD",
        key: str = "",
        hours: int = 1,
    ) -> dict[str, Outcome]:
        later = now + timedelta(hours=hours)
        key = key or f"{span} {hours}"
        outcomes = backfill_symbol(
            Run(ledger=ledger, tables=settings.tables(), now=later),
            symbol,
            FRAMES,
            span,
            settings,
            redis,
            key=key,
            sleep=lambda _: None,
        )
        return {o.timeframe: o for o in outcomes}

    return start


@pytest.fixture
def stored(make_bars: Make, take: Take, settings: Settings, ledger: Ledger, now: datetime) -> pd.DataFrame:
    bars = make_bars(260)
    take(bars)
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], FRAMES, settings)
    return bars


def newest(tables: DeltaTables, table: Any, timeframe: str) -> pd.DataFrame:
    return tables.read(table, timeframe=timeframe).drop_columns(["created"]).to_pandas()


def damage(tables: DeltaTables, timeframe: str, now: datetime) -> None:
    """A later revision of every indicator row, all wrong."""
    rows = tables.read("indicators", timeframe=timeframe)
    rows = rows.set_column(
        rows.schema.get_field_index("created"), rows.schema.field("created"),
        pa.array([now + timedelta(minutes=1)] * rows.num_rows, rows.schema.field("created").type),
    )  # fmt: skip
    place = rows.schema.get_field_index("sma_5")
    tables.append("indicators", rows.set_column(place, rows.schema.field("sma_5"), pc.add(rows["sma_5"], 1.0)))


def test_what_is_right_is_not_written_again(stored: pd.DataFrame, tables: DeltaTables, backfill: Backfill) -> None:
    before = [tables.version(table) for table in ("bars", "indicators")]
    outcomes = backfill()
    assert [(o.bars, o.stored, o.revised, o.published) for o in outcomes.values()] == [
        (260, 0, 0, False),
        (outcomes["4h"].bars, 0, 0, False),
    ]
    assert outcomes["1h"].unchanged == 260
    assert [tables.version(table) for table in ("bars", "indicators")] == before


def test_only_the_range_is_written(
    stored: pd.DataFrame, tables: DeltaTables, backfill: Backfill, now: datetime
) -> None:
    right = {tf: newest(tables, "indicators", tf) for tf in FRAMES}
    for tf in FRAMES:
        damage(tables, tf, now)
    wrong = {tf: newest(tables, "indicators", tf) for tf in FRAMES}
    outcomes = backfill(span_of(START, END))
    for tf in FRAMES:
        inside = ((right[tf]["open_time"] >= START) & (right[tf]["open_time"] <= END)).to_numpy()
        actual = newest(tables, "indicators", tf)
        pd.testing.assert_frame_equal(actual[inside], right[tf][inside])
        pd.testing.assert_frame_equal(actual[~inside], wrong[tf][~inside])
        assert outcomes[tf].revised == outcomes[tf].bars == inside.sum() > 0


@pytest.mark.parametrize("span", [Span(), span_of(START, None), span_of(None, END), span_of(START, END)])
def test_a_history_that_was_never_computed_gets_the_values_of_a_whole_run(
    make_bars: Make, take: Take, tables: DeltaTables, backfill: Backfill, settings: Settings, ledger: Ledger,
    now: datetime, span: Span,
) -> None:  # fmt: skip
    """On-balance volume too, which never forgets: not one value begins at the range's start."""
    take(make_bars(260))
    assert not [o.problem for o in backfill(span).values() if o.problem]
    actual = {tf: newest(tables, "indicators", tf) for tf in FRAMES}
    materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=now + timedelta(hours=2)), ["EUR/USD"], FRAMES, settings
    )
    for tf in FRAMES:
        whole = newest(tables, "indicators", tf)
        opens = whole["open_time"].astype("int64")
        low, high = span.start_us or 0, span.end_us or np.iinfo(np.int64).max
        expected = whole[(opens >= low) & (opens <= high)].reset_index(drop=True)
        np.testing.assert_array_equal(actual[tf][[*INDICATOR_FIELDS]], expected[[*INDICATOR_FIELDS]])


def test_the_last_derived_bar_of_a_range_is_whole_even_when_its_last_source_bars_are_missing(
    make_bars: Make, take: Take, tables: DeltaTables, backfill: Backfill
) -> None:
    bars = make_bars(60)
    hours = bars["open_time"].dt.hour
    take(bars[~((bars["open_time"].dt.day == 9) & (hours == 17))])  # the last hour of the bar that opens at 14:00 UTC
    end = datetime(2024, 1, 9, 14, tzinfo=UTC)
    backfill(span_of(None, end))
    rows = tables.read("bars", timeframe="4h", columns=["source_bars"])
    assert (rows["open_time"].to_pylist()[-1], rows["source_bars"].to_pylist()[-1]) == (end, 3)
    assert tables.read("quarantine").num_rows == 0


def test_what_is_done_is_not_done_again_until_the_backfill_is_forgotten(
    stored: pd.DataFrame, backfill: Backfill, ledger: Ledger
) -> None:
    assert [*backfill(key="k")] == FRAMES
    assert backfill(key="k") == {}
    ledger.forget_backfill("k")
    assert [*backfill(key="k")] == FRAMES


def test_a_timeframe_that_failed_is_done_again(
    stored: pd.DataFrame, backfill: Backfill, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = step.compute

    def broken(job: Any, *args: Any, **options: Any) -> Any:
        if job.timeframe.name == "4h":
            raise OSError("No space left on device")
        return compute(job, *args, **options)

    monkeypatch.setattr(step, "compute", broken)
    assert backfill(key="k")["4h"].problem == "OSError: No space left on device"
    monkeypatch.setattr(step, "compute", compute)
    assert [*backfill(key="k")] == ["4h"]


def test_a_symbol_that_another_run_holds_and_an_unknown_one(
    stored: pd.DataFrame, backfill: Backfill, ledger: Ledger
) -> None:
    with ledger.lease(["EUR/USD"], owner="another run"):
        assert "another run is working on it" in backfill()[""].problem
    assert "unknown symbol" in backfill(symbol="EUR/USB")[""].problem


def test_a_range_that_does_not_reach_the_window_publishes_nothing(
    stored: pd.DataFrame, backfill: Backfill, redis: Any
) -> None:
    redis.flushall()
    early = datetime(2023, 12, 1, tzinfo=UTC)
    assert not backfill(span_of(early, early + timedelta(days=7)))["1h"].published
    assert backfill(span_of(START, None))["1h"].published
