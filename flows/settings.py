"""Every setting of the platform, in one frozen object; this module alone reads the environment."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from feature_repo.repo import Repo, load_repo
from feature_repo.stores.home import DEFAULT_HOME, REPO, resolve_home
from feature_repo.stores.tables import OfflineTables

PREFIX = "FSTORE_"


class SettingsError(ValueError):
    """A setting that can't be: which, where it was given, and what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings; each is ``FSTORE_<NAME>`` in the environment or ``<name>`` in ``fstore.toml``.

    Attributes:
        home: folder that the embedded default writes to; a relative one is relative to the project.
        redis_url: online store; empty for the embedded server. May hold a password, so it is never shown.
        max_bad_share: a batch with a larger share of bad rows stops its symbol.
        shard_size: how many symbols a task takes.
    """

    home: Path = field(default_factory=lambda: resolve_home(DEFAULT_HOME))
    redis_url: str = field(default="", repr=False)
    max_bad_share: float = 0.05
    shard_size: int = 25

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad_share < 1:
            raise SettingsError(f"max_bad_share must be at least 0 and below 1, not {self.max_bad_share}")
        if self.shard_size < 1:
            raise SettingsError(f"shard_size must be at least 1, not {self.shard_size}")

    def repo(self) -> Repo:
        """The feature repository with these settings put in."""
        variables = {"FSTORE_HOME": str(self.home)}
        if self.redis_url:
            variables["FSTORE_REDIS_URL"] = self.redis_url
        return load_repo(variables=variables)

    def tables(self) -> OfflineTables:
        """The offline store's tables."""
        return OfflineTables(self.repo().offline)


def load_settings(environ: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Reads ``fstore.toml`` beside the project and then the environment, which wins.

    Raises:
        SettingsError: an unknown name, or a value that is not of the setting's type.
    """
    environ = os.environ if environ is None else environ
    file = file or REPO.parent / "fstore.toml"
    given: dict[str, tuple[object, str]] = {}
    if file.exists():
        try:
            content = tomllib.loads(file.read_text())
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{file}: {error}") from error
        given |= {name: (value, str(file)) for name, value in content.items()}
    known = {f.name for f in fields(Settings)}
    for variable, value in environ.items():
        name = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and name in known:
            given[name] = (value, f"the environment variable {variable}")
    unknown = sorted(set(given) - known)
    if unknown:
        raise SettingsError(f"{file}: unknown setting {unknown[0]!r}; known: {', '.join(sorted(known))}")
    return Settings(**{name: _convert(name, *found) for name, found in given.items()})  # type: ignore[arg-type]


def _convert(name: str, value: object, where: str) -> object:
    kinds = {"home": resolve_home, "redis_url": str, "max_bad_share": float, "shard_size": int}
    try:
        return kinds[name](value)  # type: ignore[operator]
    except (TypeError, ValueError):
        kind = "a number" if name == "max_bad_share" else "a whole number"
        raise SettingsError(f"{where}: {name} must be {kind}, not {value!r}") from None
