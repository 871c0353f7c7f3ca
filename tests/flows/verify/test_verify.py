"""Parity: what is broken on purpose is found, named and doubted where lookups see it; once repaired, the doubt ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_repo import catalog
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.codec import doubt_key, encode_array, encode_double, entity_key, field_key, timestamp_key
from feature_repo.stores.redis.publish import channel
from feature_repo.stores.window import read_window
from flows import verify as parity
from flows.backfill.span import Span
from flows.backfill.symbol import backfill_symbol
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings
from flows.verify.symbol import Parity, choose, verify_symbol

Make = Callable[..., pd.DataFrame]
Take = Callable[..., Any]
Verify = Callable[..., dict[str, Parity]]
FRAMES = ["1h", "4h"]
BARS = 120


@pytest.fixture
def published(make_bars: Make, take: Take, settings: Settings, ledger: Ledger, now: datetime) -> pd.DataFrame:
    """Some hours of EUR/USD, computed and online."""
    bars = make_bars(BARS)
    take(bars)
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], FRAMES, settings)
    return bars


@pytest.fixture
def verify(settings: Settings, ledger: Ledger, redis: Any, now: datetime) -> Verify:
    """Verifies one symbol without Prefect; by timeframe."""

    def start(symbol: str = "EUR/USD", **options: Any) -> dict[str, Parity]:
        comparisons = verify_symbol(
            Run(ledger=ledger, tables=settings.tables(), now=now, id=options.pop("run", "")),
            symbol,
            FRAMES,
            settings,
            redis,
            sleep=options.pop("sleep", lambda _: None),
            **options,
        )
        return {comparison.timeframe: comparison for comparison in comparisons}

    return start


@pytest.fixture
def mark(redis: Any, settings: Settings) -> Callable[..., str]:
    """The mark of doubt as a client reads it, empty without a doubt."""

    def read(timeframe: str = "1h", symbol: str = "EUR/USD") -> str:
        stored: bytes | None = redis.hget(entity_key(symbol, settings.repo().project), doubt_key(timeframe))
        return (stored or b"").decode()

    return read


@pytest.fixture
def repair(settings: Settings, ledger: Ledger, redis: Any, now: datetime) -> Callable[[], None]:
    """A backfill of all that there is."""

    def run() -> None:
        later = now + timedelta(hours=1)
        outcomes = backfill_symbol(
            Run(ledger=ledger, tables=settings.tables(), now=later),
            "EUR/USD",
            FRAMES,
            Span(),
            settings,
            redis,
            key="repair",
        )
        ledger.forget_backfill("repair")
        assert not [o.problem for o in outcomes if o.problem]

    return run


def revise(tables: DeltaTables, table: Any, timeframe: str, at: int, field: str, value: float, now: datetime) -> Any:
    """Writes a later revision of a stored row with another value, as no run would. Returns its bar's open."""
    row = tables.read(table, timeframe=timeframe, symbols=["EUR/USD"]).slice(at, 1)
    column = row.schema.get_field_index(field)
    row = row.set_column(column, row.schema.field(field), pa.array([value], row.schema.field(field).type))
    created = row.schema.get_field_index("created")
    moment = pa.array([now + timedelta(minutes=1)], row.schema.field("created").type)
    tables.append(table, row.set_column(created, row.schema.field("created"), moment))
    return row["open_time"][0].as_py()


# ---------------------------------------------------------------------------------------------- all is well


def test_what_was_stored_and_published_proves_right(published: pd.DataFrame, verify: Verify, mark: Any) -> None:
    comparisons = verify()
    assert [*comparisons] == FRAMES
    for comparison in comparisons.values():
        assert (comparison.state, comparison.online, comparison.due, comparison.reason) == ("same", True, False, "")
    assert comparisons["1h"].rows == len(published)
    assert not any(mark(tf) for tf in FRAMES)


def test_bars_that_wait_for_a_run_are_no_difference(
    published: pd.DataFrame, make_bars: Make, take: Take, verify: Verify, now: datetime
) -> None:
    """A new bar, and a corrected one: what they would change is not looked at, what lies before them is."""
    bars = published.copy()
    bars.loc[90, "open"] = bars.loc[90, "low"]
    last = make_bars(1, start=bars["open_time"].iloc[-1].to_pydatetime() + timedelta(hours=1))
    take(pd.concat([bars, last], ignore_index=True), now=now + timedelta(minutes=1))
    comparisons = verify()
    assert all((comparison.state, comparison.due) == ("same", True) for comparison in comparisons.values())
    assert comparisons["1h"].rows == 90


def test_a_bar_whose_indicators_the_gate_rejects_is_not_missed(
    make_bars: Make, take: Take, settings: Settings, ledger: Ledger, verify: Verify, now: datetime,
    monkeypatch: pytest.MonkeyPatch, tables: DeltaTables,
) -> None:  # fmt: skip
    """It is not stored, for good reason, and a recomputation must not ask for it."""
    from flows.compute import step

    judge = step.check_indicators

    def strict(frame: pd.DataFrame, **options: Any) -> Any:
        broken = frame.assign(rsi_14=frame["rsi_14"].where(frame["open_time"] != bars["open_time"][100], 200.0))
        return judge(broken, **options)

    monkeypatch.setattr(step, "check_indicators", strict)
    bars = make_bars(BARS)
    take(bars)
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], ["1h"], settings)
    assert tables.read("indicators", timeframe="1h").num_rows == BARS - 1
    assert verify()["1h"].state == "same"


# ------------------------------------------------------------------------------------------- broken on purpose


def test_a_wrong_indicator_is_found_and_a_backfill_mends_it(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, repair: Any, mark: Any, ledger: Ledger, now: datetime
) -> None:
    moment = revise(tables, "indicators", "1h", 100, "rsi_14", 12.5, now)
    comparisons = verify()
    assert comparisons["1h"].state == "differs"
    assert comparisons["1h"].by_rule == {"behind": 1, "indicators": 1}
    assert f"rsi_14 of {moment:%Y-%m-%dT%H:%MZ} is 12.5, recomputed" in comparisons["1h"].reason
    assert comparisons["4h"].state == "same"
    assert mark() == comparisons["1h"].reason == ledger.doubts()["EUR/USD", "1h"].reason
    assert not mark("4h")
    repair()
    assert mark()  # a backfill proves nothing
    comparisons = verify()
    assert (comparisons["1h"].state, comparisons["1h"].cleared) == ("same", True)
    assert not mark()
    assert not ledger.doubts()


def test_a_wrong_derived_bar_is_found_and_a_backfill_mends_it(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, repair: Any, now: datetime
) -> None:
    revise(tables, "bars", "4h", 20, "high", 2.0, now)
    comparisons = verify()
    assert comparisons["4h"].by_rule == {"behind": 1, "bars": 1}
    assert "high of " in comparisons["4h"].reason
    assert comparisons["1h"].state == "same"
    repair()
    assert verify()["4h"].state == "same"


@pytest.mark.parametrize(("field", "value"), [("source_bars", 3), ("expected_bars", 5)])
def test_wrong_completeness_is_found(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, now: datetime, field: str, value: int
) -> None:
    revise(tables, "bars", "4h", 20, field, value, now)
    assert f"{field} of " in verify()["4h"].reason


def test_a_wrong_online_scalar_is_found_and_a_backfill_mends_it(
    published: pd.DataFrame, redis: Any, settings: Settings, verify: Verify, repair: Any, read_online: Any, mark: Any
) -> None:
    right = read_online().scalars["rsi_14"]
    spec = catalog.view("indicators", "1h")
    redis.hset(entity_key("EUR/USD", settings.repo().project), field_key(spec.name, "rsi_14"), encode_double(1.5))
    comparisons = verify()
    assert comparisons["1h"].by_rule == {"online": 1}
    assert f"rsi_14 of indicators_1h is 1.5, stored was {right!r}" in mark()
    repair()
    assert read_online().scalars["rsi_14"] == right
    assert verify()["1h"].cleared


@pytest.mark.parametrize(
    ("view", "field", "cell", "reason"),
    [
        ("window_1h", "close", encode_array(np.arange(5.0)), "holds 5 values, stored were 120"),
        ("window_1h", "close", b"nonsense", "can't be read"),
        ("ohlcv_1h", "close", None, "close of ohlcv_1h is absent"),
    ],
)
def test_a_damaged_online_field_is_told(
    published: pd.DataFrame, redis: Any, settings: Settings, verify: Verify, view: str, field: str,
    cell: bytes | None, reason: str,
) -> None:  # fmt: skip
    key = entity_key("EUR/USD", settings.repo().project)
    if cell is None:
        redis.hdel(key, field_key(view, field))
    else:
        redis.hset(key, field_key(view, field), cell)
    assert reason in verify()["1h"].reason


def test_a_wrong_online_timestamp_is_found(
    published: pd.DataFrame, redis: Any, settings: Settings, verify: Verify
) -> None:
    redis.hset(entity_key("EUR/USD", settings.repo().project), timestamp_key("ohlcv_4h"), b"\x08\x05")
    assert "the timestamp of ohlcv_4h is not that of its revision" in verify()["4h"].reason


def test_rows_that_no_bar_gives_and_rows_that_are_missing(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, now: datetime
) -> None:
    rows = tables.read("indicators", timeframe="4h", symbols=["EUR/USD"]).slice(10, 1)
    shifted = rows.set_column(
        rows.schema.get_field_index("open_time"), rows.schema.field("open_time"),
        pa.array([rows["open_time"][0].as_py() + timedelta(minutes=1)], rows.schema.field("open_time").type),
    )  # fmt: skip
    tables.append("indicators", shifted)
    assert verify()["4h"].by_rule == {"unexplained": 1}


def test_a_store_that_lost_everything(published: pd.DataFrame, redis: Any, verify: Verify, repair: Any) -> None:
    redis.flushall()
    assert all(comparison.by_rule == {"lost": 3} for comparison in verify().values())


# ------------------------------------------------------------------------------------------------ the doubt


def test_a_doubt_outlives_the_online_store(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, mark: Any, redis: Any, settings: Settings,
    ledger: Ledger, now: datetime,
) -> None:  # fmt: skip
    """Emptied and filled again, the store must not serve as proven what is in doubt."""
    revise(tables, "indicators", "1h", 100, "rsi_14", 12.5, now)
    reason = verify()["1h"].reason
    redis.flushall()
    assert not mark()
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=now), ["EUR/USD"], FRAMES, settings)
    assert mark() == reason


def test_caches_are_told_when_a_doubt_begins_and_ends(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, repair: Any, redis: Any, settings: Settings,
    now: datetime,
) -> None:  # fmt: skip
    revise(tables, "indicators", "1h", 100, "rsi_14", 12.5, now)
    with redis.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(channel(settings.repo().project))
        subscription.get_message(timeout=1.0)

        def messages() -> list[bytes]:
            return [m["data"] for m in iter(lambda: subscription.get_message(timeout=0.2), None)]

        verify()
        assert messages() == [b"EUR/USD\nohlcv_1h indicators_1h window_1h"]
        verify()
        assert messages() == []  # no news
        repair()
        messages()
        verify()
        assert messages() == [b"EUR/USD\nohlcv_1h indicators_1h window_1h"]


def test_a_comparison_of_nothing_ends_no_doubt(
    published: pd.DataFrame, make_bars: Make, take: Take, tables: DeltaTables, verify: Verify, mark: Any,
    now: datetime, ledger: Ledger, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Fault: all of history waits for a run, because a definition changed; nothing of it is compared."""
    revise(tables, "indicators", "1h", 100, "rsi_14", 12.5, now)
    reason = verify()["1h"].reason
    monkeypatch.setattr("flows.runs.plan.DEFINITIONS_DIGEST", "another")
    comparisons = verify()
    assert {
        tf: (comparison.state, comparison.rows, comparison.due, comparison.cleared)
        for tf, comparison in comparisons.items()
    } == {
        "1h": ("due", 0, True, False),
        "4h": ("due", 0, True, False),
    }
    assert mark() == ledger.doubts()["EUR/USD", "1h"].reason == reason


def test_a_comparison_of_some_ends_no_doubt(
    published: pd.DataFrame, take: Take, tables: DeltaTables, verify: Verify, mark: Any, repair: Any, now: datetime
) -> None:
    """The doubt may be about what waits for a run."""
    revise(tables, "indicators", "1h", 100, "rsi_14", 12.5, now)
    reason = verify()["1h"].reason
    bars = published.copy()
    bars.loc[90, "open"] = bars.loc[90, "low"]
    take(bars, now=now + timedelta(minutes=1))
    comparison = verify()["1h"]
    assert (comparison.state, comparison.due, comparison.rows, comparison.cleared) == ("same", True, 90, False)
    assert mark() == reason


def test_an_indicator_that_is_not_materialized_yet_puts_nothing_in_doubt(
    published: pd.DataFrame, redis: Any, settings: Settings, verify: Verify, mark: Any, ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its column is null in every row that was stored before, and online there is no such field."""

    def before(*args: Any, **options: Any) -> Any:
        window = read_window(*args, **options)
        return replace(window, columns={**window.columns, "zscore_20": np.full(len(window.columns["close"]), np.nan)})

    monkeypatch.setattr("flows.verify.online.read_window", before)
    for tf in FRAMES:
        for kind in ("indicators", "window"):
            name = catalog.view(kind, tf).name  # type: ignore[arg-type]
            redis.hdel(entity_key("EUR/USD", settings.repo().project), field_key(name, "zscore_20"))
    monkeypatch.setattr("flows.runs.plan.DEFINITIONS_DIGEST", "another")
    assert {comparison.state for comparison in verify().values()} == {"due"}
    assert not ledger.doubts()
    assert not any(mark(tf) for tf in FRAMES)


def test_a_store_that_lost_its_views_puts_nothing_in_doubt(
    published: pd.DataFrame, redis: Any, verify: Verify, ledger: Ledger
) -> None:
    redis.flushall()
    assert {comparison.state for comparison in verify().values()} == {"differs"}
    assert not ledger.doubts()


# ------------------------------------------------------------------------------------- runs at the same time


def test_a_run_between_storing_and_publishing_is_no_difference(
    published: pd.DataFrame, make_bars: Make, take: Take, verify: Verify, settings: Settings, ledger: Ledger,
    now: datetime, monkeypatch: pytest.MonkeyPatch, mark: Any,
) -> None:  # fmt: skip
    """A comparison that falls into a run sees it half done; under the lease it is done."""
    compare, calls = parity.compare_stores, []

    def compare_in_mid_run(*args: Any, **options: Any) -> Any:
        comparison = compare(*args, **options)
        if not calls:
            calls.append(1)
            return parity.Comparison(
                rows=1, online=True, due=False, findings=(parity.Finding(rule="behind", rows=1, detail="half done"),)
            )
        return comparison

    monkeypatch.setattr("flows.verify.symbol.compare_stores", compare_in_mid_run)
    assert verify()["1h"].state == "same"
    assert not mark()


def test_what_a_run_holds_all_the_while_is_unsettled(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, ledger: Ledger, now: datetime, mark: Any
) -> None:
    revise(tables, "indicators", "1h", 100, "rsi_14", 12.5, now)
    with ledger.lease(["EUR/USD"], owner="another run"):
        comparisons = verify()
    assert comparisons["1h"].state == "unsettled"
    assert comparisons["4h"].state == "same"
    assert not mark()
    assert verify()["1h"].state == "differs"


def test_unsettled_ends_when_the_run_does(
    published: pd.DataFrame, tables: DeltaTables, verify: Verify, ledger: Ledger, now: datetime, mark: Any
) -> None:
    """It is compared again as soon as the run that worked on it lets go."""
    revise(tables, "indicators", "1h", 100, "rsi_14", 12.5, now)
    lease = ledger.lease(["EUR/USD"], owner="another run")
    waits: list[float] = []

    def end_the_run(pause_s: float) -> None:
        waits.append(pause_s)
        if len(waits) == 50:  # long after the first look
            lease.release()

    comparisons = verify(wait_s=180.0, sleep=end_the_run)
    assert (comparisons["1h"].state, len(waits)) == ("differs", 50)
    assert mark()


# ------------------------------------------------------------------------------------------- one, the others


def test_an_unknown_symbol_and_an_unreadable_timeframe(
    published: pd.DataFrame, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    (failed,) = verify("EUR/USB").values()
    assert failed.state == "failed"
    assert "unknown symbol" in failed.reason
    compare = parity.compare_stores

    def unreadable(job: Any, **options: Any) -> Any:
        if job.timeframe.name == "4h":
            raise OSError("Couldn't deserialize thrift")
        return compare(job, **options)

    monkeypatch.setattr("flows.verify.symbol.compare_stores", unreadable)
    comparisons = verify()
    assert {tf: comparison.state for tf, comparison in comparisons.items()} == {"1h": "same", "4h": "failed"}
    assert comparisons["4h"].reason == "OSError: Couldn't deserialize thrift"


def test_a_sample_is_chosen_by_its_seed() -> None:
    names = [f"S{i}" for i in range(50)]
    assert choose(names, None, 1) == names
    assert choose(names, 60, 1) == names
    assert choose(names, 5, 1) == choose(names[::-1], 5, 1) != choose(names, 5, 2)
    assert len(set(choose(names, 5, 1))) == 5
