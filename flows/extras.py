"""Which extra of the distribution brings a package that is not installed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

DISTRIBUTION = "fstore"
_EXTRA = re.compile(r"""\bextra == ["']([\w-]+)["']""")


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """One sentence that says which extra brings the missing module; None when no extra does.

    The distribution's own metadata is read, so ``pyproject.toml`` stays the only list of what an extra brings.
    """
    module = (error.name or "").partition(".")[0]
    try:
        requirements = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:  # run from a copy of the sources that was never installed
        return None
    extra = extra_of(module, requirements)
    return extra and f"{module} is not installed; the extra {extra} brings it: pip install '{DISTRIBUTION}[{extra}]'"


def extra_of(module: str, requirements: Iterable[str]) -> str | None:
    """The first extra whose requirements (as a distribution's metadata lists them) name the module's package."""
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = _EXTRA.search(requirement)
        if name and extra and _normalized(name[0]) == _normalized(module):
            return extra[1]
    return None


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
