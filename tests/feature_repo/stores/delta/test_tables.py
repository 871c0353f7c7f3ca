"""The Delta tables as they are read: revisions, order, spans, and columns that come and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.schemas import SCHEMAS

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEYS = ["symbol", "timeframe", "open_time", "event_timestamp", "created"]
MakeRows = Callable[..., pa.Table]


def opens(rows: pa.Table) -> list[datetime]:
    return list(rows["open_time"].to_pylist())


def closes(rows: pa.Table) -> list[float]:
    return [round(value, 3) for value in rows["close"].to_pylist()]


# --------------------------------------------------------------------------------------------------- revisions


# ----------------------------------------------------------------------------------------------- empty, missing


def test_an_empty_folder_is_a_missing_table(tables: DeltaTables, make_rows: MakeRows) -> None:
    (Path(tables.root) / "bars").mkdir(parents=True)
    assert tables.read("bars").num_rows == 0
    tables.append("bars", make_rows("bars"))
    assert tables.read("bars").num_rows == 1


# ------------------------------------------------------------------------------------------------------ pruning


# ------------------------------------------------------------------------------------------------------- growth


def test_a_column_added_later_is_unknown_before_that(
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("bars", make_rows("bars"))
    new = make_rows("bars", start=JANUARY + HOUR)
    grown = SCHEMAS["bars"].append(pa.field("spread", pa.float64()))
    monkeypatch.setitem(SCHEMAS, "bars", grown)
    before = tables.read("bars", columns=["close", "spread"])  # the table has no such column yet
    assert np.isnan(before["spread"].to_numpy()).tolist() == [True]
    assert before.schema.field("spread").type == pa.float64()
    tables.append("bars", new.append_column("spread", pa.array([0.5])))
    assert tables.read("bars")["spread"].to_numpy().tolist() == pytest.approx([np.nan, 0.5], nan_ok=True)
    assert tables.read("bars")["close"].null_count == 0


def test_a_column_dropped_later_is_no_obstacle(
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("bars", make_rows("bars"))
    new = make_rows("bars", start=JANUARY + HOUR).drop_columns(["volume"])
    schema = SCHEMAS["bars"].remove(SCHEMAS["bars"].get_field_index("volume"))
    monkeypatch.setitem(SCHEMAS, "bars", schema)
    tables.append("bars", new)
    assert tables.read("bars").num_rows == 2
    assert "volume" not in tables.read("bars").column_names
