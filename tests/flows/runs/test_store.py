"""Bars that are stored: what is new or differs, under the run's lease, once per download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import BAR_FIELDS
from feature_repo.series import series
from feature_repo.stores.delta.tables import DeltaTables
from flows.ledger import LeaseLost, Ledger, LedgerError, Run
from flows.runs.store import Download, store_bars

Make = Callable[..., pd.DataFrame]
HOURS = series("EUR/USD", "1h")


@pytest.fixture
def run(ledger: Ledger, tables: DeltaTables, now: datetime) -> Iterator[Run]:
    """A run at work on EUR/USD."""
    with ledger.run("ingest", tables=tables, now=now, parameters={}) as work, work.lease_of("EUR/USD") as lease:
        yield work.holding(lease)


def stored_bars(tables: DeltaTables) -> pd.DataFrame:
    """The newest revision of every stored bar."""
    return tables.read("bars", timeframe="1h", symbols=["EUR/USD"], columns=(*BAR_FIELDS, "source_bars")).to_pandas()


def test_new_bars_are_stored_as_they_came(run: Run, tables: DeltaTables, make_bars: Make) -> None:
    bars = make_bars(50)
    result = store_bars(run, HOURS, bars)
    assert (result.changes.stored, result.changes.revised, result.superseded) == (50, 0, 0)
    stored = stored_bars(tables)
    assert (stored["open_time"] == bars["open_time"]).all()
    assert all((stored[name] == bars[name]).all() for name in BAR_FIELDS)
    assert stored["source_bars"].isna().all()
    assert (stored["created"] == pd.Timestamp(run.now)).all()


def test_what_was_written_is_listed_and_recorded(run: Run, ledger: Ledger, make_bars: Make) -> None:
    bars = make_bars(50)
    store_bars(run, HOURS, bars)
    (revision,) = ledger.revisions()
    opens = bars["open_time"].astype("int64")
    assert (revision.run, revision.symbol, revision.timeframe, revision.table) == (run.id, "EUR/USD", "1h", "bars")
    assert (revision.first_open_us, revision.last_open_us, revision.stored) == (opens.iloc[0], opens.iloc[-1], 50)
    assert [*ledger.series()] == [("EUR/USD", "1h")]


def test_the_same_bars_again_write_no_row(run: Run, tables: DeltaTables, ledger: Ledger, make_bars: Make) -> None:
    store_bars(run, HOURS, make_bars(50))
    result = store_bars(run, HOURS, make_bars(50))
    assert (result.changes.stored, result.changes.revised, result.changes.unchanged) == (0, 0, 50)
    rows = tables.read("bars", timeframe="1h", symbols=["EUR/USD"], columns=("close",), all_revisions=True)
    assert (rows.num_rows, len(ledger.revisions())) == (50, 1)


def test_a_bar_that_differs_is_one_revision_later_than_the_first(
    run: Run, tables: DeltaTables, make_bars: Make
) -> None:
    bars = make_bars(50)
    store_bars(run, HOURS, bars)
    corrected = bars.assign(volume=np.where(bars.index == 7, 5.0, bars["volume"]))
    result = store_bars(run, HOURS, corrected)
    assert (result.changes.stored, result.changes.revised, result.changes.unchanged) == (0, 1, 49)
    stored = stored_bars(tables)
    assert stored["volume"][7] == 5.0
    assert (stored["created"] > pd.Timestamp(run.now)).tolist() == [i == 7 for i in range(50)]


def test_an_earlier_download_undoes_no_later_correction(run: Run, tables: DeltaTables, make_bars: Make) -> None:
    bars = make_bars(50)
    first, second = (Download(digest=name, name=f"{name}.csv") for name in ("first", "second"))
    store_bars(run, HOURS, bars, first)
    store_bars(run, HOURS, bars[7:8].assign(volume=5.0), second)
    result = store_bars(run, HOURS, bars, first)
    assert (result.changes.revised, result.superseded) == (0, 1)
    assert stored_bars(tables)["volume"][7] == 5.0
    assert store_bars(run, HOURS, bars).changes.revised == 1  # bars that are no download are taken as the latest word


def test_without_a_lease_nothing_is_written(run: Run, ledger: Ledger, tables: DeltaTables, make_bars: Make) -> None:
    with pytest.raises(LedgerError, match="holds no lease"):
        store_bars(replace(run, current_lease=None), HOURS, make_bars(50), Download(digest="d", name="bars.csv"))
    assert tables.version("bars") is None
    assert ledger.ingested_at("EUR/USD", "1h", "d") is None


def test_under_a_lost_lease_nothing_is_written(run: Run, ledger: Ledger, tables: DeltaTables, make_bars: Make) -> None:
    """Fault: the run was believed dead, and another attempt took its lease over."""
    ledger.lease(["EUR/USD"], owner="another attempt", takes_over=f"run {run.id} on ")
    with pytest.raises(LeaseLost):
        store_bars(replace(run, now=run.now + timedelta(minutes=2)), HOURS, make_bars(50))
    assert tables.version("bars") is None
    assert ledger.revisions() == []
