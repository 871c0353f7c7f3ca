"""Where the embedded default keeps its files, and how ``feature_store.yaml`` names it.

Feast puts environment variables into ``feature_store.yaml`` but leaves an unset ``${VAR}`` as literal text, and a
relative ``sqlite:///`` URL is relative to the working directory, so that ``feast apply`` in one folder and a client
in another would see two registries. Both are mended, here and in ``registry_url``: an unset ``${FSTORE_HOME}`` means
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
"""The folder of ``fstore.toml`` and of the default home: of a clone its own, of an installed wheel the user's home."""

HOME_VARIABLE = "${FSTORE_HOME}"
DEFAULT_HOME = ".fstore"


def resolve_home(home: str | Path) -> Path:
    """The absolute home folder; ``home`` may be relative to the project, or the variable's own unset text."""
    text = str(home).replace(HOME_VARIABLE, DEFAULT_HOME)
    return (PROJECT / Path(text).expanduser()).resolve()


def resolve_location(location: str) -> str:
    """A path below the home as an absolute path; a URL (``s3://…``) as it is."""
    return location if "://" in location else str(resolve_home(location))
