"""The batch run: what it stores and publishes, what it leaves alone, and one symbol's fault is no other's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, TIMEFRAMES
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.codec import entity_key, field_key
from feature_repo.stores.schemas import SCHEMAS
from flows.compute import step
from flows.compute.changes import as_table
from flows.compute.derive import closes
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.runs.outcome import Outcome
from flows.settings import Settings
from tests.flows.materialize.pairs import PAIRS, check_only, make_pairs

Make = Callable[..., pd.DataFrame]
Take = Callable[..., Any]
ReadOnline = Callable[..., Any]
Contents = Callable[[], tuple[Any, ...]]
Materialize = Callable[..., dict[tuple[str, str], Outcome]]


@pytest.fixture
def materialize(settings: Settings, ledger: Ledger, now: datetime) -> Materialize:
    """Runs the symbols without Prefect; outcomes by symbol and timeframe."""

    def start(*symbols: str, at: datetime = now, timeframes: list[str] | None = None) -> Any:
        outcomes = materialize_symbols(
            Run(ledger=ledger, tables=settings.tables(), now=at),
            symbols or ["EUR/USD"],
            timeframes or [*TIMEFRAMES],
            settings,
        )
        return {(o.symbol, o.timeframe): o for o in outcomes}

    return start


# -------------------------------------------------------------------------------------------- the whole way


def test_minutes_become_every_longer_timeframe(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, tables: DeltaTables
) -> None:
    bars = make_bars(2 * 1440, "1m")
    take(bars, "1m")
    outcomes = materialize()
    assert [tf for _, tf in outcomes] == [*TIMEFRAMES]
    assert not any(o.problem for o in outcomes.values())
    for timeframe, spec in TIMEFRAMES.items():
        outcome = outcomes["EUR/USD", timeframe]
        stored = tables.read("indicators", timeframe=timeframe)
        assert outcome.published
        assert outcome.stored == outcome.bars == stored.num_rows > 0
        assert abs(outcome.bars - len(bars) * 60 / spec.seconds) < 2
        assert set(read_online("EUR/USD", timeframe).closes) == {outcome.as_of}
        assert tables.read("bars", timeframe=timeframe).num_rows == outcome.bars


def test_online_is_what_offline_holds(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, tables: DeltaTables
) -> None:
    take(make_bars(700))
    materialize()
    for timeframe in ("1h", "4h", "1d"):
        online = read_online("EUR/USD", timeframe)
        for table, names in (("bars", BAR_FIELDS), ("indicators", INDICATOR_FIELDS)):
            rows = tables.read(table, timeframe=timeframe, columns=names)
            for name in names:
                stored = rows[name].to_numpy()
                np.testing.assert_array_equal(online.window[name], stored[-len(online.window[name]) :])
                np.testing.assert_array_equal(online.scalars[name], stored[-1])


def test_an_ingested_timeframe_is_never_derived(
    make_bars: Make, take: Take, materialize: Materialize, tables: DeltaTables
) -> None:
    hours, days = make_bars(400), make_bars(16, "1d", seed=7)
    take(hours)
    take(days, "1d")
    outcomes = materialize()
    assert outcomes["EUR/USD", "1d"].bars == 16
    rows = tables.read("bars", timeframe="1d", columns=["close", "source_bars"])
    assert rows["source_bars"].null_count == 16
    assert rows["close"].to_pylist() == days["close"].tolist()
    assert tables.read("bars", timeframe="4h", columns=["source_bars"])["source_bars"].null_count == 0


def test_only_what_was_asked_for_is_computed(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline
) -> None:
    take(make_bars(100))
    assert [*materialize(timeframes=["4h", "1m"])] == [("EUR/USD", "4h")]
    assert read_online("EUR/USD", "1h") is None


# ------------------------------------------------------------------------------------------------ run again


def test_a_second_run_stores_nothing_and_publishes_nothing_new(
    make_bars: Make, take: Take, materialize: Materialize, contents: Contents
) -> None:
    take(make_bars(400))
    first = materialize()
    before = contents()
    second = materialize()
    assert contents() == before
    for key, outcome in second.items():
        assert (outcome.bars, outcome.stored, outcome.revised, outcome.published) == (0, 0, 0, False)
        assert outcome.as_of == first[key].as_of


def test_new_bars_add_rows_and_change_none(
    make_bars: Make, take: Take, materialize: Materialize, tables: DeltaTables, now: datetime
) -> None:
    bars = make_bars(400)
    take(bars.head(350))
    materialize()
    take(bars, now=now + timedelta(hours=1))
    outcomes = materialize(at=now + timedelta(hours=2))
    assert (outcomes["EUR/USD", "1h"].stored, outcomes["EUR/USD", "1h"].revised) == (50, 0)
    assert {outcome.revised for outcome in outcomes.values()} == {0}
    assert tables.read("indicators", all_revisions=True).num_rows == tables.read("indicators").num_rows


def test_a_correction_in_the_middle_reaches_the_online_window_at_the_same_newest_bar(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, tables: DeltaTables, now: datetime
) -> None:
    bars = make_bars(400)
    take(bars)
    first = materialize()
    before = read_online("EUR/USD", "4h")
    corrected = bars.copy()
    corrected.loc[350, ["close", "high"]] = corrected.loc[350, "high"] * 1.001
    take(corrected, now=now + timedelta(hours=1))
    outcomes = materialize(at=now + timedelta(hours=2))
    for timeframe in ("1h", "4h", "1d"):
        outcome = outcomes["EUR/USD", timeframe]
        assert outcome.published
        assert outcome.as_of == first["EUR/USD", timeframe].as_of
        assert outcome.stored == 0
        assert 0 < outcome.revised <= outcome.bars < first["EUR/USD", timeframe].bars
    after = read_online("EUR/USD", "4h")
    assert after.closes == before.closes
    assert corrected.loc[350, "high"] in after.window["high"]
    assert (after.window["sma_20"] != before.window["sma_20"]).any()
    known = tables.read("indicators", timeframe="4h", columns=["sma_20"], as_known_at=now + timedelta(minutes=1))
    np.testing.assert_array_equal(known["sma_20"].to_numpy()[-len(before.window["sma_20"]) :], before.window["sma_20"])


def test_a_correction_long_before_the_window_reaches_what_never_forgets(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, now: datetime
) -> None:
    """On-balance volume sums up all of history: no bar in the window has changed, only what is computed of them."""
    bars = make_bars(700)
    take(bars)
    materialize()
    before = read_online("EUR/USD", "1h")
    bars.loc[10, "volume"] += 1.0
    take(bars, now=now + timedelta(hours=1))
    assert materialize(at=now + timedelta(hours=2))["EUR/USD", "1h"].published
    after = read_online("EUR/USD", "1h")
    np.testing.assert_array_equal(after.window["volume"], before.window["volume"])
    np.testing.assert_array_equal(abs(after.window["obv"] - before.window["obv"]), 1.0)
    assert after.closes == before.closes


def test_a_correction_that_no_indicator_depends_on_is_published_too(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, now: datetime
) -> None:
    bars = make_bars(100)
    take(bars)
    materialize()
    bars.loc[99, "open"] = bars.loc[99, "high"]  # nothing is computed of the open
    take(bars, now=now + timedelta(hours=1))
    outcome = materialize(at=now + timedelta(hours=2))["EUR/USD", "1h"]
    assert (outcome.stored, outcome.published) == (0, True)
    assert read_online().scalars["open"] == bars.loc[99, "high"]


def test_a_store_that_lost_everything_is_filled_again(
    make_bars: Make, take: Take, materialize: Materialize, redis: Any, contents: Contents
) -> None:
    take(make_bars(400))
    materialize()
    before = contents()
    redis.flushall()
    assert all(outcome.published for outcome in materialize().values())
    assert contents() == before


@pytest.mark.parametrize("name", ["ohlcv_4h:close", "indicators_1h:rsi_14", "window_1d:sma_5"])
def test_a_store_that_lost_one_field_is_given_it_again(
    make_bars: Make, take: Take, materialize: Materialize, redis: Any, contents: Contents, settings: Settings, name: str
) -> None:
    take(make_bars(400))
    materialize()
    before = contents()
    assert redis.hdel(entity_key("EUR/USD", settings.repo().project), field_key(*name.split(":")))
    outcomes = materialize()
    assert [tf for (_, tf), outcome in outcomes.items() if outcome.published] == [name.partition(":")[0].split("_")[1]]
    assert contents() == before


def test_a_bar_that_has_not_closed_never_gets_online(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline
) -> None:
    bars = make_bars(100)
    for minutes in (0, 59, 60):
        moment = bars["open_time"].iloc[-1].to_pydatetime() + timedelta(minutes=minutes)
        take(bars, now=moment)
        materialize(at=moment)
        for timeframe in ("1h", "4h", "1d"):
            assert max(read_online("EUR/USD", timeframe).closes) <= moment
    assert read_online("EUR/USD", "1h").window["close"][-1] == bars["close"].iloc[-1]


def test_a_last_bar_that_stays_incomplete_is_judged_by_every_run_and_kept_once(
    make_bars: Make, take: Take, materialize: Materialize, tables: DeltaTables
) -> None:
    take(make_bars(10).drop(index=[6, 7, 8]).reset_index(drop=True))  # of 06:00 to 10:00 the last hour alone
    for _ in range(3):
        assert materialize()["EUR/USD", "4h"].quarantined == 1
    rejected = tables.read("quarantine", columns=["rule", "detail"])
    assert rejected["rule"].to_pylist() == ["incomplete"]
    assert rejected["detail"].to_pylist() == ["1 of 4 source bars"]


# ------------------------------------------------------------------------------------ one symbol, the others


def test_a_symbol_whose_computation_raises(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pairs(make_bars, take)

    def broken(bars: pd.DataFrame, symbol: catalog.Symbol, timeframe: catalog.Timeframe) -> Any:
        if symbol.name == "GBP/USD":
            raise ValueError("[bold]no such[/] number")
        return input_columns(bars, symbol, timeframe)

    input_columns = step.input_columns
    monkeypatch.setattr(step, "input_columns", broken)
    check_only(materialize(*PAIRS), read_online, "GBP/USD", "ValueError: [bold]no such[/] number")


def test_a_symbol_that_a_gate_stops(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, tables: DeltaTables
) -> None:
    make_pairs(make_bars, take)
    absurd = make_bars(100)
    absurd["close"] = -absurd["close"]
    hour = TIMEFRAMES["1h"]
    rows = absurd.assign(event_timestamp=closes(absurd, hour), created=pd.Timestamp("2024-06-04", tz="UTC"))
    tables.append("bars", as_table(rows, SCHEMAS["bars"], symbol="USD/JPY", timeframe="1h"))
    outcomes = materialize(*PAIRS)
    check_only(outcomes, read_online, "USD/JPY", "% of the rows are bad")
    assert outcomes["USD/JPY", "1h"].problem.startswith("indicators: ")
    assert outcomes["USD/JPY", "4h"].problem.startswith("derived bars: ")


def test_a_symbol_that_the_catalog_has_lost(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pairs(make_bars, take)
    remaining = {name: symbol for name, symbol in catalog.SYMBOLS.items() if name != "EUR/USD"}
    monkeypatch.setattr(catalog, "SYMBOLS", remaining)
    monkeypatch.setattr("feature_repo.catalog.symbols.SYMBOLS", remaining)
    check_only(materialize(*PAIRS), read_online, "EUR/USD", "unknown symbol 'EUR/USD'")


def test_a_symbol_that_the_online_store_refuses(
    make_bars: Make, take: Take, materialize: Materialize, read_online: ReadOnline, redis: Any, settings: Settings
) -> None:
    make_pairs(make_bars, take)
    redis.set(entity_key("GBP/USD", settings.repo().project), "no hash")
    outcomes = materialize(*PAIRS)
    redis.flushall()
    assert {o.symbol for o in outcomes.values() if o.problem} == {"GBP/USD"}
    assert "WRONGTYPE" in outcomes["GBP/USD", "1h"].problem
    assert outcomes["EUR/USD", "1h"].published
    assert all(outcome.published for outcome in materialize(*PAIRS).values())  # nothing of it was lost


def test_an_online_store_that_is_away_is_no_symbols_fault(
    make_bars: Make,
    take: Take,
    materialize: Materialize,
    settings: Settings,
    now: datetime,
    tables: DeltaTables,
    ledger: Ledger,
) -> None:
    """It raises, so that the task is tried again; what was computed is stored by then."""
    make_pairs(make_bars, take)
    unreachable = Settings(home=settings.home, redis_url="redis://localhost:1")
    with pytest.raises(RedisConnectionError):
        materialize_symbols(Run(ledger=ledger, tables=unreachable.tables(), now=now), PAIRS, ["1h"], unreachable)
    assert tables.read("indicators").num_rows == 300
    assert all(outcome.published for outcome in materialize(*PAIRS, timeframes=["1h"]).values())
