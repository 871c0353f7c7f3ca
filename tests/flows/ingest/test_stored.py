"""A source is compared with what is stored before anything of it is: its basis, its unit, its feed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import BAR_FIELDS
from feature_repo.stores.delta.tables import DeltaTables
from flows.ingest.ingest import IngestReport
from flows.ledger import Ledger

Make = Callable[..., pd.DataFrame]
Take = Callable[..., IngestReport]
PRICES = [*BAR_FIELDS[:4]]


@pytest.fixture
def stored(make_bars: Make, take: Take) -> pd.DataFrame:
    """200 hours of EUR/USD, ingested."""
    bars = make_bars(240)
    bars[PRICES] = bars[PRICES].round(5)
    take(bars.head(200))
    return bars


def other_basis(bars: pd.DataFrame, factor: float) -> pd.DataFrame:
    bars = bars.copy()
    bars[PRICES] *= factor
    bars["volume"] /= factor
    return bars


# ------------------------------------------------------------------------------------------------------- bases


def test_an_overlap_in_another_basis_is_refused_before_anything_is_written(
    stored: pd.DataFrame, take: Take, contents: Any, ledger: Ledger
) -> None:
    before = contents()
    report = take(other_basis(stored.iloc[190:], 2.0))
    assert contents() == before
    assert (report.read, report.held, report.stored, report.revised, report.quarantined) == (50, 50, 0, 0, 0)
    assert report.stopped.startswith("prices differ by the factor 2 throughout (volumes by 0.5) in 10 bars")
    close = stored["open_time"].iloc[199] + timedelta(hours=1)
    command = f"fstore rebase EUR/USD --factor 2 --volume-factor 0.5 --before {close:%Y-%m-%dT%H:%M}"
    assert report.stopped.endswith(
        f"load the whole history again in the new basis with --revise, or bring the stored bars over first: {command}"
    )
    (run,) = [run for run in ledger.runs(kind="ingest") if run.state == "stopped"]
    assert list(run.problems) == [report.stopped]


def test_a_part_in_another_basis_is_refused_whatever_is_asked_for(stored: pd.DataFrame, take: Take) -> None:
    assert "factor 2" in take(other_basis(stored.iloc[190:], 2.0), revise=True).stopped
    assert "factor 2" in take(other_basis(stored.head(199), 2.0), revise=True).stopped


def test_all_of_history_in_another_basis_is_stored_when_asked_for(
    stored: pd.DataFrame, take: Take, tables: DeltaTables
) -> None:
    adjusted = other_basis(stored, 2.0)
    assert "store all of it in the new basis with --revise" in take(adjusted).stopped
    report = take(adjusted, revise=True)
    assert (report.stopped, report.revised, report.stored) == ("", 200, 40)
    rows = tables.read("bars", timeframe="1h", symbols=["EUR/USD"], columns=["close"], all_revisions=True)
    assert rows.num_rows == 440, "what was known before stays readable"


# ------------------------------------------------------------------------------------------------------- feeds


def test_another_feed_is_not_stored_over_a_stored_span_unless_asked_for(
    stored: pd.DataFrame, take: Take, contents: Any
) -> None:
    feed, before = stored.copy(), contents()
    feed[PRICES] += np.random.default_rng(3).uniform(0.0001, 0.0003, (240, 1))
    report = take(feed, max_revised_share=0.2)
    assert contents() == before
    assert report.stopped.startswith("200 of 200 bars that are stored already would change (100 %, at most 20 % may)")
    assert "bp in the median" in report.stopped
    assert "run it again with --revise" in report.stopped
    assert take(feed, max_revised_share=0.2, revise=True).revised == 200


def test_times_of_another_zone_are_named(stored: pd.DataFrame, take: Take) -> None:
    moved = stored.iloc[100:200].assign(open_time=stored["open_time"] + pd.Timedelta(hours=2))
    moved["open_time"] = moved["open_time"].dt.as_unit("us")
    assert "the same bars stand 2 h later: another time zone" in take(moved, max_revised_share=0.2).stopped


def test_corrections_of_a_few_bars_are_stored(stored: pd.DataFrame, take: Take) -> None:
    fresh = stored.copy()
    fresh.loc[[10, 50, 199], "close"] = fresh.loc[[10, 50, 199], ["high", "low"]].mean(axis=1)
    report = take(fresh, max_revised_share=0.2)
    assert (report.stopped, report.revised, report.stored) == ("", 3, 40)
    small = stored.iloc[150:154].copy()
    small.loc[[150, 151], "volume"] += 1  # two of four: a share, but hardly a feed
    assert take(small, max_revised_share=0.2).revised == 2


def test_an_older_download_that_was_corrected_since_is_no_other_feed(
    stored: pd.DataFrame, take: Take, source_of: Any
) -> None:
    from dataclasses import replace

    old = replace(source_of(stored.head(200)), digest="first")
    assert take(old).unchanged == 200
    fresh = stored.head(200).copy()
    fresh["volume"] += 1
    later = stored["open_time"].iloc[-1].to_pydatetime()
    assert take(fresh, revise=True, now=later + timedelta(days=40)).revised == 200
    report = take(old, max_revised_share=0.2)
    assert (report.stopped, report.superseded) == ("", 200)


# ------------------------------------------------------------------------------------------------------- units


def test_new_bars_are_expected_in_the_unit_of_the_stored_ones(
    stored: pd.DataFrame, take: Take, tables: DeltaTables
) -> None:
    fresh = stored.iloc[200:].copy()
    fresh.loc[220, PRICES] *= 2.0
    report = take(fresh)
    assert (report.stopped, report.stored, report.quarantined_by_rule) == ("", 39, {"unit_error": 1})
    rows = tables.read("quarantine", timeframe="1h", symbols=["EUR/USD"], columns=["detail"])
    assert [round(float(text.partition("=")[2]), 2) for text in rows["detail"].to_pylist()] == [2.0]


def test_a_source_in_another_unit_is_stopped_although_it_overlaps_nothing(
    stored: pd.DataFrame, take: Take, contents: Any
) -> None:
    fresh = other_basis(stored.iloc[200:], 2.0)
    report = take(fresh)
    assert report.stored == 0
    assert "40 bars from" in report.stopped
    assert any("fstore rebase" in line and "--as-is" in line for line in report.refusal)
    assert take(fresh, as_is=True).stored == 40


def test_bars_before_the_stored_ones_are_compared_with_those_after_them(make_bars: Make, take: Take) -> None:
    bars = make_bars(120)
    take(bars.tail(60))
    fresh = bars.head(60).copy()
    fresh[PRICES] *= 2.0
    assert "60 bars from" in take(fresh).stopped
    assert take(bars.head(60)).stored == 60


def test_the_first_bars_of_a_symbol_are_compared_among_themselves(make_bars: Make, take: Take) -> None:
    bars = make_bars(60)
    bars.loc[30, PRICES] *= 2.0
    assert take(bars).quarantined_by_rule == {"unit_error": 1}


def test_a_vendors_filling_of_the_weekend_is_set_aside(make_bars: Make, take: Take) -> None:
    bars = make_bars(115)  # Monday 00:00 to Friday 21:00 UTC
    last = bars["open_time"].iloc[-1]
    assert last.day_name() == "Friday"
    weekend = pd.date_range(last + pd.Timedelta(hours=4), periods=40, freq="h").as_unit("us")
    filling = bars.tail(1).drop(columns="open_time").merge(pd.DataFrame({"open_time": weekend}), how="cross")
    filling[PRICES], filling["volume"] = bars["close"].iloc[-1], 0.0
    report = take(pd.concat([bars, filling], ignore_index=True)[[*bars.columns]])
    assert (report.stopped, report.stored) == ("", 115)
    assert report.quarantined_by_rule == {"closed_market_flat": 40}
    assert report.off_session == 0
    again = take(filling[[*bars.columns]])
    assert (again.stopped, again.stored, again.quarantined) == ("", 0, 40)
