"""Where the embedded default keeps its files, and how ``feature_store.yaml`` names it.

Feast puts environment variables into ``feature_store.yaml`` but leaves an unset ``${VAR}`` as literal text, and a
relative ``sqlite:///`` URL is relative to the working directory, so that ``feast apply`` in one folder and a client
in another would see two registries. Both are mended here: an unset ``${FSTORE_HOME}`` means ``.fstore`` beside
``feature_repo/``, and a relative home is relative to that same folder, wherever a process was started.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, Connection, CreateEnginePlugin, Engine
from sqlalchemy.event import listen
from sqlalchemy.pool import ConnectionPoolEntry

REPO = Path(__file__).resolve().parents[1]
"""The feature repository: the folder of ``feature_store.yaml``."""

HOME_VARIABLE = "${FSTORE_HOME}"
DEFAULT_HOME = ".fstore"


def resolve_home(home: str | Path) -> Path:
    """The absolute home folder; ``home`` may be relative to the project, or the variable's own unset text."""
    text = str(home).replace(HOME_VARIABLE, DEFAULT_HOME)
    return (REPO.parent / Path(text).expanduser()).resolve()


def resolve_location(location: str) -> str:
    """A path below the home as an absolute path; a URL (``s3://…``) as it is."""
    return location if "://" in location else str(resolve_home(location))


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
