"""The bars that the demo runs on: real ones, which the package ``backtesting`` carries for its own tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from flows.sources.error import MissingExtraError, SourceError, shown

_PACKAGE = "backtesting"

DEMO: tuple[tuple[str, str, str], ...] = (
    ("EUR/USD", "1h", "EURUSD.csv"),  # 5,000 bars 2017-2018, UTC
    ("GOOG", "1d", "GOOG.csv"),  # 2004-2013
)
"""Symbol, timeframe and file of each bundled source."""


def bundled(file: str) -> Path:
    """The path of a file of ``DEMO``. The package is located, not imported: that would load a plotting library.

    Raises:
        MissingExtraError: the package is not installed.
        SourceError: there is no such file.
    """
    files = tuple(name for _, _, name in DEMO)
    if file not in files:
        raise SourceError(f"no bundled file {shown(file)}", remedy=f"There are {', '.join(files)}.")
    remedy = 'Install the extra "demo": pip install "fstore[demo]".'
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"the demo's bars come with the package {_PACKAGE}, which is not installed", remedy=remedy
        )
    path = Path(spec.origin).parent / "test" / file
    if not path.is_file():
        raise SourceError(f"the installed package {_PACKAGE} does not carry it", remedy=remedy, file=path)
    return path
