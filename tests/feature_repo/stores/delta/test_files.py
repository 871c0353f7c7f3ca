"""Which files are opened: of the months that were asked for, in UTC, and no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import TableFeatures

from feature_repo.stores.delta.files import File, Files
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.schemas import TIME, TableName
from feature_repo.stores.tables import OfflineTablesError

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MakeRows = Callable[..., pa.Table]


def opens(rows: pa.Table) -> list[datetime]:
    return list(rows["open_time"].to_pylist())


@pytest.mark.parametrize("hours", [-12, -5, 0, 5.5, 14])
def test_months_are_of_utc_whatever_the_zone_asked_in(tables: DeltaTables, make_rows: MakeRows, hours: float) -> None:
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
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, files = Files.dataset, []

    def spy(self: Files, name: TableName, chosen: Sequence[File]) -> Any:
        files.append(len(chosen))
        return make(self, name, chosen)

    for month in range(1, 7):
        tables.append("bars", make_rows("bars", start=datetime(2024, month, 3, tzinfo=UTC)))
    for file in Path(tables.root, "bars").rglob("month=*/*.parquet"):
        if "month=2024-03" not in str(file):
            file.write_bytes(b"not to be read")
    monkeypatch.setattr(Files, "dataset", spy)
    march = datetime(2024, 3, 1, tzinfo=UTC)
    assert tables.read("bars", timeframe="1h", start=march, end=march + timedelta(days=30)).num_rows == 1
    assert tables.read("bars", start=march, end=march + timedelta(days=30)).num_rows == 1
    assert tables.read("bars", timeframe="4h", start=march).num_rows == 0
    assert files == [1, 1]  # of the months asked for; of none, none is looked at
    with pytest.raises((OSError, pa.ArrowInvalid)):
        tables.read("bars")


def test_the_rows_are_those_that_delta_rs_reads(tables: DeltaTables, make_rows: MakeRows) -> None:
    for symbol in ("AUD/USD", "EUR/USD", "a 'quoted' \N{EURO SIGN}"):
        tables.append("bars", make_rows("bars", symbol=symbol, n=800))
    tables.append("bars", pa.concat_tables(make_rows("bars", symbol=s, n=3) for s in ("B", "A")))
    delta = tables.delta("bars")
    assert delta
    keys = [(name, "ascending") for name in ("symbol", "timeframe", "open_time", "created")]
    expected = delta.to_pyarrow_dataset().to_table().sort_by(keys)
    assert tables.read("bars", all_revisions=True).equals(expected.select(tables.read("bars").column_names))
    assert tables.symbols() == ("A", "AUD/USD", "B", "EUR/USD", "a 'quoted' \N{EURO SIGN}")


@pytest.mark.parametrize("micros", [0, 1, 999, 1000])
def test_a_moment_finer_than_the_log_tells_is_found(tables: DeltaTables, make_rows: MakeRows, micros: int) -> None:
    written = JANUARY + timedelta(days=90, microseconds=micros)
    rows = make_rows("bars", n=2)
    tables.append(
        "bars", rows.set_column(rows.schema.get_field_index("created"), "created", pa.array([written] * 2, TIME))
    )
    just_before = written - timedelta(microseconds=1)
    assert tables.read("bars", written_after=just_before).num_rows == 2
    assert tables.read("bars", written_after=written).num_rows == 0
    assert tables.read("bars", as_known_at=written).num_rows == 2
    assert tables.read("bars", as_known_at=just_before).num_rows == 0


def test_rows_without_a_time_are_no_bars_of_a_span(tables: DeltaTables, make_rows: MakeRows) -> None:
    rows = make_rows("bars", n=3).select(["symbol", "timeframe", "open_time", "event_timestamp", "created"])
    for name in ("kind", "rule", "rules", "detail", "row", "file"):
        rows = rows.append_column(name, pa.array(["bars"] * 3))
    rows = rows.append_column("line", pa.array([1, 2, 3]))
    timeless = rows.set_column(rows.schema.get_field_index("open_time"), "open_time", pa.nulls(3, TIME))
    tables.append("quarantine", pa.concat_tables([rows, timeless]))
    assert tables.read("quarantine").num_rows == 6
    assert tables.read("quarantine", start=JANUARY - timedelta(days=9999)).num_rows == 3
    assert tables.read("quarantine", end=JANUARY + timedelta(days=9999)).num_rows == 3


def test_rows_that_another_tool_deleted_without_their_files_are_not_shown(
    tables: DeltaTables, make_rows: MakeRows
) -> None:
    tables.append("bars", make_rows("bars"))
    delta = tables.delta("bars")
    assert delta
    delta.alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    with pytest.raises(OfflineTablesError, match="uses deletionVectors"):
        tables.read("bars")
