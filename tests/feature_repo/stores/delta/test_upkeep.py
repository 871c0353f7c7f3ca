"""Upkeep: fewer files, the same rows, the same tokens; writers and readers go on meanwhile."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.delta.upkeep import checkpoint, compact, forget_quarantined, store_unknown_as_null, vacuum
from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.schemas import SCHEMAS, TableName

START = datetime(2024, 1, 1, tzinfo=UTC)
SYMBOLS = ["EUR/USD", "AUD/USD", "GBP/USD"]
Append = Callable[..., None]


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(str(tmp_path / "offline"))


def rows(hour: int, *, value: float = 1.0, created: datetime = START, symbols: list[str] = SYMBOLS) -> pa.Table:
    """One bar of each symbol."""
    opened = START + timedelta(hours=hour)
    columns: dict[str, list[Any]] = {
        "symbol": symbols,
        "timeframe": ["1h"] * len(symbols),
        "open_time": [opened] * len(symbols),
        "event_timestamp": [opened + timedelta(hours=1)] * len(symbols),
        "created": [created + timedelta(hours=hour)] * len(symbols),
        **{name: [value + hour] * len(symbols) for name in ("open", "high", "low", "close", "volume")},
        "source_bars": [None] * len(symbols),
        "expected_bars": [None] * len(symbols),
        "source": [None] * len(symbols),
        "withdrawn": [None] * len(symbols),
    }
    schema = SCHEMAS["bars"]
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in schema if f.name != "month"})


def fill(tables: DeltaTables, hours: range = range(12)) -> None:
    for hour in hours:
        tables.append("bars", rows(hour), fences={"EUR/USD": 1000 + hour}, since=tables.version("bars"))


def handle(tables: DeltaTables, name: TableName = "bars") -> DeltaTable:
    table = tables.delta(name)
    assert table
    return table


def files(tables: DeltaTables) -> list[Path]:
    return [Path(path.removeprefix("file://")) for path in handle(tables).file_uris()]


def test_the_same_rows_in_one_file_ordered_by_symbol(tables: DeltaTables) -> None:
    fill(tables)
    tables.append("bars", rows(3, value=5.0, created=START + timedelta(days=1)))  # a correction
    before = tables.read("bars"), tables.read("bars", all_revisions=True)
    assert len(files(tables)) == 13
    done = compact(handle(tables))
    assert (done.partitions, done.removed, done.added) == (1, 13, 1)
    assert (tables.read("bars"), tables.read("bars", all_revisions=True)) == before
    (file,) = files(tables)
    names = pq.read_table(file, columns=["symbol"])["symbol"].to_pylist()
    assert names == sorted(names)


def test_what_is_compact_is_left_alone(tables: DeltaTables) -> None:
    fill(tables)
    compact(handle(tables))
    version = tables.version("bars")
    assert compact(handle(tables)).partitions == 0
    assert tables.version("bars") == version


def test_what_was_known_when_stays(tables: DeltaTables) -> None:
    fill(tables)
    tables.append("bars", rows(3, value=5.0, created=START + timedelta(days=1)))
    moment = START + timedelta(hours=20)
    before = tables.read("bars", as_known_at=moment)
    compact(handle(tables))
    assert tables.read("bars", as_known_at=moment) == before != tables.read("bars")


def test_fencing_tokens_outlive_compaction_vacuum_and_checkpoint(tables: DeltaTables) -> None:
    fill(tables)
    since = tables.version("bars")
    compact(handle(tables))
    vacuum(handle(tables), timedelta(hours=1))
    assert checkpoint(handle(tables)) == tables.version("bars")
    assert handle(tables).transaction_version("EUR/USD") == 1011
    tables.append("bars", rows(12), fences={"EUR/USD": 1012}, since=since)  # a run that read before it all
    with pytest.raises(FencedOutError):
        tables.append("bars", rows(13), fences={"EUR/USD": 900}, since=since)


def test_rows_that_are_appended_meanwhile_stay(tables: DeltaTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """One writer appends as fast as it can while another compacts again and again."""
    fill(tables, range(6))
    ended = threading.Event()

    def write() -> None:
        other = DeltaTables(tables.root)
        try:
            for hour in range(6, 30):
                other.append("bars", rows(hour), fences={"EUR/USD": 1000 + hour}, since=other.version("bars"))
        finally:
            ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    rounds = 0
    while not ended.is_set():
        rounds += compact(handle(tables)).partitions
    writer.join()
    assert rounds
    assert tables.read("bars", all_revisions=True).num_rows == 30 * len(SYMBOLS)
    assert sorted(set(tables.read("bars")["close"].to_pylist())) == [1.0 + hour for hour in range(30)]


def old_rows(hours: range) -> pa.Table:
    """Bars without a volume as version 0.1 stored them: its unknown is NaN."""
    whole = pa.concat_tables([rows(hour) for hour in hours])
    unknown = pa.array([math.nan] * whole.num_rows)
    month = pa.array(["2024-01"] * whole.num_rows)
    return whole.set_column(whole.column_names.index("volume"), "volume", unknown).append_column("month", month)


def test_what_version_0_1_stored_as_nan_becomes_null(tables: DeltaTables) -> None:
    write_deltalake(f"{tables.root}/bars", old_rows(range(6)), partition_by=["timeframe", "month"])
    fill(tables, range(6, 8))
    since, before = tables.version("bars"), tables.read("bars", all_revisions=True)
    assert handle(tables).to_pyarrow_table()["volume"].null_count == 0
    assert tables.maintain("bars", retention=timedelta(days=7)).rewritten_rows == 6 * len(SYMBOLS)
    assert handle(tables).to_pyarrow_table()["volume"].null_count == 6 * len(SYMBOLS)
    after = tables.read("bars", all_revisions=True)
    assert str(after.to_pydict()) == str(before.to_pydict())  # NaN as before, read through the platform
    tables.append("bars", rows(9), fences={"EUR/USD": 2000}, since=since)  # a run that read before it
    version = tables.version("bars")
    assert store_unknown_as_null(handle(tables)) == 0
    assert tables.version("bars") == version


def test_rows_that_come_in_while_nan_becomes_null_leave_it_for_the_next_time(
    tables: DeltaTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_deltalake(f"{tables.root}/bars", old_rows(range(2)), partition_by=["timeframe", "month"])
    stale = handle(tables)
    monkeypatch.setattr(stale, "update_incremental", lambda: None)
    fill(tables, range(2, 3))
    assert store_unknown_as_null(stale) == 0
    assert store_unknown_as_null(handle(tables)) == 2 * len(SYMBOLS)
    assert tables.read("bars").num_rows == 3 * len(SYMBOLS)


def test_a_reader_goes_on_with_the_files_it_has_open(tables: DeltaTables) -> None:
    fill(tables)
    dataset = handle(tables).to_pyarrow_dataset()
    compact(handle(tables))
    assert vacuum(handle(tables), timedelta(days=7)) == 0
    assert dataset.to_table().num_rows == 12 * len(SYMBOLS)


def test_files_that_were_replaced_just_now_are_kept(tables: DeltaTables) -> None:
    fill(tables)
    compact(handle(tables))
    with pytest.raises(ValueError, match="retention below"):
        vacuum(handle(tables), timedelta(0))
    assert vacuum(handle(tables), timedelta(hours=1)) == 0


def test_old_quarantined_rows_go_and_the_others_stay(tables: DeltaTables) -> None:
    schema = SCHEMAS["quarantine"]
    for hour in (0, 24, 48):
        moment = START + timedelta(hours=hour)
        row = {"symbol": "EUR/USD", "timeframe": "1h", "open_time": moment, "event_timestamp": moment,
               "created": moment, "kind": "bars", "rule": "r", "rules": "r", "detail": "", "row": "{}",
               "file": "f", "line": hour}  # fmt: skip
        tables.append(
            "quarantine", pa.table({f.name: pa.array([row[f.name]], f.type) for f in schema if f.name != "month"})
        )
    assert forget_quarantined(handle(tables, "quarantine"), START + timedelta(hours=24)) == 1
    assert tables.read("quarantine")["line"].to_pylist() == [24, 48]
    assert forget_quarantined(handle(tables, "quarantine"), START) == 0
