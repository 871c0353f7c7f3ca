"""The plug-in that makes the registry's URL mean the same file in every process.

It is apart from ``home``, which strategies load: importing SQLAlchemy would double the time that they need.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

from sqlalchemy.engine import URL, Connection, CreateEnginePlugin, Engine
from sqlalchemy.event import listen
from sqlalchemy.pool import ConnectionPoolEntry

from feature_repo.home import resolve_home


class HomePlugin(CreateEnginePlugin):
    """Makes a SQLite URL with ``?plugin=fstore_home`` absolute and fit for several processes.

    SQLAlchemy loads it by its entry point, so that Feast's own commands have it too.
    """

    def update_url(self, url: URL) -> URL:
        path = resolve_home(url.database or "registry.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        return url.set(database=str(path)).difference_update_query(["plugin"])

    def engine_created(self, engine: Engine) -> None:
        listen(engine, "connect", _share_file)


def close_when_dropped(connection: Any, entry: ConnectionPoolEntry) -> None:
    """Has a driver's connection closed with its place in the pool, at the latest when the process ends.

    Python 3.13 warns of a SQLite connection that is dropped open. A forked child closes nothing: the connections are
    its parent's.
    """
    weakref.finalize(entry, _close, connection, os.getpid())


def _close(connection: Any, owner: int) -> None:
    if os.getpid() == owner:
        connection.close()


def _share_file(connection: Connection, entry: ConnectionPoolEntry) -> None:
    close_when_dropped(connection, entry)  # Feast closes nothing
    # Readers don't wait for a writer, and a writer waits for another instead of failing with "database is locked".
    for pragma in ("journal_mode=WAL", "busy_timeout=10000", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[call-overload]
