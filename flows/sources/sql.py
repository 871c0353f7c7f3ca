"""Bars in a database, by any SQLAlchemy URL: a table, or the rows of a query."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from feature_repo.catalog import Symbol, Timeframe
from flows.sources.error import SourceError, shown
from flows.sources.options import SourceOptions
from flows.sources.table import Table, from_arrow

_CHUNK_ROWS = 50_000
_LISTED = 10
_READ_ONLY: Mapping[str, Sequence[str]] = {
    "sqlite": ("PRAGMA query_only = ON",),
    "postgresql": ("SET TRANSACTION READ ONLY", "SET TIME ZONE 'UTC'"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
    "mariadb": ("SET SESSION TRANSACTION READ ONLY", "SET time_zone = '+00:00'"),
}
"""What makes a connection of each dialect refuse to write, and take times without an offset as UTC."""


def read_sql(url: str, *, symbol: Symbol, timeframe: Timeframe, options: SourceOptions) -> Table:
    """Read all rows of ``options.table``, or those of ``options.query``, in chunks. Nothing is ever committed.

    A query's ``:symbol`` and ``:timeframe`` are bound to the catalog's names, ``:start`` and ``:end`` to times in UTC
    without an offset. The URL's secrets are never shown.

    Raises:
        SourceError: no such database, table or driver, a query that fails, or one with a parameter without a value.
    """
    label = f"sql:{options.table or 'query'}"
    with _connection(url, label) as connection:
        statement, values = _statement(connection, symbol, timeframe, options, label)
        result = connection.execution_options(stream_results=True).execute(statement, values)
        names = list(result.keys())
        chunks: list[list[pa.Array]] = [[] for _ in names]
        for rows in result.partitions(_CHUNK_ROWS):
            for column, cells in zip(chunks, zip(*rows, strict=True), strict=True):
                column.append(_array(cells))
    columns = [_joined(column) for column in chunks]
    if not columns or not len(columns[0]):
        raise SourceError("no rows", remedy="Check the table, or the query and what is bound to it.", file=label)
    return from_arrow(pa.Table.from_arrays(columns, names), file=label, detected={"format": "sql"})


@contextmanager
def _connection(url: str, label: str) -> Iterator[sa.Connection]:
    """A connection that only reads; errors of its use are reported without secrets."""
    try:
        address = sa.make_url(url)
        backend = address.get_backend_name()
        engine = sa.create_engine(address, poolclass=NullPool)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise SourceError(
            "no address of a database that SQLAlchemy knows",
            remedy="Write it as postgresql+psycopg://user:password@host/name or sqlite:///file, or give a file's path.",
            file=label,
        ) from None
    except ModuleNotFoundError as error:
        remedy = "Install it with pip, or name a driver that is installed, as in postgresql+psycopg://."
        raise SourceError(f"the driver {error.name} is not installed", remedy=remedy, file=label) from None
    name = address.database or ""
    if backend == "sqlite" and name and not name.startswith((":", "file:")) and not Path(name).is_file():
        raise SourceError("no such SQLite file", remedy="Check the path behind sqlite:///.", file=label)
    try:
        with engine.connect() as connection:  # rolled back at its end
            for command in _READ_ONLY.get(backend, ()):
                connection.exec_driver_sql(command)
            yield connection
    except NoSuchTableError:
        raise _no_such_table(engine, label) from None
    except SQLAlchemyError as error:
        why = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
        for secret in (address.password, *_texts(address.query)):
            why = why.replace(str(secret), "***") if secret else why
        raise SourceError(
            f"the database says: {why}", remedy="Check the address, the rights and the query.", file=label
        ) from None
    finally:
        engine.dispose()


def _texts(query: Mapping[str, str | tuple[str, ...]]) -> list[str]:
    return [text for value in query.values() for text in ((value,) if isinstance(value, str) else value)]


def _no_such_table(engine: sa.Engine, label: str) -> SourceError:
    wanted = label.partition(":")[2]
    known = [*sa.inspect(engine).get_table_names(), *sa.inspect(engine).get_view_names()]
    near = difflib.get_close_matches(wanted, known, n=_LISTED) or known[:_LISTED]
    return SourceError(
        "no such table or view", remedy=f"There are {', '.join(map(shown, near))}." if near else "", file=label
    )


def _statement(
    connection: sa.Connection, symbol: Symbol, timeframe: Timeframe, options: SourceOptions, label: str
) -> tuple[sa.Select[Any] | sa.TextClause, dict[str, Any]]:
    """What to execute, and the values bound to its parameters."""
    moments = {"start": options.start, "end": options.end}
    if options.table is not None:
        if options.start is not None:
            raise SourceError("a table takes no --start", remedy="Use --query with :start in it.", file=label)
        schema, _, name = options.table.rpartition(".")
        return sa.select(sa.Table(name, sa.MetaData(), schema=schema or None, autoload_with=connection)), {}
    if options.query is None:
        raise SourceError("which rows of the database?", remedy="Use --table NAME or --query SQL.", file=label)
    statement = sa.text(options.query)
    wanted = set(statement.compile().params)
    known: dict[str, Any] = {"symbol": symbol.name, "timeframe": timeframe.name}
    known |= {name: _bound(moment, connection) for name, moment in moments.items() if moment is not None}
    if unknown := sorted(wanted - known.keys()):
        raise SourceError(
            f"the query wants :{unknown[0]}",
            remedy="Give --start and --end where it has :start and :end; else it may have :symbol and :timeframe.",
            file=label,
        )
    if options.start is not None and "start" not in wanted:
        raise SourceError("--start, and no :start in the query", remedy="Use it, or omit --start.", file=label)
    return statement, {name: known[name] for name in wanted}


def _bound(moment: datetime, connection: sa.Connection) -> datetime | str:
    naive = moment.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(" ") if connection.dialect.name == "sqlite" else naive  # SQLite keeps times as text


def _array(cells: Sequence[Any]) -> pa.Array:
    """One chunk of a column as Arrow has it, exact numbers as their nearest float."""
    sample = next((cell for cell in cells if cell is not None), None)
    if isinstance(sample, Decimal):
        cells = [None if cell is None else float(cell) for cell in cells]
    elif isinstance(sample, datetime) and sample.tzinfo is not None:
        cells = [None if cell is None else cell.astimezone(UTC) for cell in cells]
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # SQLite lets every row have a type of its own
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())


def _joined(chunks: Sequence[pa.Array]) -> pa.ChunkedArray:
    """The chunks of a column in one type."""
    kinds = {chunk.type for chunk in chunks if not pa.types.is_null(chunk.type)}
    if len(kinds) > 1:
        numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds)
        kinds = {pa.float64() if numbers else pa.string()}
    kind = kinds.pop() if kinds else pa.null()
    return pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
