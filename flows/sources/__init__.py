"""Bars from files and folders, databases and exchanges.

``read_bars`` turns a source into one table of bars of one symbol and timeframe, the rows that are not bars, and notes
of what was noticed. It reads and never judges: whether a bar is plausible is the quality gate's question. A source that
cannot be read raises one ``SourceError``, and nothing is taken from it.

Every source returns a ``Table`` of columns as they are; how it is interpreted (times, units, bid and ask, ticks) is the
same for all. A new file format is one function from a path to a ``Table`` and a row of ``files.FORMATS``; an export
that is only another order of columns is a row of ``exports.EXPORTS``; a new kind of source, a branch of
``read_origin``.
"""

from flows.sources.bars import SourceBars, SourceNotes, read_bars
from flows.sources.demo import DEMO, bundled
from flows.sources.error import MissingExtraError, SourceError
from flows.sources.options import SourceOptions

__all__ = [
    "read_bars",
    "SourceOptions",
    "SourceBars",
    "SourceNotes",
    "SourceError",
    "MissingExtraError",
    "DEMO",
    "bundled",
]
