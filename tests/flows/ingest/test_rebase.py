"""Stored bars brought into another basis: as revisions, all or nothing, and what depends on them follows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import BAR_FIELDS, SYMBOLS
from feature_repo.stores.delta.tables import DeltaTables
from flows.ingest.ingest import SymbolBusyError
from flows.ingest.rebase import Rebased, RebaseError, rebase
from flows.ledger import Ledger

Make = Callable[..., pd.DataFrame]
PRICES = [*BAR_FIELDS[:4]]
LATER = datetime(2024, 6, 4, tzinfo=UTC)


@pytest.fixture
def bring(tables: DeltaTables, ledger: Ledger) -> Callable[..., list[Rebased]]:
    def run(
        before: datetime,
        factor: float = 2.0,
        volume_factor: float = 1.0,
        *,
        timeframes: list[str] | None = None,
        symbol: str = "EUR/USD",
    ) -> list[Rebased]:
        return rebase(
            SYMBOLS[symbol], factor=factor, volume_factor=volume_factor, before=before, timeframes=timeframes,
            tables=tables, ledger=ledger, now=LATER,
        )  # fmt: skip

    return run


def rows(tables: DeltaTables, timeframe: str = "1h", **options: Any) -> pd.DataFrame:
    read = tables.read("bars", timeframe=timeframe, symbols=["EUR/USD"], columns=BAR_FIELDS, **options)
    return read.to_pandas()


def test_bars_before_the_moment_become_revisions(make_bars: Make, take: Any, bring: Any, tables: DeltaTables) -> None:
    bars = make_bars(100)
    take(bars)
    before = bars["open_time"].iloc[60].to_pydatetime()
    (rebased,) = bring(before, 2.0, 0.5)
    assert (rebased.timeframe, rebased.revised) == ("1h", 60)
    assert (rebased.first_open, rebased.last_open) == (
        bars["open_time"].iloc[0],
        bars["open_time"].iloc[59],
    )
    now = rows(tables)
    np.testing.assert_array_equal(now.loc[:59, PRICES], bars.loc[:59, PRICES] * 2)
    np.testing.assert_array_equal(now.loc[:59, "volume"], bars.loc[:59, "volume"] * 0.5)
    np.testing.assert_array_equal(now.loc[60:, [*BAR_FIELDS]], bars.loc[60:, [*BAR_FIELDS]])
    known = rows(tables, as_known_at=LATER - timedelta(hours=1))
    np.testing.assert_array_equal(known[PRICES], bars[PRICES])


def test_every_ingested_timeframe_is_rebased_or_the_one_that_is_named(make_bars: Make, take: Any, bring: Any) -> None:
    take(make_bars(100))
    take(make_bars(100, "15m"), "15m")
    assert [(r.timeframe, r.revised) for r in bring(LATER, timeframes=["15m"])] == [("15m", 100)]
    assert [(r.timeframe, r.revised) for r in bring(LATER, 1.5)] == [("15m", 100), ("1h", 100)]


def test_what_was_derived_is_not_rebased_but_derived_again(
    make_bars: Make, take: Any, bring: Any, tables: DeltaTables, settings: Any, ledger: Ledger
) -> None:
    from flows.ledger import Run
    from flows.materialize import materialize_symbols

    def materialize(at: datetime) -> None:
        outcomes = materialize_symbols(Run(ledger=ledger, tables=tables, now=at), ["EUR/USD"], ["1h", "4h"], settings)
        assert [o.problem for o in outcomes] == ["", ""]

    bars = make_bars(300)
    take(bars)
    materialize(LATER - timedelta(hours=1))
    before = rows(tables, "4h")
    (rebased,) = bring(LATER)
    assert rebased.revised == 300
    materialize(LATER)
    np.testing.assert_array_equal(rows(tables, "4h")[PRICES], before[PRICES] * 2)
    values = tables.read("indicators", timeframe="4h", symbols=["EUR/USD"], columns=["sma_20", "rsi_14"])
    close = pd.Series(before["close"] * 2)
    np.testing.assert_allclose(values["sma_20"].to_numpy()[19:], close.rolling(20).mean()[19:], rtol=1e-12)


def test_a_price_that_leaves_the_symbols_bounds_stops_all_of_it(
    make_bars: Make, take: Any, bring: Any, contents: Any
) -> None:
    take(make_bars(100))
    take(make_bars(100, "15m"), "15m")
    before = contents()
    with pytest.raises(RebaseError, match=r"EUR/USD 15m times 100 is not a price of EUR/USD: open_out_of_bounds \(100"):
        bring(LATER, 100.0)
    assert contents() == before


def test_without_bars_before_the_moment_there_is_nothing_to_rebase(make_bars: Make, take: Any, bring: Any) -> None:
    bars = make_bars(100)
    take(bars)
    with pytest.raises(RebaseError, match="EUR/USD has no ingested bars before 2024-01-08 00:00 UTC"):
        bring(bars["open_time"].iloc[0].to_pydatetime())
    with pytest.raises(RebaseError, match="at 4h"):
        bring(LATER, timeframes=["4h"])
    with pytest.raises(RebaseError, match="GBP/USD has no ingested bars"):
        bring(LATER, symbol="GBP/USD")


def test_a_symbol_that_another_run_works_on_is_left_alone(
    make_bars: Make, take: Any, bring: Any, ledger: Ledger, contents: Any
) -> None:
    take(make_bars(100))
    before = contents()
    with ledger.lease(["EUR/USD"], owner="another"), pytest.raises(SymbolBusyError, match="another is working on it"):
        bring(LATER)
    assert contents() == before


@pytest.mark.usefixtures("prefect_server")
def test_a_download_after_a_split_follows_the_remedy_that_its_refusal_names(
    make_bars: Make, take: Any, fstore: Any, tables: DeltaTables
) -> None:
    """Ten for one: the refusal's own command, then the download, and no seam is left."""
    import shlex

    bars = make_bars(120)
    bars[PRICES] = bars[PRICES].round(5)
    take(bars.head(100))
    adjusted = bars.tail(30).copy()
    adjusted[PRICES] = (adjusted[PRICES] * 2).round(4)
    refused = take(adjusted, max_revised_share=0.2).stopped
    command = refused[refused.index("fstore rebase") :]
    ended = fstore(*shlex.split(command)[1:])
    assert ended.code == 0, ended.err
    assert "Rebased by 2" in ended.out
    report = take(adjusted, max_revised_share=0.2)
    assert (report.stopped, report.stored) == ("", 20)
    close = rows(tables)["close"]
    assert (np.abs(np.diff(np.log(close))) < 0.01).all()
    np.testing.assert_allclose(close, bars["close"] * 2, atol=1e-4)
