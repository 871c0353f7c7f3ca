"""What a run finds to do: what was written since, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.catalog import INDICATORS, SYMBOLS, TIMEFRAMES, Timeframe
from feature_repo.freshness import next_close
from feature_repo.meaning import definitions_digest
from feature_repo.sessions import expected_opens
from feature_repo.stores.delta.tables import DeltaTables
from flows.compute.derive import complete_until
from flows.compute.job import Job
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.runs import plan as plan_module
from flows.runs.plan import Pending, known_symbols, pending, plan
from flows.settings import Settings

Make = Callable[..., pd.DataFrame]
HOUR = timedelta(hours=1)
FRAMES = ("1h", "4h", "1d")
EURUSD, GBPUSD = SYMBOLS["EUR/USD"], SYMBOLS["GBP/USD"]


@pytest.fixture
def ask(tables: DeltaTables, ledger: Ledger, now: datetime) -> Callable[..., Pending]:
    def run(*symbols: str, at: datetime = now, timeframes: tuple[str, ...] = FRAMES) -> Pending:
        return pending([SYMBOLS[s] for s in symbols or ("EUR/USD",)], timeframes, tables, ledger, now=at)

    return run


@pytest.fixture
def materialize(settings: Settings, ledger: Ledger, now: datetime) -> Callable[..., None]:
    def run(*symbols: str, timeframes: tuple[str, ...] = FRAMES) -> None:
        outcomes = materialize_symbols(
            Run(ledger=ledger, tables=settings.tables(), now=now), symbols or ("EUR/USD",), timeframes, settings
        )
        assert not any(outcome.problem for outcome in outcomes), outcomes

    return run


def jobs_of(plan: Pending) -> dict[str, Job]:
    return {job.timeframe.name: job for job in plan.jobs}


def opened(job: Job) -> datetime:
    """Where a job begins."""
    assert job.since_us is not None
    return datetime.fromtimestamp(job.since_us / 1e6, UTC)


# ------------------------------------------------------------------------------------------------------- plan


def test_a_timeframe_is_made_of_the_longest_shorter_one() -> None:
    assert plan(["1h"]) == {"1h": None, "4h": "1h", "1d": "1h"}
    assert plan(["1m", "1h"])["4h"] == "1h"
    assert plan(["1m", "1h"])["30m"] == "1m"
    assert plan(["1d"]) == {"1d": None}
    assert plan([]) == {}


def test_bars_are_not_made_of_bars_that_do_not_fill_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a catalog has bars of 2 and of 3 hours: of 2 hours there are none of 3."""
    hours = {f"{n}h": Timeframe(name=f"{n}h", seconds=3600 * n) for n in (1, 2, 3, 4, 6)}
    monkeypatch.setattr(plan_module, "TIMEFRAMES", hours)
    assert plan(["1h", "2h"]) == {"1h": None, "2h": None, "3h": "1h", "4h": "2h", "6h": "2h"}
    assert plan(["2h"]) == {"2h": None, "4h": "2h", "6h": "2h"}


@given(st.sets(st.sampled_from([*TIMEFRAMES])))
def test_what_is_ingested_is_never_derived_and_nothing_is_made_of_a_longer_one(ingested: set[str]) -> None:
    for target, source in plan(ingested).items():
        assert (source is None) == (target in ingested)
        assert source is None or TIMEFRAMES[source].seconds < TIMEFRAMES[target].seconds


# ---------------------------------------------------------------------------------------------------- pending


def test_the_first_time_everything_is_to_do(make_bars: Make, take: Any, ask: Any) -> None:
    take(make_bars(100))
    plan = ask("EUR/USD", "GBP/USD")
    assert [(job.symbol.name, job.timeframe.name) for job in plan.jobs] == [("EUR/USD", tf) for tf in FRAMES]
    assert {job.since_us for job in plan.jobs} == {None}
    assert [job.source and job.source.name for job in plan.jobs] == [None, "1h", "1h"]
    assert plan.done == ()


def test_what_is_done_is_not_to_do(make_bars: Make, take: Any, ask: Any, materialize: Any) -> None:
    bars = make_bars(100)
    take(bars)
    materialize()
    assert ask().jobs == ()
    take(bars)
    assert ask().jobs == ()
    assert {mark.timeframe for mark in ask().done} == {*FRAMES}


def test_a_new_bar_is_to_do_from_where_it_lies(make_bars: Make, take: Any, ask: Any, materialize: Any) -> None:
    bars = make_bars(101)
    take(bars.head(100))
    materialize()
    take(bars)
    jobs = jobs_of(ask())
    newest = bars["open_time"].iloc[-1].to_pydatetime()
    assert opened(jobs["1h"]) == newest
    assert all(opened(jobs[tf]) <= newest for tf in FRAMES)
    assert newest - opened(jobs["4h"]) < timedelta(hours=4) + timedelta(hours=4)


def test_a_correction_is_to_do_from_the_bar_that_it_lies_in(
    make_bars: Make, take: Any, ask: Any, materialize: Any
) -> None:
    bars = make_bars(300)
    take(bars)
    materialize()
    bars.loc[150, "volume"] += 1
    take(bars)
    jobs, corrected = jobs_of(ask()), bars["open_time"].iloc[150].to_pydatetime()
    assert opened(jobs["1h"]) == corrected
    for tf, job in jobs.items():
        assert timedelta(0) <= corrected - opened(job) < timedelta(seconds=TIMEFRAMES[tf].seconds)


def test_one_symbols_news_are_no_work_for_another(make_bars: Make, take: Any, ask: Any, materialize: Any) -> None:
    for name in ("EUR/USD", "GBP/USD"):
        take(make_bars(100), symbol=name)
    materialize("EUR/USD", "GBP/USD")
    take(make_bars(101), symbol="GBP/USD")
    assert {job.symbol.name for job in ask("EUR/USD", "GBP/USD").jobs} == {"GBP/USD"}


def test_a_timeframe_that_was_left_out_is_still_to_do(make_bars: Make, take: Any, ask: Any, materialize: Any) -> None:
    bars = make_bars(101)
    take(bars.head(100))
    materialize()
    take(bars)
    materialize(timeframes=("1h",))
    assert [*jobs_of(ask())] == ["4h", "1d"]


def test_a_bar_that_has_not_closed_waits_and_is_not_forgotten(
    make_bars: Make, take: Any, ask: Any, materialize: Any, now: datetime
) -> None:
    """Fault: it was stored under a clock that ran ahead."""
    known = make_bars(100, start=datetime(2024, 5, 27, tzinfo=UTC))
    take(known)
    materialize()
    early = make_bars(1, start=now + HOUR, seed=3)
    take(early, now=now + 3 * HOUR)
    assert ask().jobs == ()
    assert opened(jobs_of(ask(at=now + 2 * HOUR))["1h"]) <= now + HOUR


def test_a_shorter_timeframe_that_comes_later_becomes_the_source(
    make_bars: Make, take: Any, ask: Any, materialize: Any
) -> None:
    take(make_bars(60))
    materialize()
    take(make_bars(400, "30m"), "30m")
    sources = {job.timeframe.name: job.source for job in ask(timeframes=("30m", "1h", "4h")).jobs}
    assert sources == {"30m": None}  # 1h stays ingested, and 4h is made of it


def test_a_lost_list_of_series_is_found_again(
    make_bars: Make, take: Any, tables: DeltaTables, ledger: Ledger, settings: Settings, now: datetime
) -> None:
    take(make_bars(100))
    take(make_bars(100), symbol="GBP/USD")
    assert known_symbols(tables, ledger) == ("EUR/USD", "GBP/USD")
    with Ledger(f"sqlite:///{settings.home / 'another.db'}", now=now.timestamp) as empty:
        assert known_symbols(tables, empty) == ("EUR/USD", "GBP/USD")
        plan = pending([EURUSD, GBPUSD], FRAMES, tables, empty, now=now)
    assert len(plan.jobs) == 6


def test_what_was_computed_under_another_meaning_is_to_do_from_the_beginning(
    make_bars: Make, take: Any, ask: Any, materialize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(make_bars(100))
    materialize()
    rsi = INDICATORS["rsi_14"]
    others = [i for i in INDICATORS.values() if i is not rsi]
    monkeypatch.setattr(plan_module, "DEFINITIONS_DIGEST", definitions_digest([*others, replace(rsi, high=99.0)]))
    assert ask().jobs == (), "a bound is no part of the meaning"
    monkeypatch.setattr(
        plan_module, "DEFINITIONS_DIGEST", definitions_digest([*others, replace(rsi, parameters={"window": 15})])
    )
    assert {job.since_us for job in ask().jobs} == {None}


def test_an_upgrade_from_0_1_computes_all_again(
    make_bars: Make, take: Any, ask: Any, materialize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a dead market its values were wrong; so what it stored under its own digest is not taken for right."""
    take(make_bars(100))
    monkeypatch.setattr("flows.materialize.stages.DEFINITIONS_DIGEST", "5653d2ec9c5f102f")
    materialize()
    assert {job.since_us for job in ask().jobs} == {None}


# ------------------------------------------------------------------------------------------------- complete_until


@given(
    st.sampled_from(["EUR/USD", "AUD/USD.MT", "BTC/USD", "AAPL"]),
    st.sampled_from(["15m", "1h"]),
    st.integers(0, 250),
    st.integers(0, 10 * 86_400),
)
def test_a_source_is_complete_until_the_next_bar_of_an_open_market(
    name: str, timeframe: str, which: int, passed_s: int
) -> None:
    session, frame = SYMBOLS[name].session, TIMEFRAMES[timeframe]
    start = int(datetime(2024, 10, 21, tzinfo=UTC).timestamp()) * 1_000_000
    opens = expected_opens(session, frame, start, start + 60 * 86_400_000_000)
    newest = int(opens[which])
    now_us = newest + frame.microseconds + passed_s * 1_000_000
    until = complete_until(session, frame, newest, now_us)
    assert newest + frame.microseconds <= until <= now_us
    between = opens[(opens > newest) & (opens < until)]
    assert np.array_equal(between, [])
    assert until in (now_us, next_close(session, frame, newest + frame.microseconds) - frame.microseconds)


def test_an_hour_of_a_closed_market_leaves_no_daily_bar_to_do(
    make_bars: Make, take: Any, ask: Any, materialize: Any, tables: DeltaTables
) -> None:
    """The last hour after Friday's trading lies on Saturday, as UTC counts, of which no bar is ever made."""
    bars = make_bars(35, symbol="AAPL")
    saturday = bars["open_time"].iloc[-1].normalize() + timedelta(days=1)
    assert saturday.day_name() == "Saturday"
    late = bars.tail(1).assign(open_time=pd.DatetimeIndex([saturday]).as_unit("us"))
    take(pd.concat([bars, late], ignore_index=True), symbol="AAPL")
    materialize("AAPL")
    assert ask("AAPL").jobs == ()
    days = tables.read("bars", timeframe="1d", symbols=["AAPL"])["open_time"].to_pylist()
    assert [f"{day:%a}" for day in days] == ["Mon", "Tue", "Wed", "Thu", "Fri"]
