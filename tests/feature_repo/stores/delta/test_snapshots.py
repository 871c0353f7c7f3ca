"""A reader sees the newest version of the table that is there, and not one that was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from feature_repo.stores.delta.tables import DeltaTables

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MakeRows = Callable[..., pa.Table]


def closes(rows: pa.Table) -> list[float]:
    return [round(value, 3) for value in rows["close"].to_pylist()]


def test_a_reader_sees_the_next_commit_at_once(tables: DeltaTables, make_rows: MakeRows) -> None:
    reader = DeltaTables(tables.root)
    assert reader.read("bars").num_rows == 0
    for n in (1, 2, 3):
        tables.append("bars", make_rows("bars", start=JANUARY + n * HOUR))
        assert reader.version("bars") == n - 1
        assert reader.read("bars").num_rows == n
        assert reader.read("bars", timeframe="1h", start=JANUARY).num_rows == n


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_fault_a_folder_removed_and_filled_again_is_another_table(
    tables: DeltaTables, make_rows: MakeRows, commits: int
) -> None:
    reader = DeltaTables(tables.root)
    for n in (0, 1):
        tables.append("bars", make_rows("bars", start=JANUARY + n * HOUR))
    assert closes(reader.read("bars")) == [0.003, 0.003]
    shutil.rmtree(tables.root)
    assert reader.read("bars").num_rows == 0
    assert reader.version("bars") is None
    for n in range(commits):
        DeltaTables(tables.root).append("bars", make_rows("bars", start=JANUARY + n * HOUR, value=7.0))
    assert closes(reader.read("bars")) == [7.003] * commits


def test_fault_a_table_replaced_between_two_reads(tables: DeltaTables, make_rows: MakeRows) -> None:
    reader = DeltaTables(tables.root)
    tables.append("bars", make_rows("bars"))
    assert closes(reader.read("bars")) == [0.003]
    shutil.rmtree(tables.root)
    DeltaTables(tables.root).append("bars", make_rows("bars", value=7.0))  # as many commits as before
    assert closes(reader.read("bars")) == [7.003]
