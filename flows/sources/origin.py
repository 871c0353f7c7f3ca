"""What a user means by a source: a file, a folder, a database or an exchange."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from feature_repo.catalog import Symbol, Timeframe
from flows.sources.error import SourceError
from flows.sources.files import read_files
from flows.sources.options import Format, SourceOptions
from flows.sources.table import Origin

EXCHANGES = ("exchange", "ccxt")

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9_+.-]*)://(.*)", re.DOTALL)
_FILE_FORMATS = frozenset(get_args(Format)) - {"sql", "ccxt"}


def read_origin(source: Path | str, *, symbol: Symbol, timeframe: Timeframe, options: SourceOptions) -> Origin:
    """Read a source: ``exchange://NAME`` or ``ccxt://NAME``, any other ``SCHEME://...`` as SQLAlchemy does, or a path.

    Raises:
        SourceError: it cannot be read, or an option was given that it does not take.
    """
    address = _ADDRESS.fullmatch(source) if isinstance(source, str) else None
    if address is None:
        _check(options, "a file", _FILE_FORMATS, ("query", "table", "start", "exchange_url"))
        return read_files(Path(source), options)
    if address[1].lower() in EXCHANGES:
        from flows.sources.exchange import read_exchange  # imported here: few sources are exchanges

        unused = ("query", "table", "delimiter", "columns", "tz", "stamp", "day_first", "instrument")
        _check(options, "an exchange", {"auto", "ccxt"}, unused)
        return Origin(tables=[read_exchange(address[2], symbol=symbol, timeframe=timeframe, options=options)])
    from flows.sources.sql import read_sql  # imported here: SQLAlchemy takes a while

    _check(options, "a database", {"auto", "sql"}, ("delimiter", "exchange_url"))
    return Origin(tables=[read_sql(address[0], symbol=symbol, timeframe=timeframe, options=options)])


def is_path(source: Path | str) -> bool:
    return isinstance(source, Path) or not _ADDRESS.fullmatch(source)


def _check(options: SourceOptions, what: str, formats: frozenset[str] | set[str], unused: tuple[str, ...]) -> None:
    """Refuses an option that would do nothing."""
    if options.format not in formats:
        raise SourceError(f"{what} has no format {options.format}", remedy=f"Known: {', '.join(sorted(formats))}.")
    for name in unused:
        if getattr(options, name) not in (None, "auto"):
            raise SourceError(f"{what} takes no --{name.replace('_', '-')}", remedy="Omit it.")
