"""Every setting of the platform, in one frozen object; this module alone reads the environment."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from redis.connection import parse_url

from feature_repo.home import DEFAULT_HOME, PROJECT, resolve_home
from feature_repo.repo import Repo, load_repo
from feature_repo.stores.tables import OfflineTables

if TYPE_CHECKING:
    from flows.ledger import Ledger

PREFIX = "FSTORE_"
_TASK_RUNNERS = r"threads|processes|dask|(dask|ray)://[^/?#@\s]+:\d+"


class SettingsError(ValueError):
    """An invalid setting; the message says which, where it is set, and what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings; each is ``FSTORE_<NAME>`` in the environment or ``<name>`` in ``fstore.toml``.

    Attributes:
        home: folder that the embedded default writes to; a relative one is relative to the project.
        redis_url: online store; empty for the embedded server. May hold a password, so it is never shown.
        ledger_url: the ledger's database as SQLAlchemy names it (PostgreSQL: ``postgresql+psycopg://...``); empty for
            a SQLite file in the home. May hold a password, so it is never shown.
        alert_urls: where alerts go, as Apprise names it (``json://host/path``, ``mailto://...``), separated by spaces;
            the log alone when empty. May hold passwords, so they are never shown.
        max_bad_share: a batch with a larger share of bad rows stops its symbol.
        max_revised_share: an ingest that would change a larger share of the stored bars it overlaps asks first.
        min_completeness: a derived bar made of a smaller share of its source bars is quarantined, not published.
        shard_size: how many symbols a task takes.
        task_runner: where a run's tasks work: ``threads`` or ``processes`` of this machine, ``dask`` (a cluster of
            processes of this machine, for as long as a run takes), ``dask://HOST:PORT`` or ``ray://HOST:PORT``.
    """

    home: Path = field(default_factory=lambda: resolve_home(DEFAULT_HOME))
    redis_url: str = field(default="", repr=False)
    ledger_url: str = field(default="", repr=False)
    alert_urls: str = field(default="", repr=False)
    max_bad_share: float = 0.05
    max_revised_share: float = 0.2
    min_completeness: float = 0.5
    shard_size: int = 25
    task_runner: str = "threads"

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad_share < 1:
            raise SettingsError(f"max_bad_share must be at least 0 and below 1, not {self.max_bad_share}")
        if not 0 <= self.max_revised_share <= 1:
            raise SettingsError(f"max_revised_share must be from 0 to 1, not {self.max_revised_share}")
        if not 0 <= self.min_completeness <= 1:
            raise SettingsError(f"min_completeness must be from 0 to 1, not {self.min_completeness}")
        if self.shard_size < 1:
            raise SettingsError(f"shard_size must be at least 1, not {self.shard_size}")
        if not re.fullmatch(_TASK_RUNNERS, self.task_runner):
            raise SettingsError(
                "task_runner must be threads, processes, dask, dask://HOST:PORT or ray://HOST:PORT, "
                f"not {self.task_runner!r}"
            )
        if self.redis_url and not _is_redis_url(self.redis_url):
            raise SettingsError(
                "redis_url must be redis://, rediss:// or unix://, its parts percent-encoded, as "
                "redis://user:p%40ss@host:6379/0 (what was given is not shown: it may hold a password)"
            )

    def repo(self) -> Repo:
        """The feature repository with these settings put in."""
        return load_repo(variables={"FSTORE_HOME": str(self.home), "FSTORE_REDIS_URL": self.redis_url})

    def tables(self) -> OfflineTables:
        """The offline store's tables."""
        return self.repo().tables()

    def ledger(self) -> Ledger:
        """The ledger, one per process: who works on what, and how far each symbol has come."""
        return _ledger(self.ledger_url or f"sqlite:///{self.home / 'ledger.db'}")


@lru_cache(maxsize=16)
def _ledger(url: str) -> Ledger:
    from flows.ledger import Ledger  # with SQLAlchemy and its migrations, which a lookup does not need

    return Ledger(url)


def require_task_runner(spec: str) -> None:
    """Checks that the package of a task runner is installed.

    Raises:
        SettingsError: it is not; the message names the extra that brings it.
    """
    kind = spec.partition("://")[0]
    if kind in ("dask", "ray") and find_spec(f"prefect_{kind}") is None:
        raise SettingsError(
            f"task_runner is {kind}, and prefect-{kind} is not installed here: pip install 'fstore[{kind}]'"
        )


def load_settings(environ: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Reads ``fstore.toml`` in the project's folder and then the environment, which wins.

    An empty variable counts as not set, as Compose files and CI systems pass on what they do not know. Other
    ``FSTORE_*`` variables are left alone: ``feature_store.yaml`` may have some of its own.

    Raises:
        SettingsError: an unknown name in the file, or a value that is not of the setting's type.
    """
    environ = os.environ if environ is None else environ
    file = file or PROJECT / "fstore.toml"
    known = {f.name for f in fields(Settings)}
    values: dict[str, object] = {}
    if file.exists():
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:  # no TOML, or no UTF-8
            raise SettingsError(f"{file}: {error}") from error
        unknown = sorted(set(content) - known)
        if unknown:
            raise SettingsError(f"{file}: unknown setting {unknown[0]!r}; known: {', '.join(sorted(known))}")
        values |= {name: _convert(name, value, str(file)) for name, value in content.items()}
    for name in known:
        variable = PREFIX + name.upper()
        if environ.get(variable):
            values[name] = _convert(name, environ[variable], f"the environment variable {variable}")
    return Settings(**values)  # type: ignore[arg-type]


# What a setting must be, the types it may be given as, and what makes it of them. Text is always one: a variable's.
_KINDS: Mapping[str, tuple[str, UnionType | type, Callable[[Any], object]]] = {
    "home": ("a path", str, resolve_home),
    "redis_url": ("a URL", str, str),
    "ledger_url": ("a URL", str, str),
    "alert_urls": ("URLs", str, str),
    "max_bad_share": ("a number", str | int | float, float),
    "max_revised_share": ("a number", str | int | float, float),
    "min_completeness": ("a number", str | int | float, float),
    "shard_size": ("a whole number", str | int, int),
    "task_runner": ("text", str, str),
}


_SECRET = {"redis_url", "ledger_url", "alert_urls"}  # may hold passwords


def _convert(name: str, value: object, where: str) -> object:
    kind, types, convert = _KINDS[name]
    if isinstance(value, types) and not isinstance(value, bool):
        with suppress(ValueError):
            return convert(value)
    raise SettingsError(
        f"{where}: {name} must be {kind}" + (f", not {value!r}" if not name.endswith(("_url", "_urls")) else "")
    )


def _is_redis_url(url: str) -> bool:
    try:
        parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:  # its message would show a piece of a password with a stray "/"
        return False
    return True
