"""One database, opened when it is first used; every block of work on it is one transaction."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.event import listens_for
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from feature_repo.stores.feast.registry_url import close_when_dropped
from flows.ledger.errors import LedgerError, LedgerUnavailable, place_of, translated
from flows.ledger.upgrade import upgrade

_BUSY_S = 30
"""How long a transaction waits for another's locks before it gives up."""

_FORMS = "sqlite:////absolute/path/ledger.db or postgresql+psycopg://user:password@host:5432/database"


class Database:
    """What every chapter of the ledger is written on. Thread-safe; a forked child opens connections of its own."""

    def __init__(self, url: str, *, now: Callable[[], float] = time.time) -> None:
        """Opens nothing yet.

        Args:
            url: ``sqlite:////path`` or ``postgresql+psycopg://...``; may hold a password, so it is never shown.
            now: the clock, seconds since 1970.

        Raises:
            LedgerError: a URL of another kind, or one that can't be read.
        """
        self._url = _parse(url)
        self._now = now
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self._pid = os.getpid()
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place!r})"

    @property
    def place(self) -> str:
        """The database's file, or its host, port and name: nothing secret."""
        return place_of(self._url)

    def ping(self) -> None:
        """Asks the database for an answer.

        Raises:
            LedgerUnavailable: there is none.
            LedgerTooNew: a newer version has made the tables.
        """
        with self._reading() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        """Ends the connections. Leases still held run out by themselves. A second call does nothing."""
        with self._opening:
            self._closed = True
            if self._engine is not None and self._pid == os.getpid():
                self._engine.dispose()
            self._engine = None

    def _now_us(self) -> int:
        return round(self._now() * 1e6)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self.place), self._opened().begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with translated(self.place), self._opened().execution_options(writes=True).begin() as connection:
            yield connection

    def _opened(self) -> Engine:
        with self._opening:
            if self._closed:
                raise LedgerError("the ledger is closed; make a new one")
            if self._engine is not None and self._pid != os.getpid():
                self._engine.dispose(close=False)  # the parent's connections are the parent's to end
                self._engine = None
            if self._engine is None:
                engine = _make_engine(self._url)
                try:
                    upgrade(engine)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine, self._pid = engine, os.getpid()
            return self._engine


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ``ON CONFLICT``, in the connection's dialect."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):  # its message could show a piece of a password
        raise LedgerError(f"FSTORE_LEDGER_URL can't be read as a URL; give {_FORMS}") from None
    if backend == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise LedgerError(
                "a ledger in memory would be forgotten; give a file, as sqlite:////absolute/path/ledger.db"
            )
        return url
    if backend not in ("postgresql", "postgres"):
        raise LedgerError(f"FSTORE_LEDGER_URL names {backend!r}, which the ledger does not know; give {_FORMS}")
    if text.count("@") > 1:  # the rest of a password would be taken for the host, and shown
        raise LedgerError(f"FSTORE_LEDGER_URL has more than one '@'; percent-encode those of the password, as {_FORMS}")
    return url.set(drivername="postgresql+psycopg")


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        folder = Path(str(url.database)).absolute().parent
        _make_folder(folder)
        engine = create_engine(url, connect_args={"timeout": _BUSY_S}, hide_parameters=True)
        _prepare_sqlite(engine, folder)
        return engine
    limits = f"-c lock_timeout={_BUSY_S}s -c idle_in_transaction_session_timeout={_BUSY_S}s"
    arguments = {"connect_timeout": 10, "application_name": "fstore", "options": limits}
    return create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerUnavailable(
            f"the ledger's folder {folder} can't be made: {error.strerror}. "
            "Make it writable, or set FSTORE_LEDGER_URL to another place"
        ) from error


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process and thread at a time; the folder itself is the lock, so that no lock file is left behind."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _prepare_sqlite(engine: Engine, folder: Path) -> None:
    @listens_for(engine, "connect")
    def connected(connection: Any, entry: ConnectionPoolEntry) -> None:
        close_when_dropped(connection, entry)  # the ledger of a process is closed by nobody
        connection.isolation_level = None  # the driver begins no transactions of its own
        connection.execute("PRAGMA foreign_keys=ON")
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            with _alone_in(folder):  # two that switch at once don't wait for each other: one fails, busy_timeout or not
                connection.execute("PRAGMA journal_mode=WAL")

    @listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A writer takes the lock before it reads: one that asked for it later could not wait, it would have to fail.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
