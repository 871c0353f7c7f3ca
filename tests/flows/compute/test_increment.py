"""Increments: whatever way bars come in, the values are those of a full recomputation, at the cost of what is new."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from feature_repo.agreement import agree
from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, INDICATORS, SYMBOLS, TIMEFRAMES
from feature_repo.series import Series
from flows.compute import step
from flows.compute.increment import (
    LONGEST,
    STATE_FIELDS,
    TailTooShort,
    compute_from,
    input_columns,
    stretch_bars,
    stretch_begin,
    stretch_start,
    warm_up,
)
from flows.ingest.ingest import ingest
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.runs.history import read_histories
from flows.runs.plan import known_symbols, pending
from flows.settings import Settings
from tests.indicator_rows import compute_all, indicator_rows

Make = Callable[..., pd.DataFrame]
HOUR = TIMEFRAMES["1h"]
TAIL_BARS = stretch_bars(LONGEST) + warm_up(LONGEST)
EURUSD = SYMBOLS["EUR/USD"]


def assert_recomputed(tables: Any, timeframe: str, symbol: str = "EUR/USD") -> int:
    """The stored indicators are those of all stored bars, within the promise; how many rows that are."""
    bars = tables.read("bars", timeframe=timeframe, symbols=[symbol], columns=BAR_FIELDS).to_pandas()
    stored = tables.read("indicators", timeframe=timeframe, symbols=[symbol], columns=INDICATOR_FIELDS).to_pandas()
    expected = indicator_rows(bars[["open_time", *BAR_FIELDS]], symbol=SYMBOLS[symbol], timeframe=TIMEFRAMES[timeframe])
    assert stored["open_time"].tolist() == expected["open_time"].tolist()
    for name in INDICATOR_FIELDS:
        was, is_now = stored[name].to_numpy(), expected[name].to_numpy()
        wrong = ~agree(was, is_now)
        assert not wrong.any(), (name, np.flatnonzero(wrong)[:5], was[wrong][:5], is_now[wrong][:5])
    return len(stored)


# --------------------------------------------------------------------------------------------------- stretches


def walk(n: int, seed: int, *, step: float = 3e-4, digits: int = 5, unknown: float = 0.0) -> pd.DataFrame:
    """Hourly bars of a random walk, 24 hours a day; some volumes unknown."""
    rng = np.random.default_rng(seed)
    close = np.round(1.1 * np.exp(np.cumsum(rng.normal(0, step, n))), digits)
    spread = close * rng.uniform(0, 2e-4, (2, n))
    volume = np.round(rng.lognormal(3, 2, n), 8)
    volume[rng.random(n) < unknown] = np.nan
    opens = pd.date_range("2016-01-01", periods=n, freq="h", tz="UTC").as_unit("us")
    return pd.DataFrame(
        {"open_time": opens, "open": close, "high": close + spread[0], "low": close - spread[1], "close": close,
         "volume": volume}
    )  # fmt: skip


def from_row(bars: pd.DataFrame, first: int, *, tail: int = 0, stored: Any = None) -> dict[str, Any]:
    """The indicators from row ``first`` on, of the bars from row ``tail`` on."""
    rows = bars.iloc[tail:].reset_index(drop=True)
    state = {name: np.full(len(rows), np.nan) for name in STATE_FIELDS}
    if stored is not None:
        for name in STATE_FIELDS:
            state[name][: first - tail] = stored[name][tail:first]
    opens = rows["open_time"].to_numpy(dtype="datetime64[us]").view(np.int64)
    return compute_from(first - tail, input_columns(rows, EURUSD, HOUR), opens, HOUR, whole=tail == 0, stored=state)


def tail_of(bars: pd.DataFrame, first: int) -> int:
    """The last row that an increment from row ``first`` on may begin at."""
    opens = bars["open_time"].to_numpy(dtype="datetime64[us]").view(np.int64)
    before = [
        int(np.searchsorted(opens, stretch_start(i, HOUR, int(opens[first])))) - warm_up(i) for i in INDICATORS.values()
    ]
    return min(before)


WALK = walk(9000, 1)
WHOLE = from_row(WALK, 0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), step=st.sampled_from([1e-5, 3e-4, 5e-3]), digits=st.sampled_from([4, 5, 12]),
       unknown=st.sampled_from([0.0, 0.0, 1e-3]), new=st.integers(1, 3000), spare=st.integers(0, 50))  # fmt: skip
def test_a_tail_gives_the_bits_of_all_of_history(
    seed: int, step: float, digits: int, unknown: float, new: int, spare: int
) -> None:
    """Or asks for all of it, where a cumulative indicator has not met its stored state."""
    bars = walk(9000, seed, step=step, digits=digits, unknown=unknown)
    whole, first = from_row(bars, 0), len(bars) - new
    tail = max(tail_of(bars, first) - spare, 1)
    try:
        computed = from_row(bars, first, tail=tail, stored=whole)
    except TailTooShort:
        return
    for name in INDICATOR_FIELDS:
        if name.startswith("supertrend"):  # as far as its bands have met
            assert agree(whole[name][first:], computed[name]).all()
        else:
            np.testing.assert_array_equal(whole[name][first:], computed[name], err_msg=name)


@given(cuts=st.lists(st.integers(1, 8999), max_size=4))
@settings(max_examples=10, deadline=None)
def test_how_bars_are_cut_into_runs_leaves_no_trace(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), len(WALK)]
    stored: dict[str, Any] = {name: np.empty(0) for name in INDICATOR_FIELDS}
    for first, stop in itertools.pairwise(edges):
        part = from_row(
            WALK.head(stop), first, stored={n: np.append(v, np.full(stop - first, np.nan)) for n, v in stored.items()}
        )
        stored = {name: np.append(values, part[name]) for name, values in stored.items()}
    for name in INDICATOR_FIELDS:
        np.testing.assert_array_equal(stored[name], WHOLE[name], err_msg=name)


def test_stretches_keep_the_promise_against_a_computation_at_once() -> None:
    at_once = compute_all(input_columns(WALK, EURUSD, HOUR))
    for name in INDICATOR_FIELDS:
        assert agree(at_once[name], WHOLE[name]).all(), name


# ------------------------------------------------------------------------------------------------- quiet markets

REMEMBERING = [i for i in INDICATORS.values() if i.kind.memory in ("recursive", "cumulative")]


def segments(parts: list[tuple[str, int, int]], seed: int, *, gaps: bool) -> pd.DataFrame:
    """Hourly bars of one market after another, each ``(market, bars, size)``; its moves are 10**-size of the price."""
    rng = np.random.default_rng(seed)
    moves, ranges, volumes = [], [], []
    for market, n, size in parts:
        step = 10.0**-size
        noise = {"dead": np.zeros(n), "walk": rng.normal(0, step, n), "rising": np.full(n, step / 3),
                 "falling": np.full(n, -step / 3), "jump": np.where(np.arange(n) == 0, 2.0, 0.0),
                 "inside": np.zeros(n)}[market]  # fmt: skip
        moves.append(noise)
        ranges.append(np.full(n, 0.0 if market in ("dead", "jump") else step))
        volumes.append(np.zeros(n) if market == "dead" else np.round(rng.lognormal(3, 2, n), 4))
    path, width = np.cumsum(np.concatenate(moves)), np.concatenate(ranges)
    close = 1.1 * np.exp(np.clip(path, -12, 12))
    before = np.concatenate([close[:1], close[:-1]])
    n = len(close)
    hours = np.cumsum(np.where(gaps & (rng.random(n) < 0.003), 900, 1))
    opens = (pd.Timestamp("2012-01-01", tz="UTC") + pd.to_timedelta(hours, unit="h")).as_unit("us")
    return pd.DataFrame(
        {"open_time": opens, "open": before, "high": np.maximum(before, close) * (1 + width * rng.random(n)),
         "low": np.minimum(before, close) * (1 - width * rng.random(n)), "close": close,
         "volume": np.concatenate(volumes)}
    )  # fmt: skip


MARKET = st.tuples(
    st.sampled_from(["dead", "dead", "walk", "walk", "rising", "falling", "jump", "inside"]),
    st.sampled_from([1, 30, 300, 800, 1500, 3500]),
    st.sampled_from([2, 3, 4, 6, 9]),
)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(MARKET, min_size=2, max_size=5), seed=st.integers(0, 2**32 - 1), gaps=st.booleans(),
       at=st.floats(0.05, 0.999))  # fmt: skip
def test_an_increment_from_anywhere_gives_what_all_of_history_gives(
    parts: list[tuple[str, int, int]], seed: int, gaps: bool, at: float
) -> None:
    """Through dead markets, gaps, markets that only rise or fall, and moves of very different sizes."""
    bars = segments([("walk", 60, 3), *parts], seed, gaps=gaps)
    at_once = compute_all(input_columns(bars, EURUSD, HOUR))
    first = max(1, int(at * len(bars)))
    stored = from_row(bars, 0)
    try:
        increment = from_row(bars, first, tail=max(tail_of(bars, first), 0), stored=stored)
    except TailTooShort:
        increment = from_row(bars, first, stored=stored)
    for name in [name for i in REMEMBERING for name in i.outputs]:
        for values, since in ((stored[name], 0), (increment[name], first)):
            both = np.concatenate([at_once[name][:since], values])  # near zero is a share of the column's largest
            wrong = np.flatnonzero(~agree(at_once[name], both))
            assert not wrong.size, (name, len(bars), wrong[:3], at_once[name][wrong[:3]], both[wrong[:3]])


def test_a_dead_market_is_computed_from_before_it_died() -> None:
    """0/0 over a warm-up without a move was 0.0 where all of history has the value at which trading stopped."""
    bars = segments([("walk", 800, 4), ("dead", 5200, 0)], 1, gaps=False)
    at_once = compute_all(input_columns(bars, EURUSD, HOUR))
    whole = from_row(bars, 0)
    for name in ("rsi_7", "rsi_14", "rsi_21", "plus_di_14", "minus_di_14", "adx_14"):
        assert at_once[name][-1] > 1.0
        np.testing.assert_allclose(whole[name], at_once[name], rtol=1e-9, err_msg=name)


def test_a_market_that_never_moved_has_the_value_that_all_of_history_gives() -> None:
    bars = segments([("dead", 6000, 0)], 1, gaps=False)
    for name in ("rsi_14", "plus_di_14", "minus_di_14", "adx_14"):
        assert (from_row(bars, 0)[name][30:] == 0.0).all()
    first = len(bars) - 1
    with pytest.raises(TailTooShort):
        from_row(bars, first, tail=tail_of(bars, first), stored=from_row(bars, 0))


def test_a_quotient_in_an_ordinary_market_needs_no_more_than_the_tail() -> None:
    for indicator in REMEMBERING:
        if indicator.kind.is_quotient:
            assert warm_up(indicator) == 2 * (indicator.warm_up or 0)
            begin = stretch_begin(indicator, input_columns(WALK, EURUSD, HOUR), 8192, whole=False)
            assert 8192 - begin == warm_up(indicator)


def test_one_bar_less_than_the_warm_up_is_not_enough() -> None:
    first = len(WALK) - 1
    from_row(WALK, first, tail=tail_of(WALK, first), stored=WHOLE)
    with pytest.raises(TailTooShort):
        from_row(WALK, first, tail=tail_of(WALK, first) + 1, stored=WHOLE)


def test_a_state_that_is_not_stored_asks_for_all_of_history() -> None:
    first = len(WALK) - 1
    with pytest.raises(TailTooShort):
        from_row(WALK, first, tail=tail_of(WALK, first), stored=None)


def test_a_trend_that_never_turned_asks_for_all_of_history() -> None:
    """Only one of its bands has met the stored one."""
    bars = WALK.assign(close=np.linspace(1.0, 3.0, len(WALK)))
    bars = bars.assign(open=bars["close"], high=bars["close"] + 1e-4, low=bars["close"] - 1e-4)
    whole, first = from_row(bars, 0), len(bars) - 1
    with pytest.raises(TailTooShort):
        from_row(bars, first, tail=tail_of(bars, first), stored=whole)


# --------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def run(settings: Settings, ledger: Ledger, now: datetime) -> Callable[..., Any]:
    clock = [now]

    def start(timeframes: tuple[str, ...] = ("1h", "4h", "1d")) -> Any:
        clock[0] += timedelta(hours=1)
        outcomes = materialize_symbols(
            Run(ledger=ledger, tables=settings.tables(), now=clock[0]), ["EUR/USD"], timeframes, settings
        )
        assert not any(o.problem for o in outcomes), outcomes
        return {o.timeframe: o for o in outcomes}

    return start


def test_bars_that_come_in_pieces_end_as_if_they_had_come_at_once(
    make_bars: Make, take: Any, run: Any, tables: Any
) -> None:
    bars = make_bars(7500, start=datetime(2022, 11, 1, tzinfo=UTC))
    cuts = [7000, 7001, 7005, 7300, len(bars)]
    for cut in cuts:
        take(bars.head(cut))
        outcomes = run()
        assert {o.revised for o in outcomes.values()} == {0}
    assert assert_recomputed(tables, "1h") == len(bars)
    for timeframe in ("4h", "1d"):
        assert assert_recomputed(tables, timeframe) > 100
    assert tables.read("indicators", all_revisions=True).num_rows == tables.read("indicators").num_rows


def test_a_run_reads_the_tail_and_not_the_history(
    make_bars: Make, take: Any, run: Any, tables: Any, ledger: Ledger, now: datetime
) -> None:
    bars = make_bars(TAIL_BARS + 5000, start=datetime(2021, 6, 1, tzinfo=UTC))
    take(bars.head(len(bars) - 1))
    run()
    take(bars)
    (job,) = pending([EURUSD], ["1h"], tables, ledger, now=now + timedelta(days=1)).jobs
    ((_, history),) = read_histories([job], tables)
    assert not history.whole
    assert warm_up(LONGEST) <= history.bars.num_rows < 1.1 * TAIL_BARS
    assert history.features.num_rows == 0
    limits = step.Limits(max_bad_share=0.05, min_completeness=0.5)
    computed = step.compute(job, history, now=now + timedelta(days=1), limits=limits)
    assert (computed.bars, computed.feature_changes.stored, computed.feature_changes.revised) == (1, 1, 0)


@pytest.mark.parametrize("ago", [60, 200, 3500])
def test_a_correction_reaches_all_that_depends_on_it(
    make_bars: Make, take: Any, run: Any, tables: Any, ago: int
) -> None:
    bars = make_bars(4000, start=datetime(2023, 6, 1, tzinfo=UTC))
    take(bars)
    run()
    at = len(bars) - ago
    bars.loc[at, ["close", "high"]] = bars.loc[at, "high"] * 1.002
    bars.loc[at, "volume"] += 3.0
    take(bars)
    outcomes = run()
    assert all(o.revised > 0 for o in outcomes.values())
    assert outcomes["1h"].bars == ago
    for timeframe in outcomes:
        assert_recomputed(tables, timeframe)


def test_late_bars_fill_their_hole_and_reach_what_follows(make_bars: Make, take: Any, run: Any, tables: Any) -> None:
    bars = make_bars(3800, start=datetime(2023, 6, 1, tzinfo=UTC))
    hole = range(len(bars) - 90, len(bars) - 60)
    take(bars.drop(index=hole))
    run()
    assert tables.read("bars", timeframe="1h").num_rows == len(bars) - 30
    take(bars.iloc[hole.start - 5 : hole.stop + 5])
    outcomes = run()
    assert outcomes["1h"].stored == 30
    for timeframe in outcomes:
        assert_recomputed(tables, timeframe)


def test_a_changed_recipe_computes_all_of_history_again(
    make_bars: Make, take: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(make_bars(400))
    run()
    assert run()["1h"].bars == 0
    monkeypatch.setattr("flows.runs.plan.DEFINITIONS_DIGEST", "another")
    monkeypatch.setattr("flows.materialize.stages.DEFINITIONS_DIGEST", "another")
    again = run()
    assert (again["1h"].bars, again["1h"].revised) == (400, 0)
    assert run()["1h"].bars == 0


def test_a_ledger_that_was_lost_costs_work_and_no_data(
    make_bars: Make, take: Any, settings: Settings, ledger: Ledger, contents: Any, now: datetime
) -> None:
    take(make_bars(400))
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], ["1h", "4h"], settings)
    before = contents()
    with Ledger(f"sqlite:///{settings.home / 'another.db'}", now=lambda: now.timestamp() + 3600) as another:
        outcomes = materialize_symbols(
            Run(ledger=another, tables=settings.tables(), now=now + timedelta(hours=1)),
            ["EUR/USD"],
            ["1h", "4h"],
            settings,
        )
    assert [(o.problem, o.stored, o.revised) for o in outcomes] == [("", 0, 0)] * 2
    assert contents() == before


@settings(
    max_examples=6, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_of_new_late_and_corrected_bars(
    data: st.DataObject,
    make_bars: Make,
    source_of: Any,
    tmp_path_factory: pytest.TempPathFactory,
    server_url: str,
    redis: Any,
) -> None:
    """The history of ingests and runs leaves no trace in the newest revisions."""
    redis.flushall()
    home = tmp_path_factory.mktemp("any_order")
    settings = Settings(home=home, redis_url=server_url)
    tables = settings.tables()
    bars = make_bars(700, seed=data.draw(st.integers(0, 99)))
    now = datetime(2024, 6, 3, 12, tzinfo=UTC)
    with Ledger(f"sqlite:///{home / 'ledger.db'}", now=now.timestamp) as ledger:
        for step in range(data.draw(st.integers(2, 5))):
            now += timedelta(hours=1)
            kind = data.draw(st.sampled_from(["piece", "piece", "correction"]))
            first = data.draw(st.integers(0, 650))
            piece = bars.iloc[first : first + data.draw(st.integers(1, 300))].copy()
            if kind == "correction":
                piece["volume"] = piece["volume"] + step + 1
                bars.loc[piece.index, "volume"] = piece["volume"]
            ingest(
                source_of(piece),
                series=Series(symbol=EURUSD, timeframe=TIMEFRAMES["1h"]),
                tables=tables,
                ledger=ledger,
                now=now,
                max_bad_share=0.05,
            )
            if data.draw(st.booleans()):
                materialize_symbols(
                    Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], ["1h", "4h"], settings
                )
        outcomes = materialize_symbols(
            Run(ledger=ledger, tables=settings.tables(), now=now + timedelta(hours=1)),
            ["EUR/USD"],
            ["1h", "4h"],
            settings,
        )
        assert not any(o.problem for o in outcomes), outcomes
    for timeframe in ("1h", "4h"):
        assert_recomputed(tables, timeframe)


def test_an_ingest_after_the_ledger_was_lost_hides_no_symbol_and_no_history(
    make_bars: Make, take: Any, settings: Settings, tables: Any, source_of: Any, now: datetime
) -> None:
    bars = make_bars(300)
    take(bars.head(200))
    take(make_bars(50, symbol="GBP/USD"), symbol="GBP/USD")
    with Ledger(f"sqlite:///{settings.home / 'another.db'}", now=lambda: now.timestamp() + 60) as another:
        ingest(
            source_of(bars.tail(150)),
            series=Series(symbol=EURUSD, timeframe=HOUR),
            tables=tables,
            ledger=another,
            now=now,
            max_bad_share=0.05,
        )
        assert known_symbols(tables, another) == ("EUR/USD", "GBP/USD")
        first = another.series()["EUR/USD", "1h"].first_us
    assert first == bars["open_time"].iloc[0].value // 1000
