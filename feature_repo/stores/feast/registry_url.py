"""The registry's URL, made to mean the same file in every process.

Apart from ``home``, which strategies load: SQLAlchemy takes as long as all else that they need of the stores.
"""

from __future__ import annotations

from sqlalchemy.engine import URL, Connection, CreateEnginePlugin, Engine
from sqlalchemy.event import listen
from sqlalchemy.pool import ConnectionPoolEntry

from feature_repo.home import resolve_home


class HomePlugin(CreateEnginePlugin):
    """Makes a SQLite URL that asks for it (``?plugin=fstore_home``) absolute and fit for several processes.

    SQLAlchemy loads it by its entry point, so that Feast's own commands have it too.
    """

    def update_url(self, url: URL) -> URL:
        path = resolve_home(url.database or "registry.db")
        path.parent.mkdir(parents=True, exist_ok=True)
        return url.set(database=str(path)).difference_update_query(["plugin"])

    def engine_created(self, engine: Engine) -> None:
        listen(engine, "connect", _share_file)


def _share_file(connection: Connection, _entry: ConnectionPoolEntry) -> None:
    # Readers don't wait for a writer, and a writer waits for another instead of failing with "database is locked".
    for pragma in ("journal_mode=WAL", "busy_timeout=10000", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[call-overload]
