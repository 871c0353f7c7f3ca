"""Bars from files and folders.

``read_bars`` turns a CSV or Parquet file, or a folder of them, into one table of bars of one symbol and timeframe,
beside the rows that are none and notes of what was seen. It reads and never judges: whether a bar is plausible is the
quality gate's question. A source that cannot be read raises one ``SourceError``, and nothing of it is taken.

A new file format is one function from a path to a ``Table``, named in ``files.FORMATS``.
"""

from flows.sources.bars import SourceBars, SourceNotes, read_bars
from flows.sources.demo import DEMO, bundled
from flows.sources.error import SourceError
from flows.sources.options import SourceOptions

__all__ = [
    "read_bars",
    "SourceOptions",
    "SourceBars",
    "SourceNotes",
    "SourceError",
    "DEMO",
    "bundled",
]
