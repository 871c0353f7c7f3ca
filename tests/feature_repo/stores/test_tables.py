"""The contract of the offline tables: what every implementation of ``OfflineTables`` does, Delta Lake and in-memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.catalog import BAR_FIELDS
from feature_repo.repo import Repo
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.schemas import SCHEMAS
from feature_repo.stores.tables import OfflineTables, Upkeep
from tests.feature_repo.stores.memory_tables import MemoryTables

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
EURUSD, GBPUSD = "EUR/USD", "GBP/USD"
KEYS = ["symbol", "timeframe", "open_time", "event_timestamp", "created"]
MakeRows = Callable[..., pa.Table]


@pytest.fixture(params=["delta", "memory"])
def tables(request: pytest.FixtureRequest, repo: Repo) -> Iterator[OfflineTables]:
    """Empty tables of each implementation."""
    if request.param == "memory":
        yield MemoryTables()
        return
    shutil.rmtree(repo.offline, ignore_errors=True)
    yield DeltaTables(repo.offline)
    shutil.rmtree(repo.offline, ignore_errors=True)


def opens(rows: pa.Table) -> list[datetime]:
    return list(rows["open_time"].to_pylist())


def closes(rows: pa.Table) -> list[float]:
    return [round(value, 3) for value in rows["close"].to_pylist()]


def every(tables: OfflineTables) -> list[tuple[str, float]]:
    """All revisions of all bars: symbol and close."""
    rows = tables.read("bars", columns=["close"], all_revisions=True)
    return [(row["symbol"], round(row["close"], 3)) for row in rows.to_pylist()]


def rejected(opened: datetime | None, rule: str, created: datetime = JANUARY) -> pa.Table:
    """One quarantined row."""
    schema = pa.schema([field for field in SCHEMAS["quarantine"] if field.name != "month"])
    row = dict.fromkeys(schema.names) | {"symbol": "EUR/USD", "timeframe": "1h", "created": created, "kind": "bars"}
    return pa.Table.from_pylist([row | {"open_time": opened, "rule": rule}], schema)


# -------------------------------------------------------------------------------------------------------- reading


def test_the_newest_revision_is_read_and_the_older_ones_are_kept(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=3))
    second, third = JANUARY + timedelta(days=1), JANUARY + timedelta(days=2)
    tables.append("bars", make_rows("bars", start=JANUARY + HOUR, value=200.0, created=third))
    tables.append(
        "bars", make_rows("bars", start=JANUARY + HOUR, value=100.0, created=second)
    )  # in later, made earlier
    assert closes(tables.read("bars")) == [0.003, 200.003, 2.003]
    every = tables.read("bars", all_revisions=True)
    assert closes(every) == [0.003, 1.003, 100.003, 200.003, 2.003]
    assert every["created"].to_pylist()[2:4] == [second, third]


def test_as_known_at_is_what_was_known_then(tables: OfflineTables, make_rows: MakeRows) -> None:
    later = JANUARY + timedelta(days=1)
    tables.append("bars", make_rows("bars", n=3))
    tables.append("bars", make_rows("bars", start=JANUARY, value=100.0, created=later))
    first_written = JANUARY + HOUR + timedelta(seconds=1)
    just_before = first_written - timedelta(microseconds=1)
    assert closes(tables.read("bars", as_known_at=just_before)) == []
    assert closes(tables.read("bars", as_known_at=first_written)) == [0.003]
    assert closes(tables.read("bars", as_known_at=later - timedelta(microseconds=1))) == [0.003, 1.003, 2.003]
    assert closes(tables.read("bars", as_known_at=later)) == [100.003, 1.003, 2.003]
    assert closes(tables.read("bars", as_known_at=later, all_revisions=True)) == [0.003, 100.003, 1.003, 2.003]


def test_a_withdrawn_bar_is_seen_by_nobody_who_asks_later(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=3))
    later, restored = JANUARY + timedelta(days=1), JANUARY + timedelta(days=2)
    withdrawn = make_rows("bars", start=JANUARY + HOUR, value=float("nan"), created=later)
    tables.append("bars", withdrawn.append_column("withdrawn", pa.array(["a spike that nobody traded"])))
    assert closes(tables.read("bars")) == [0.003, 2.003]
    series = {"timeframe": "1h", "symbol": EURUSD, "start": None, "end": None}
    assert closes(tables.read_range("bars", columns=["close"], **series)) == [0.003, 2.003]  # type: ignore[arg-type]
    assert closes(tables.read("bars", as_known_at=later - timedelta(microseconds=1))) == [0.003, 1.003, 2.003]
    reasons = tables.read("bars", all_revisions=True)["withdrawn"].to_pylist()
    assert reasons == [None, None, "a spike that nobody traded", None]
    tables.append("bars", make_rows("bars", start=JANUARY + HOUR, value=9.0, created=restored))
    assert closes(tables.read("bars")) == [0.003, 9.003, 2.003]


def test_symbols_and_timeframes_are_not_revisions_of_each_other(tables: OfflineTables, make_rows: MakeRows) -> None:
    for symbol in ("GBP/USD", "EUR/USD"):
        for timeframe in ("1h", "4h"):
            tables.append("bars", make_rows("bars", symbol, timeframe, n=2))
    rows = tables.read("bars")
    assert rows.num_rows == 8
    assert rows["symbol"].to_pylist() == ["EUR/USD"] * 4 + ["GBP/USD"] * 4
    assert tables.read("bars", timeframe="4h", symbols=["GBP/USD"]).num_rows == 2
    assert tables.read("bars", symbols=[]).num_rows == 0
    assert tables.symbols() == ("EUR/USD", "GBP/USD")


def test_rows_come_ascending_however_they_were_written(tables: OfflineTables, make_rows: MakeRows) -> None:
    whole = make_rows("bars", n=60 * 24)  # from January into March
    for part in (slice(1000, 1440), slice(0, 500), slice(500, 1000)):
        chunk = whole.slice(part.start, part.stop - part.start)
        tables.append("bars", chunk.take(pa.array(range(chunk.num_rows - 1, -1, -1))))
    read = tables.read("bars")
    assert opens(read) == opens(whole)
    assert closes(read) == closes(whole)
    assert tables.read("bars").equals(read)  # and again the same


def test_every_rejected_row_is_read(tables: OfflineTables) -> None:
    rows = [(JANUARY, "high_low"), (JANUARY, "spike"), (None, "time"), (None, "time")]
    tables.append("quarantine", pa.concat_tables([rejected(opened, rule) for opened, rule in rows]))
    read = tables.read("quarantine", columns=["rule"])
    assert read["open_time"].to_pylist() == [JANUARY, JANUARY, None, None]
    assert sorted(read["rule"].to_pylist()[:2]) == ["high_low", "spike"]  # rows of one moment have no order
    assert read["rule"].to_pylist()[2:] == ["time", "time"]


@pytest.mark.parametrize("table", list(SCHEMAS))
def test_a_missing_table_reads_as_empty(tables: OfflineTables, table: Any) -> None:
    rows = tables.read(table, timeframe="1h", start=JANUARY)
    assert rows.num_rows == 0
    assert rows.schema.equals(pa.schema([SCHEMAS[table].field(n) for n in rows.column_names]))
    assert set(rows.column_names) == set(SCHEMAS[table].names) - {"month"}
    assert tables.version(table) is None
    assert tables.symbols() == ()


def test_a_read_without_matches_has_the_schema(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars"))
    whole = tables.read("bars").schema
    assert tables.read("bars", timeframe="1d").schema.equals(whole)
    assert tables.read("bars", symbols=["GBP/USD"]).schema.equals(whole)
    assert tables.read("bars", start=JANUARY + timedelta(days=400)).schema.equals(whole)


def test_columns_are_read_as_asked_for(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars"))
    assert tables.read("bars", columns=["close", "open", "created"]).column_names == [*KEYS, "close", "open"]
    assert tables.read("bars", columns=[]).column_names == KEYS
    assert tables.read("bars").column_names == [
        *KEYS,
        *BAR_FIELDS,
        "source_bars",
        "expected_bars",
        "source",
        "withdrawn",
    ]


def test_start_and_end_are_inclusive(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=5))
    assert opens(tables.read("bars", start=JANUARY + HOUR, end=JANUARY + 3 * HOUR)) == [
        JANUARY + k * HOUR for k in (1, 2, 3)
    ]
    assert opens(tables.read("bars", start=JANUARY + HOUR + timedelta(microseconds=1), end=JANUARY + 2 * HOUR)) == [
        JANUARY + 2 * HOUR
    ]


def test_only_what_was_written_after_a_moment(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=3))
    second_written = JANUARY + 2 * HOUR + timedelta(seconds=1)
    assert closes(tables.read("bars", written_after=second_written)) == [2.003]
    assert closes(tables.read("bars", written_after=second_written - timedelta(microseconds=1))) == [1.003, 2.003]


def test_an_unknown_value_reads_as_nan_however_it_was_written(tables: OfflineTables, make_rows: MakeRows) -> None:
    rows = make_rows("bars", n=3)
    at = rows.column_names.index("volume")
    signed = np.array([np.nan, np.nan, 5.0])
    signed[0] = -signed[0]  # as 0/0 is on some processors
    tables.append("bars", rows.set_column(at, "volume", pa.array(signed, mask=np.array([False, True, False]))))
    series = {"timeframe": "1h", "symbol": EURUSD, "start": None, "end": None}
    for volume in (tables.read("bars")["volume"], tables.read_range("bars", columns=["volume"], **series)["volume"]):  # type: ignore[arg-type]
        assert volume.null_count == 0
        assert volume.to_numpy().tobytes() == np.array([np.nan, np.nan, 5.0]).tobytes()  # the bits of every NaN too


# ---------------------------------------------------------------------------------------------- one symbol's range


SPAN = {"timeframe": "1h", "symbol": EURUSD, "start": None, "end": None}


def test_a_range_holds_the_times_and_the_columns_asked_for(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", pa.concat_tables([make_rows("bars", GBPUSD, value=9.0), make_rows("bars", n=3)]))
    tables.append("bars", make_rows("bars", "EUR/USD", "4h", value=5.0))
    tables.append("bars", make_rows("bars", start=JANUARY + HOUR, value=100.0, created=JANUARY + timedelta(days=1)))
    rows = tables.read_range("bars", columns=["close"], **SPAN)  # type: ignore[arg-type]
    assert rows.column_names == ["open_time", "close"]
    assert closes(rows) == [0.003, 100.003, 2.003]
    known = tables.read_range("bars", columns=["close"], as_known_at=JANUARY + 9 * HOUR, **SPAN)  # type: ignore[arg-type]
    assert closes(known) == [0.003, 1.003, 2.003]


def test_a_range_includes_both_ends(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=5))
    span = SPAN | {"start": JANUARY + HOUR, "end": JANUARY + 3 * HOUR}
    rows = tables.read_range("bars", columns=[], **span)  # type: ignore[arg-type]
    assert opens(rows) == [JANUARY + k * HOUR for k in (1, 2, 3)]


def test_a_range_of_a_missing_table_is_empty(tables: OfflineTables) -> None:
    rows = tables.read_range("indicators", columns=["rsi_14"], **SPAN)  # type: ignore[arg-type]
    assert (rows.column_names, rows.num_rows) == (["open_time", "rsi_14"], 0)


# -------------------------------------------------------------------------------------------------------- writing


def test_every_commit_has_a_version_of_its_own(tables: OfflineTables, make_rows: MakeRows) -> None:
    versions = []
    for hour in range(3):
        tables.append("bars", make_rows("bars", start=JANUARY + hour * HOUR))
        versions.append(tables.version("bars"))
    assert versions == sorted({*versions})
    assert tables.version("indicators") is None


def test_no_rows_are_no_commit(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars").slice(0, 0))
    assert tables.version("bars") is None


# -------------------------------------------------------------------------------------------------------- fencing


@pytest.fixture
def written(tables: OfflineTables, make_rows: MakeRows) -> OfflineTables:
    """Tables with a bar of each of two symbols, written under token 1."""
    rows = pa.concat_tables([make_rows("bars", EURUSD), make_rows("bars", GBPUSD)])
    tables.append("bars", rows, fences={EURUSD: 1, GBPUSD: 1})
    return tables


def test_a_run_writes_again_upon_what_it_has_read(written: OfflineTables, make_rows: MakeRows) -> None:
    since = written.version("bars")
    written.append("bars", make_rows("bars", start=JANUARY + HOUR, value=1.0), fences={EURUSD: 1}, since=since)
    assert every(written) == [(EURUSD, 0.003), (EURUSD, 1.003), (GBPUSD, 0.003)]


@pytest.mark.parametrize("stale", [1, 9])
def test_of_two_that_read_the_same_version_the_second_is_refused(
    written: OfflineTables, make_rows: MakeRows, stale: int
) -> None:
    """Whatever its token: what it computed is of rows that are no longer the newest."""
    since = written.version("bars")
    written.append("bars", make_rows("bars", value=100.0, created=JANUARY + 2 * HOUR), fences={EURUSD: 2}, since=since)
    before, version = every(written), written.version("bars")
    late = make_rows("bars", value=200.0, created=JANUARY + 3 * HOUR)
    with pytest.raises(FencedOutError, match="another run has written bars of EUR/USD meanwhile"):
        written.append("bars", late, fences={EURUSD: stale}, since=since)
    assert (every(written), written.version("bars")) == (before, version)
    assert written.read("bars", symbols=[EURUSD], columns=["close"])["close"].to_pylist() == [100.003]


def test_an_earlier_token_is_refused_even_if_it_reads_again(written: OfflineTables, make_rows: MakeRows) -> None:
    """It slept through its lease between asking for it and reading: what it brings may be an older download."""
    rows = make_rows("bars", value=100.0, created=JANUARY + 2 * HOUR)
    written.append("bars", rows, fences={EURUSD: 3}, since=written.version("bars"))
    before = every(written)
    with pytest.raises(FencedOutError):
        written.append("bars", make_rows("bars", value=200.0), fences={EURUSD: 2}, since=written.version("bars"))
    assert every(written) == before


def test_one_symbol_of_many_refuses_all_of_the_commit(written: OfflineTables, make_rows: MakeRows) -> None:
    since = written.version("bars")
    written.append("bars", make_rows("bars", GBPUSD, start=JANUARY + HOUR), fences={GBPUSD: 2}, since=since)
    rows = pa.concat_tables([make_rows("bars", name, start=JANUARY + HOUR) for name in (EURUSD, GBPUSD)])
    with pytest.raises(FencedOutError, match="EUR/USD or one of 1 more symbols"):
        written.append("bars", rows, fences={EURUSD: 1, GBPUSD: 1}, since=since)
    assert len(every(written)) == 3


def test_another_symbol_is_no_obstacle(written: OfflineTables, make_rows: MakeRows) -> None:
    since = written.version("bars")
    written.append("bars", make_rows("bars", GBPUSD, start=JANUARY + HOUR), fences={GBPUSD: 2}, since=since)
    written.append("bars", make_rows("bars", EURUSD, start=JANUARY + HOUR), fences={EURUSD: 1}, since=since)
    assert len(every(written)) == 4


def test_a_refused_run_reads_again_and_may_write(written: OfflineTables, make_rows: MakeRows) -> None:
    """The other run has died after its commit, and the lease is ours: only what we read was too old."""
    since = written.version("bars")
    written.append("bars", make_rows("bars", start=JANUARY + HOUR), fences={EURUSD: 2}, since=since)
    mine = make_rows("bars", start=JANUARY + 2 * HOUR)
    with pytest.raises(FencedOutError):
        written.append("bars", mine, fences={EURUSD: 3}, since=since)
    written.append("bars", mine, fences={EURUSD: 3}, since=written.version("bars"))
    assert len(every(written)) == 4


def test_a_run_that_read_before_there_was_a_table_is_refused_too(tables: OfflineTables, make_rows: MakeRows) -> None:
    since = tables.version("bars")
    assert since is None
    tables.append("bars", make_rows("bars"), fences={EURUSD: 2}, since=None)
    with pytest.raises(FencedOutError):
        tables.append("bars", make_rows("bars", created=JANUARY + 9 * HOUR), fences={EURUSD: 1}, since=since)
    tables.append("bars", make_rows("bars", GBPUSD), fences={GBPUSD: 1}, since=since)
    assert every(tables) == [(EURUSD, 0.003), (GBPUSD, 0.003)]


# --------------------------------------------------------------------------------------------------------- upkeep


def test_upkeep_changes_nothing_that_can_be_read(tables: OfflineTables, make_rows: MakeRows) -> None:
    for hour in range(6):
        rows = make_rows("bars", start=JANUARY + hour * HOUR)
        tables.append("bars", rows, fences={EURUSD: 5}, since=tables.version("bars"))
    tables.append("bars", make_rows("bars", value=7.0, created=JANUARY + timedelta(days=1)))
    since = tables.version("bars")
    before = tables.read("bars"), tables.read("bars", all_revisions=True)
    upkeep = tables.maintain("bars", retention=WEEK)
    assert upkeep.version == tables.version("bars")
    assert (tables.read("bars"), tables.read("bars", all_revisions=True)) == before
    with pytest.raises(FencedOutError):  # the tokens outlive it
        tables.append("bars", make_rows("bars"), fences={EURUSD: 4}, since=since)


def test_upkeep_deletes_old_rows_of_the_quarantine_only(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars"))
    for day in range(3):
        tables.append("quarantine", rejected(JANUARY, f"day {day}", JANUARY + timedelta(days=day)))
    limit = JANUARY + timedelta(days=1)
    assert tables.maintain("bars", retention=WEEK, quarantined_before=limit + WEEK).deleted_rows == 0
    assert tables.maintain("quarantine", retention=WEEK, quarantined_before=limit).deleted_rows == 1
    assert tables.read("quarantine")["rule"].to_pylist() == ["day 1", "day 2"]
    assert tables.read("bars").num_rows == 1


def test_upkeep_of_a_missing_table_does_nothing(tables: OfflineTables) -> None:
    assert tables.maintain("bars", retention=WEEK) == Upkeep()


def test_a_retention_that_deletes_what_is_being_read_is_refused(tables: OfflineTables) -> None:
    with pytest.raises(ValueError, match="retention below"):
        tables.maintain("bars", retention=timedelta(0))
