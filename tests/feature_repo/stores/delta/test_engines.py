"""The same question by every engine that reads Delta Lake has the same answer: unknown is null, and no large number."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, QueryBuilder

from feature_repo.catalog import INDICATOR_FIELDS
from feature_repo.stores.delta.tables import DeltaTables

Answer = tuple[int, float, int]
_SQL = """
select count(*) filter (where rsi_14 > 70), avg(rsi_14), count(*) filter (where rsi_14 is null) from indicators
"""


def by_duckdb(table: DeltaTable) -> Answer:
    with duckdb.connect() as connection:
        connection.register("indicators", table.to_pyarrow_dataset())
        count, mean, unknown = connection.sql(_SQL).fetchall()[0]
    return count, mean, unknown


def by_deltalake(table: DeltaTable) -> Answer:
    rows = pa.table(QueryBuilder().register("indicators", table).execute(_SQL).read_all())
    count, mean, unknown = (column[0].as_py() for column in rows.columns)
    return count, mean, unknown


def by_pandas(table: DeltaTable) -> Answer:
    rsi = table.to_pandas()["rsi_14"]
    return int((rsi > 70).sum()), float(rsi.mean()), int(rsi.isna().sum())


def by_pyarrow(table: DeltaTable) -> Answer:
    dataset = table.to_pyarrow_dataset()
    rsi = dataset.to_table(columns=["rsi_14"])["rsi_14"]
    above, unknown = pc.field("rsi_14") > 70, pc.field("rsi_14").is_null()
    return dataset.count_rows(filter=above), pc.mean(rsi).as_py(), dataset.count_rows(filter=unknown)


def by_polars(table: DeltaTable) -> Answer:
    if importlib.util.find_spec("polars") is None:
        pytest.skip("polars is not installed")
    import polars as pl

    rsi = pl.scan_delta(table).collect()["rsi_14"]
    return int((rsi > 70).sum()), float(rsi.mean()), rsi.null_count()


@pytest.mark.parametrize("ask", [by_duckdb, by_deltalake, by_pandas, by_pyarrow, by_polars])
def test_every_engine_gives_the_same_answer(
    ask: Callable[[DeltaTable], Answer], tmp_path: Path, make_rows: Callable[..., pa.Table]
) -> None:
    tables = DeltaTables(str(tmp_path / "offline"))
    rsi = np.linspace(0.0, 100.0, 40)
    rsi[:14] = np.nan  # its warm-up
    rows = make_rows("indicators", n=40)
    for name in INDICATOR_FIELDS:
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(rsi))
    tables.append("indicators", rows)
    table = tables.delta("indicators")
    assert table
    count, mean, unknown = ask(table)
    assert (count, round(mean, 9), unknown) == (12, round(float(np.nanmean(rsi)), 9), 14)
