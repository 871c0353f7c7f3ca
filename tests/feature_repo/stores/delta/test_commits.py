"""What is appended is one commit, whoever else appends at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from pyarrow import parquet

from feature_repo.stores.delta import commits
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.tables import OfflineTablesError

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MakeRows = Callable[..., pa.Table]


def test_no_rows_make_no_commit(tables: DeltaTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=0))
    assert tables.version("bars") is None
    tables.append("bars", make_rows("bars", n=1))
    tables.append("bars", make_rows("bars", n=0))
    assert tables.version("bars") == 0


def test_a_run_is_one_commit(tables: DeltaTables, make_rows: MakeRows) -> None:
    tables.append("bars", make_rows("bars", n=24 * 90))  # three months, so three files
    assert tables.version("bars") == 0
    assert len(DeltaTable(f"{tables.root}/bars").file_uris()) == 3


def test_nanoseconds_that_would_be_lost_are_refused(tables: DeltaTables, make_rows: MakeRows) -> None:
    rows = make_rows("bars")
    odd = pa.array([1_704_067_200_000_000_001], pa.timestamp("ns", tz="UTC"))
    rows = rows.set_column(rows.schema.get_field_index("open_time"), "open_time", odd)
    with pytest.raises(pa.ArrowInvalid, match="lose data"):
        tables.append("bars", rows)
    assert tables.version("bars") is None


COMMITS = 8
WRITER = """
import sys
from pyarrow import parquet
from feature_repo.stores.delta.tables import DeltaTables
rows = parquet.read_table(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(0, rows.num_rows, 5):
    DeltaTables(sys.argv[1]).append("bars", rows.slice(i, 5))
"""


def test_two_processes_appending_at_once_lose_nothing(tables: DeltaTables, make_rows: MakeRows, tmp_path: Path) -> None:
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
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = commits.write_deltalake, iter([CommitFailedError("Metadata changed since last commit.")] * 2)

    def fail_first(*args: Any, **options: Any) -> None:
        for failure in failures:
            raise failure
        real(*args, **options)

    monkeypatch.setattr(commits, "write_deltalake", fail_first)
    tables.append("bars", make_rows("bars", n=3))
    assert tables.read("bars").num_rows == 3


def test_fault_a_commit_that_never_succeeds_is_told(
    tables: DeltaTables, make_rows: MakeRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise CommitFailedError("Metadata changed since last commit.")

    monkeypatch.setattr(commits, "write_deltalake", fail)
    with pytest.raises(OfflineTablesError, match="changed since last commit"):
        tables.append("bars", make_rows("bars"))
