"""Bars in a database. The database is SQLite's; what only a server does is tested on the statements it is sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceBars, SourceError, SourceOptions, read_bars
from flows.sources import sql as module

Read = Callable[..., SourceBars]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "prices.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table bars (symbol text, time text, o real, h real, l real, c real, volume integer)")
        rows = [("EUR/USD", f"2024-01-08 0{h}:00:00", 1.1, 1.2, 1.05, 1.15, h) for h in range(6)]
        rows += [("GBP/USD", "2024-01-08 00:00:00", 1.3, 1.4, 1.25, 1.35, 9)]
        connection.executemany("insert into bars values (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("create view euro as select * from bars where symbol = 'EUR/USD'")
        connection.execute("create table none (time text, o real, h real, l real, c real)")
        connection.execute("create table 'odd \"name' (time text, o real, h real, l real, c real)")
        connection.execute("insert into 'odd \"name' values ('2024-01-08', 1, 1, 1, 1)")
    connection.close()
    return path


@pytest.fixture
def read(database: Path) -> Read:
    def read(url: str = "", **options: Any) -> SourceBars:
        source_options = SourceOptions(**options)
        address = url or f"sqlite:///{database}"
        return read_bars(address, symbol=symbol("EUR/USD"), timeframe=timeframe("1h"), options=source_options)

    return read


def test_a_table_or_view_is_read_whole(read: Read) -> None:
    source = read(table="euro")
    assert source.frame["volume"].tolist() == [0, 1, 2, 3, 4, 5]
    assert source.frame["file"].unique().tolist() == ["sql:euro"]
    assert source.frame["line"].tolist() == [1, 2, 3, 4, 5, 6]
    assert source.notes.detected["format"] == "sql"
    assert source.notes.detected["time_zone"] == "UTC (assumed)"
    assert source.written_at is None


def test_times_are_read_as_those_of_a_file(read: Read) -> None:
    hours = read(table="euro", tz="Europe/Athens", stamp="close").frame["open_time"].dt.hour
    assert hours.tolist() == [21, 22, 23, 0, 1, 2]


def test_a_query_is_given_what_it_names(read: Read) -> None:
    query = "select * from bars where symbol = :symbol and time >= :start and time < :end"
    berlin = timezone(timedelta(hours=1))
    start, end = datetime(2024, 1, 8, 2, tzinfo=berlin), datetime(2024, 1, 8, 3, tzinfo=UTC)
    assert read(query=query, start=start, end=end).frame["volume"].tolist() == [1, 2]
    assert len(read(query="select * from bars where symbol = :symbol").frame) == 6


def test_what_is_bound_is_never_sql(read: Read, database: Path) -> None:
    """Fault: a name that would end the string and drop the table."""
    evil = replace(symbol("EUR/USD"), name="x'; drop table bars; --")
    options = SourceOptions(query="select * from bars where symbol = :symbol")
    with pytest.raises(SourceError, match="no rows"):
        module.read_sql(f"sqlite:///{database}", symbol=evil, timeframe=timeframe("1h"), options=options)
    assert len(read(table="euro").frame) == 6


def test_a_name_that_needs_quotes(read: Read) -> None:
    assert len(read(table='odd "name').frame) == 1


def test_many_rows_come_in_chunks(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_ROWS", 4)
    assert read(table="euro").frame["volume"].tolist() == [0, 1, 2, 3, 4, 5]


def test_the_digest_is_of_what_was_read(read: Read, database: Path) -> None:
    digest = read(table="euro").digest
    assert digest == read(table="euro").digest
    with sqlite3.connect(database) as connection:
        connection.execute("update bars set c = 1.16 where volume = 3")
    connection.close()
    assert digest != read(table="euro").digest


@pytest.mark.parametrize("query", ["delete from bars", "drop table bars", "create table x (y integer)"])
def test_nothing_is_written(read: Read, query: str) -> None:
    with pytest.raises(SourceError, match="readonly database"):
        read(query=query)
    assert len(read(table="euro").frame) == 6


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "Use --table NAME or --query SQL"),
        ({"table": "bar"}, "no such table or view. There are 'bars'"),
        ({"table": "none"}, "sql:none: no rows"),
        ({"table": "euro", "start": datetime(2024, 1, 1, tzinfo=UTC)}, "a table takes no --start"),
        ({"query": "select * from euro where time > :start"}, "the query wants :start"),
        ({"query": "select * from euro where time > :since"}, "the query wants :since"),
        ({"query": "select * from euro", "start": datetime(2024, 1, 1, tzinfo=UTC)}, "no :start in the query"),
        ({"query": "select x from euro"}, "the database says: no such column: x"),
        ({"query": "select time, o, h, l from euro"}, "no column for close"),
        ({"query": "select 1", "table": "euro"}, "both a query and a table"),
        ({"table": "euro", "delimiter": ","}, "a database takes no --delimiter"),
        ({"table": "euro", "format": "csv"}, "a database has no format csv"),
    ],
)
def test_what_cannot_be(read: Read, options: dict[str, Any], why: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(**options)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://trader:hunter2@127.0.0.1:9/prices?application_name=hunter2&connect_timeout=2",
        "nosuch://trader:hunter2@host/prices",
        "mysql+nosuch://trader:hunter2@host/prices",
        "oracle://trader:hunter2@host/prices",
        "sqlite:////no/such/hunter2.db",
        "postgresql://trader:hunter2@host:port/prices",
    ],
)
def test_nothing_of_the_address_is_shown(read: Read, url: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(url, table="bars")
    error: BaseException | None = caught.value
    while error is not None:  # nor by what a traceback prints
        assert "hunter2" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_the_types_of_servers() -> None:
    """Exact numbers become the nearest float, times with an offset UTC ones; chunks that differ are joined."""
    exact = module._array([Decimal("1.03428"), None])
    assert exact.to_pylist() == [1.03428, None]
    zoned = module._array([datetime(2024, 1, 8, 1, tzinfo=timezone(timedelta(hours=1)))])
    assert zoned.type.tz == "UTC"
    assert zoned.cast(pa.int64()).to_pylist() == [1704672000000000]
    assert module._joined([pa.array([None]), pa.array([1]), pa.array([1.5])]).to_pylist() == [None, 1.0, 1.5]
    assert module._joined([pa.array([1]), pa.array(["x"])]).to_pylist() == ["1", "x"]
    assert module._array([1, "x"]).to_pylist() == ["1", "x"]


def test_a_server_is_asked_to_refuse_writing() -> None:
    """Each dialect that can: read-only before anything else, and times without an offset in UTC."""
    for backend in ("postgresql", "mysql", "mariadb"):
        first, second = module._READ_ONLY[backend]
        assert "READ ONLY" in first
        assert "time" in second.lower()
    assert sa.make_url("postgresql+psycopg://host/name").get_backend_name() in module._READ_ONLY
