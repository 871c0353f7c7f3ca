"""Where the embedded default keeps its files, and how ``feature_store.yaml`` names it.

Feast puts environment variables into ``feature_store.yaml`` but leaves an unset ``${VAR}`` as literal text, and a
relative ``sqlite:///`` URL is relative to the working directory, so that ``feast apply`` in one folder and a client
in another would see two registries. Both are fixed, here and in ``registry_url``: an unset ``${FSTORE_HOME}`` means
``.fstore`` in the project's folder, and a relative home is relative to that folder, wherever a process was started.
"""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parent
"""The feature repository: the folder of ``feature_store.yaml``."""


def _project() -> Path:
    if REPO.parent.name not in ("site-packages", "dist-packages"):
        return REPO.parent
    try:
        return Path.home()
    except RuntimeError:  # a user without a home folder
        return Path.cwd()


PROJECT = _project()
"""The folder of ``fstore.toml`` and of the default home: the clone's own, or the user's home for an installed wheel."""

HOME_VARIABLE = "${FSTORE_HOME}"
DEFAULT_HOME = ".fstore"


def resolve_home(home: str | Path) -> Path:
    """The absolute home folder; ``home`` may be relative to the project, or the text of the unset variable."""
    text = str(home).replace(HOME_VARIABLE, DEFAULT_HOME)
    return (PROJECT / Path(text).expanduser()).resolve()


def resolve_location(location: str) -> str:
    """The absolute path of a location below the home; a URL (``s3://…``) is returned unchanged."""
    return location if "://" in location else str(resolve_home(location))
