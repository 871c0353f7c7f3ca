"""Which files are opened: of the months that were asked for, in UTC, and no others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from feature_repo.stores.tables import OfflineTables

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MakeRows = Callable[..., pa.Table]


def opens(rows: pa.Table) -> list[datetime]:
    return list(rows["open_time"].to_pylist())


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
