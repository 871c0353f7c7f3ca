"""Reads ``feature_store.yaml`` for the client and the flows without importing Feast, which takes seconds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from feature_repo.home import DEFAULT_HOME, HOME_VARIABLE, REPO, resolve_home, resolve_location

if TYPE_CHECKING:
    from feast import FeatureStore

    from feature_repo.stores.tables import OfflineTables

FILE_VARIABLE = "FEAST_FS_YAML_FILE_PATH"
"""Feast's own variable for the file that it reads, so that its commands and ours read the same one."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """The part of a Feast repository's configuration that the platform itself needs.

    Attributes:
        project: Feast project; part of every online key.
        home: folder of the embedded Redis and of what else the embedded default writes.
        offline: root of the Delta tables, an absolute path or an object-store URL.
        storage_options: how to reach an object store; may hold secrets, so they are never shown.
        redis_url: the online store's URL; None for the embedded server. Never shown: it may hold a password.
        redis_type: ``redis``, ``redis_cluster`` or ``redis_sentinel``, as in Feast.
    """

    project: str
    home: Path
    offline: str
    storage_options: Mapping[str, str] = field(repr=False)
    redis_url: str | None = field(repr=False)
    redis_type: str
    raw: Mapping[str, Any] = field(repr=False)

    def tables(self) -> OfflineTables:
        """Opens the offline tables."""
        return open_tables(self.offline, self.storage_options)

    def feature_store(self) -> FeatureStore:
        """Opens this repository with Feast."""
        from feast import FeatureStore, RepoConfig

        class QuietConfig(RepoConfig):
            """Feast's, which it shows in errors and logs; without the URLs, which may hold passwords."""

            def __repr_args__(self) -> list[tuple[str, Any]]:
                return [("project", self.project)]

        # Feast logs advice against this configuration at every start; the choice is deliberate.
        logging.getLogger("feast.repo_config").setLevel(logging.ERROR)
        config = QuietConfig(**self.raw)
        config.repo_path = REPO
        return FeatureStore(config=config)


def open_tables(location: str, storage_options: Mapping[str, str]) -> OfflineTables:
    """The tables at a location; which back end keeps them is decided here, for the platform and for Feast.

    Args:
        location: an absolute path or an object-store URL.
        storage_options: how to reach an object store.
    """
    from feature_repo.stores.delta.tables import DeltaTables

    return DeltaTables(location, storage_options)


def load_repo(path: Path | None = None, variables: Mapping[str, str] | None = None) -> Repo:
    """Reads ``feature_store.yaml``.

    Args:
        path: the file; by default the one that ``FEAST_FS_YAML_FILE_PATH`` names, or else this project's.
        variables: values of its ``${NAME}`` variables; they override the environment.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it lacks one of our two stores.
    """
    values = {**os.environ, **(variables or {})}
    path = path or Path(values.get(FILE_VARIABLE) or REPO / "feature_store.yaml")
    # As Feast expands them: once (a password may hold a "$"), and a variable that is not set stays as it is.
    raw = yaml.safe_load(_VARIABLE.sub(lambda match: values.get(match[1] or match[2], match[0]), path.read_text()))
    online, offline = raw.get("online_store") or {}, raw.get("offline_store") or {}
    if "home" not in online or "path" not in offline:
        raise ValueError(f"{path}: online_store.home and offline_store.path are needed; see docs/configuration.md")
    if unset := _VARIABLE.search(str(offline["path"]).replace(HOME_VARIABLE, "")):
        raise ValueError(f"{path}: offline_store.path needs the variable {unset[0]}, which is not set")
    registry = raw.get("registry")
    registry_path = str(registry.get("path") if isinstance(registry, Mapping) else registry)
    if _VARIABLE.fullmatch(registry_path):  # as a whole only: a password in it may hold a "$"
        raise ValueError(f"{path}: registry.path needs the variable {registry_path}, which is not set")
    return Repo(
        project=raw["project"],
        home=resolve_home(online["home"]),
        offline=resolve_location(offline["path"]),
        storage_options=offline.get("storage_options") or {},
        redis_url=given_url(online.get("redis_url")),
        redis_type=online.get("redis_type", "redis"),
        raw=raw,
    )


def home_folder() -> Path:
    """The home folder for a caller that has no repository to read: the one that ``FSTORE_HOME`` names."""
    return resolve_home(os.environ.get("FSTORE_HOME") or DEFAULT_HOME)


def given_url(url: str | None) -> str | None:
    """``url``, or None when it is empty or the text of a variable that is not set."""
    return url if url and not url.startswith("${") else None
