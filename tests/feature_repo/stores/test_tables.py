"""The Delta tables: revisions, pruning, growth, and writers at the same time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyarrow import parquet

from feature_repo.catalog import BAR_FIELDS
from feature_repo.stores import tables as module
from feature_repo.stores.tables import SCHEMAS, OfflineTables

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = ["symbol", "timeframe", "open_time", "event_timestamp", "created"]
MakeRows = Callable[..., pa.Table]


def opens(rows: pa.Table) -> list[datetime]:
    return list(rows["open_time"].to_pylist())


def closes(rows: pa.Table) -> list[float]:
    return [round(value, 3) for value in rows["close"].to_pylist()]


# --------------------------------------------------------------------------------------------------- revisions


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
        taken = whole.slice(part.start, part.stop - part.start)
        tables.append("bars", taken.take(pa.array(range(taken.num_rows - 1, -1, -1))))
    read = tables.read("bars")
    assert opens(read) == opens(whole)
    assert closes(read) == closes(whole)
    assert tables.read("bars").equals(read)  # and again the same


def test_every_rejected_row_is_read(tables: OfflineTables) -> None:
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
def test_a_missing_table_reads_as_empty(tables: OfflineTables, table: Any) -> None:
    rows = tables.read(table, timeframe="1h", start=JANUARY)
    assert rows.num_rows == 0
    assert rows.schema.equals(pa.schema([SCHEMAS[table].field(n) for n in rows.column_names]))
    assert set(rows.column_names) == set(SCHEMAS[table].names) - {"month"}
    assert tables.version(table) is None
    assert tables.symbols() == ()


def test_an_empty_folder_is_a_missing_table(tables: OfflineTables, make_rows: MakeRows) -> None:
    (Path(tables.root) / "bars").mkdir(parents=True)
    assert tables.read("bars").num_rows == 0
    tables.append("bars", make_rows("bars"))
    assert tables.read("bars").num_rows == 1


def test_no_rows_make_no_commit(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=0))
    assert tables.version("bars") is None
    tables.append("bars", make_rows("bars", n=1))
    tables.append("bars", make_rows("bars", n=0))
    assert tables.version("bars") == 0


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
    assert tables.read("bars").column_names == [*KEYS, *BAR_FIELDS, "source_bars", "expected_bars"]


# ------------------------------------------------------------------------------------------------------ pruning


def test_start_and_end_are_inclusive(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=5))
    assert opens(tables.read("bars", start=JANUARY + HOUR, end=JANUARY + 3 * HOUR)) == [
        JANUARY + k * HOUR for k in (1, 2, 3)
    ]
    assert opens(tables.read("bars", start=JANUARY + HOUR + timedelta(microseconds=1), end=JANUARY + 2 * HOUR)) == [
        JANUARY + 2 * HOUR
    ]


@pytest.mark.parametrize("hours", [-12, -5, 0, 5.5, 14])
def test_months_are_of_utc_whatever_the_zone_asked_in(tables: OfflineTables, make_rows: MakeRows, hours: float) -> None:
    february = datetime(2024, 2, 1, tzinfo=UTC)
    tables.append("bars", make_rows("bars", start=february - 20 * HOUR, n=40))
    zone = timezone(timedelta(hours=hours))
    start, end = ((february + k * HOUR).astimezone(zone) for k in (-3, 3))
    assert opens(tables.read("bars", timeframe="1h", start=start, end=end)) == [
        february + k * HOUR for k in range(-3, 4)
    ]
    assert len(opens(tables.read("bars", start=start))) == 23
    assert len(opens(tables.read("bars", end=end))) == 24


def test_files_of_other_months_are_not_opened(
    tables: OfflineTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, files = DeltaTable.to_pyarrow_dataset, []

    def spy(self: DeltaTable, **options: Any) -> Any:
        dataset = look(self, **options)
        files.append(len(list(dataset.get_fragments())))
        return dataset

    for month in range(1, 7):
        tables.append("bars", make_rows("bars", start=datetime(2024, month, 3, tzinfo=UTC)))
    for file in Path(tables.root, "bars").rglob("month=*/*.parquet"):
        if "month=2024-03" not in str(file):
            file.write_bytes(b"not to be read")
    monkeypatch.setattr(DeltaTable, "to_pyarrow_dataset", spy)
    march = datetime(2024, 3, 1, tzinfo=UTC)
    assert tables.read("bars", timeframe="1h", start=march, end=march + timedelta(days=30)).num_rows == 1
    assert tables.read("bars", start=march, end=march + timedelta(days=30)).num_rows == 1
    assert tables.read("bars", timeframe="4h", start=march).num_rows == 0
    assert files == [1, 1]  # of the months asked for; of none, none is looked at
    with pytest.raises((OSError, pa.ArrowInvalid)):
        tables.read("bars")


# ------------------------------------------------------------------------------------------------------- growth


def test_a_column_added_later_reads_as_null(
    tables: OfflineTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("bars", make_rows("bars"))
    grown = {**SCHEMAS, "bars": SCHEMAS["bars"].append(pa.field("spread", pa.float64()))}
    monkeypatch.setattr(module, "SCHEMAS", grown)
    before = tables.read("bars", columns=["close", "spread"])  # the table has no such column yet
    assert before["spread"].to_pylist() == [None]
    assert before.schema.field("spread").type == pa.float64()
    new = make_rows("bars", start=JANUARY + HOUR)
    tables.append("bars", new.append_column("spread", pa.array([0.5])))
    assert tables.read("bars")["spread"].to_pylist() == [None, 0.5]
    assert tables.read("bars")["close"].null_count == 0


def test_a_column_dropped_later_is_no_obstacle(
    tables: OfflineTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("bars", make_rows("bars"))
    kept = SCHEMAS["bars"].remove(SCHEMAS["bars"].get_field_index("volume"))
    monkeypatch.setattr(module, "SCHEMAS", {**SCHEMAS, "bars": kept})
    tables.append("bars", make_rows("bars", start=JANUARY + HOUR).drop_columns(["volume"]))
    assert tables.read("bars").num_rows == 2
    assert "volume" not in tables.read("bars").column_names


def test_nanoseconds_that_would_be_lost_are_refused(tables: OfflineTables, make_rows: MakeRows) -> None:
    rows = make_rows("bars")
    odd = pa.array([1_704_067_200_000_000_001], pa.timestamp("ns", tz="UTC"))
    rows = rows.set_column(rows.schema.get_field_index("open_time"), "open_time", odd)
    with pytest.raises(pa.ArrowInvalid, match="lose data"):
        tables.append("bars", rows)
    assert tables.version("bars") is None


def test_a_reader_sees_the_next_commit_at_once(tables: OfflineTables, make_rows: MakeRows) -> None:
    reader = OfflineTables(tables.root)
    assert reader.read("bars").num_rows == 0
    for n in (1, 2, 3):
        tables.append("bars", make_rows("bars", start=JANUARY + n * HOUR))
        assert reader.version("bars") == n - 1
        assert reader.read("bars").num_rows == n
        assert reader.read("bars", timeframe="1h", start=JANUARY).num_rows == n


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_fault_a_folder_removed_and_filled_again_is_another_table(
    tables: OfflineTables, make_rows: MakeRows, commits: int
) -> None:
    reader = OfflineTables(tables.root)
    for n in (0, 1):
        tables.append("bars", make_rows("bars", start=JANUARY + n * HOUR))
    assert closes(reader.read("bars")) == [0.003, 0.003]
    shutil.rmtree(tables.root)
    assert reader.read("bars").num_rows == 0
    assert reader.version("bars") is None
    for n in range(commits):
        OfflineTables(tables.root).append("bars", make_rows("bars", start=JANUARY + n * HOUR, value=7.0))
    assert closes(reader.read("bars")) == [7.003] * commits


def test_fault_a_table_replaced_between_two_reads(tables: OfflineTables, make_rows: MakeRows) -> None:
    reader = OfflineTables(tables.root)
    tables.append("bars", make_rows("bars"))
    assert closes(reader.read("bars")) == [0.003]
    shutil.rmtree(tables.root)
    OfflineTables(tables.root).append("bars", make_rows("bars", value=7.0))  # as many commits as before
    assert closes(reader.read("bars")) == [7.003]


def test_a_run_is_one_commit(tables: OfflineTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=24 * 90))  # three months, so three files
    assert tables.version("bars") == 0
    assert len(DeltaTable(f"{tables.root}/bars").file_uris()) == 3


# -------------------------------------------------------------------------------------------- writers at a time

COMMITS = 8
WRITER = """
import sys
from pyarrow import parquet
from feature_repo.stores.tables import OfflineTables
rows = parquet.read_table(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(0, rows.num_rows, 5):
    OfflineTables(sys.argv[1]).append("bars", rows.slice(i, 5))
"""


def test_two_processes_appending_at_once_lose_nothing(
    tables: OfflineTables, make_rows: MakeRows, tmp_path: Path
) -> None:
    written = {name: make_rows("bars", name, n=5 * COMMITS) for name in ("EUR/USD", "GBP/USD")}
    writers = []
    for i, rows in enumerate(written.values()):
        parquet.write_table(rows, tmp_path / f"{i}.parquet")
        command = [sys.executable, "-c", WRITER, tables.root, str(tmp_path / f"{i}.parquet")]
        writers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    for name, rows in written.items():
        assert tables.read("bars", symbols=[name]).select(rows.column_names).to_pylist() == rows.to_pylist()
    assert tables.version("bars") == 2 * COMMITS - 1


def test_fault_a_writer_that_lost_the_race_to_create_the_table_writes_again(
    tables: OfflineTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = module.write_deltalake, iter([CommitFailedError("Metadata changed since last commit.")] * 2)

    def fail_first(*args: Any, **options: Any) -> None:
        for failure in failures:
            raise failure
        real(*args, **options)

    monkeypatch.setattr(module, "write_deltalake", fail_first)
    tables.append("bars", make_rows("bars", n=3))
    assert tables.read("bars").num_rows == 3


def test_fault_a_commit_that_never_succeeds_is_told(
    tables: OfflineTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise CommitFailedError("Metadata changed since last commit.")

    monkeypatch.setattr(module, "write_deltalake", fail)
    with pytest.raises(CommitFailedError):
        tables.append("bars", make_rows("bars"))
