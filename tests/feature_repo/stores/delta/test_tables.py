"""The Delta tables as they are read: revisions, order, spans, and columns that come and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_repo.catalog import BAR_FIELDS
from feature_repo.stores.delta.schemas import SCHEMAS
from feature_repo.stores.delta.tables import DeltaTables

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = ["symbol", "timeframe", "open_time", "event_timestamp", "created"]
MakeRows = Callable[..., pa.Table]


def opens(rows: pa.Table) -> list[datetime]:
    return list(rows["open_time"].to_pylist())


def closes(rows: pa.Table) -> list[float]:
    return [round(value, 3) for value in rows["close"].to_pylist()]


# --------------------------------------------------------------------------------------------------- revisions


def test_the_newest_revision_is_read_and_the_older_ones_are_kept(tables: DeltaTables, make_rows: MakeRows) -> None:
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


def test_as_known_at_is_what_was_known_then(tables: DeltaTables, make_rows: MakeRows) -> None:
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


def test_symbols_and_timeframes_are_not_revisions_of_each_other(tables: DeltaTables, make_rows: MakeRows) -> None:
    for symbol in ("GBP/USD", "EUR/USD"):
        for timeframe in ("1h", "4h"):
            tables.append("bars", make_rows("bars", symbol, timeframe, n=2))
    rows = tables.read("bars")
    assert rows.num_rows == 8
    assert rows["symbol"].to_pylist() == ["EUR/USD"] * 4 + ["GBP/USD"] * 4
    assert tables.read("bars", timeframe="4h", symbols=["GBP/USD"]).num_rows == 2
    assert tables.read("bars", symbols=[]).num_rows == 0
    assert tables.symbols() == ("EUR/USD", "GBP/USD")


def test_rows_come_ascending_however_they_were_written(tables: DeltaTables, make_rows: MakeRows) -> None:
    whole = make_rows("bars", n=60 * 24)  # from January into March
    for part in (slice(1000, 1440), slice(0, 500), slice(500, 1000)):
        taken = whole.slice(part.start, part.stop - part.start)
        tables.append("bars", taken.take(pa.array(range(taken.num_rows - 1, -1, -1))))
    read = tables.read("bars")
    assert opens(read) == opens(whole)
    assert closes(read) == closes(whole)
    assert tables.read("bars").equals(read)  # and again the same


def test_every_rejected_row_is_read(tables: DeltaTables) -> None:
    def rejected(opened: datetime | None, rule: str) -> dict[str, Any]:
        none = dict.fromkeys(SCHEMAS["quarantine"].names)
        known = {"symbol": "EUR/USD", "timeframe": "1h", "created": JANUARY, "kind": "bars"}
        return none | known | {"open_time": opened, "rule": rule}

    schema = pa.schema([field for field in SCHEMAS["quarantine"] if field.name != "month"])
    rows = [rejected(JANUARY, "high_low"), rejected(JANUARY, "spike"), rejected(None, "time"), rejected(None, "time")]
    tables.append("quarantine", pa.Table.from_pylist(rows, schema))
    read = tables.read("quarantine", columns=["rule"])
    assert read["rule"].to_pylist() == ["high_low", "spike", "time", "time"]
    assert read["open_time"].to_pylist() == [JANUARY, JANUARY, None, None]


# ----------------------------------------------------------------------------------------------- empty, missing


@pytest.mark.parametrize("table", list(SCHEMAS))
def test_a_missing_table_reads_as_empty(tables: DeltaTables, table: Any) -> None:
    rows = tables.read(table, timeframe="1h", start=JANUARY)
    assert rows.num_rows == 0
    assert rows.schema.equals(pa.schema([SCHEMAS[table].field(n) for n in rows.column_names]))
    assert set(rows.column_names) == set(SCHEMAS[table].names) - {"month"}
    assert tables.version(table) is None
    assert tables.symbols() == ()


def test_an_empty_folder_is_a_missing_table(tables: DeltaTables, make_rows: MakeRows) -> None:
    (Path(tables.root) / "bars").mkdir(parents=True)
    assert tables.read("bars").num_rows == 0
    tables.append("bars", make_rows("bars"))
    assert tables.read("bars").num_rows == 1


def test_a_read_without_matches_has_the_schema(tables: DeltaTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars"))
    whole = tables.read("bars").schema
    assert tables.read("bars", timeframe="1d").schema.equals(whole)
    assert tables.read("bars", symbols=["GBP/USD"]).schema.equals(whole)
    assert tables.read("bars", start=JANUARY + timedelta(days=400)).schema.equals(whole)


def test_columns_are_read_as_asked_for(tables: DeltaTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars"))
    assert tables.read("bars", columns=["close", "open", "created"]).column_names == [*KEYS, "close", "open"]
    assert tables.read("bars", columns=[]).column_names == KEYS
    assert tables.read("bars").column_names == [*KEYS, *BAR_FIELDS, "source_bars", "expected_bars"]


# ------------------------------------------------------------------------------------------------------ pruning


def test_start_and_end_are_inclusive(tables: DeltaTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=5))
    assert opens(tables.read("bars", start=JANUARY + HOUR, end=JANUARY + 3 * HOUR)) == [
        JANUARY + k * HOUR for k in (1, 2, 3)
    ]
    assert opens(tables.read("bars", start=JANUARY + HOUR + timedelta(microseconds=1), end=JANUARY + 2 * HOUR)) == [
        JANUARY + 2 * HOUR
    ]


# ------------------------------------------------------------------------------------------------------- growth


def test_a_column_added_later_reads_as_null(
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("bars", make_rows("bars"))
    new = make_rows("bars", start=JANUARY + HOUR)
    grown = SCHEMAS["bars"].append(pa.field("spread", pa.float64()))
    monkeypatch.setitem(SCHEMAS, "bars", grown)
    before = tables.read("bars", columns=["close", "spread"])  # the table has no such column yet
    assert before["spread"].to_pylist() == [None]
    assert before.schema.field("spread").type == pa.float64()
    tables.append("bars", new.append_column("spread", pa.array([0.5])))
    assert tables.read("bars")["spread"].to_pylist() == [None, 0.5]
    assert tables.read("bars")["close"].null_count == 0


def test_a_column_dropped_later_is_no_obstacle(
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("bars", make_rows("bars"))
    new = make_rows("bars", start=JANUARY + HOUR).drop_columns(["volume"])
    kept = SCHEMAS["bars"].remove(SCHEMAS["bars"].get_field_index("volume"))
    monkeypatch.setitem(SCHEMAS, "bars", kept)
    tables.append("bars", new)
    assert tables.read("bars").num_rows == 2
    assert "volume" not in tables.read("bars").column_names
