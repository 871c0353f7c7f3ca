"""Bars on a PostgreSQL server: what SQLite cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceBars, SourceError, SourceOptions, read_bars

BARS = """
create table feed.bars as
select opened, opened at time zone 'Europe/Berlin' as berlin,
    1.10::numeric(9,5) as open, 1.2 as high, 1.05 as low, 1.03428::numeric as close, 7 as volume
from generate_series(timestamptz '2024-10-27 00:00+00', '2024-10-27 03:00+00', interval '1 hour') as t(opened)
"""


@pytest.fixture
def server(postgres_url: str) -> Iterator[str]:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop schema if exists feed cascade")
        connection.exec_driver_sql("create schema feed")
        connection.exec_driver_sql(BARS)
    yield postgres_url
    engine.dispose()


def read(url: str, **options: object) -> SourceBars:
    source_options = SourceOptions(**options)  # type: ignore[arg-type]
    return read_bars(url, symbol=symbol("EUR/USD"), timeframe=timeframe("1h"), options=source_options)


def test_times_with_an_offset_and_exact_numbers(server: str) -> None:
    source = read(server, table="feed.bars", columns={"open_time": "opened"})
    assert source.frame["open_time"].dt.hour.tolist() == [0, 1, 2, 3]
    assert source.frame["close"].tolist() == [1.03428] * 4
    assert source.notes.detected["time_zone"] == "stated in every time"
    assert source.notes.files == ("sql:feed.bars",)


def test_times_on_a_wall_clock_are_never_guessed(server: str) -> None:
    source = read(server, table="feed.bars", columns={"open_time": "berlin"}, tz="Europe/Berlin")
    assert source.frame["open_time"].dt.hour.tolist() == [2, 3]
    assert source.rejected["detail"].tolist() == ["2024-10-27 02:00:00 happened twice in Europe/Berlin"] * 2


def test_what_is_bound_is_utc_whatever_the_server_is_set_to(server: str) -> None:
    query = "select * from feed.bars where opened >= :start and opened < :end"
    start, end = datetime(2024, 10, 27, 1, tzinfo=UTC), datetime(2024, 10, 27, 3, tzinfo=UTC)
    source = read(server, query=query, start=start, end=end, columns={"open_time": "opened"})
    assert source.frame["open_time"].dt.hour.tolist() == [1, 2]


@pytest.mark.parametrize("query", ["delete from feed.bars returning *", "drop table feed.bars", "select nextval('x')"])
def test_nothing_is_written(server: str, query: str) -> None:
    with pytest.raises(SourceError, match="the database says"):
        read(server, query=query)
    assert len(read(server, table="feed.bars", columns={"open_time": "opened"}).frame) == 4


def test_a_table_that_is_not_there(server: str) -> None:
    with pytest.raises(SourceError, match=r"sql:feed\.bar: no such table"):
        read(server, table="feed.bar")
