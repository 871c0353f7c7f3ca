"""What was counted within one minute or one hour, as rows that can be added up, packed small.

Two tables. By method and source, with all figures and the histogram's full resolution; adding rows of many processes
adds their histograms, so a percentile of the sum is as exact as one process's own. By method, source and symbol, with
fewer figures and every fourth bucket bound (two to a doubling), for a bounded number of symbols.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import orjson

from fsclient.metrics.calls import CallCounter, CallRecord
from fsclient.metrics.histogram import BUCKETS

COARSE: Final = 4
"""How many of the histogram's buckets make one of a symbol's."""
COARSE_BUCKETS: Final = -(-BUCKETS // COARSE)
OTHER: Final = "other"
"""What symbols beyond the bound are counted as."""
MAX_SYMBOL_ROWS: Final = 64
"""Rows by symbol that one process keeps for one minute."""
MAX_MERGED_ROWS: Final = 128
"""Rows by symbol that the sum over all processes keeps: those with the most calls."""

_FORMAT = b"\x01"


class SlotRows(NamedTuple):
    """A packed slot's content, as lists that JSON holds.

    Attributes:
        series: ``[method, source, calls, hits, misses, stale, retries, rows, seconds, {error: calls}, histogram]``;
            the source is ``""`` for calls that were not answered.
        symbols: ``[method, source, symbol, calls, errors, hits, misses, coarse histogram]``.
        states: name -> state -> how many times it was seen, such as ``{"breaker.online": {"open": 3}}``.

    A histogram is ``[number of its first bucket, calls in it, calls in the next, ...]``, ``[]`` when empty.
    """

    series: list[list[Any]]
    symbols: list[list[Any]]
    states: dict[str, dict[str, int]]


class SymbolCounter:
    """Counts one symbol's calls of one method and source. Not thread-safe."""

    __slots__ = ("buckets", "calls", "errors", "hits", "misses")

    def __init__(self) -> None:
        self.calls = self.errors = self.hits = self.misses = 0
        self.buckets = [0] * COARSE_BUCKETS

    def count(self, bucket: int, error: str | None, cache_hit: bool | None) -> None:
        """Count one more, of a bucket of ``histogram``."""
        self.calls += 1
        self.buckets[bucket // COARSE] += 1
        if error is not None:
            self.errors += 1
        if cache_hit is not None:
            self.hits += cache_hit
            self.misses += not cache_hit


class Slot:
    """The counts of a minute or an hour. Not thread-safe."""

    __slots__ = ("_counters", "_series", "_states", "_symbols")

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], CallCounter] = {}
        self._symbols: dict[tuple[str, str, str], SymbolCounter] = {}
        self._states: dict[str, dict[str, int]] = {}
        self._counters: dict[tuple[str, str | None, str | None], tuple[CallCounter, SymbolCounter | None]] = {}

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return bool(self._series or self._states)

    def count(self, call: CallRecord) -> None:
        """Count one call."""
        method, symbol, _, source, _, error, cache_hit, _, _, _ = call
        counters = self._counters.get((method, source, symbol))
        if counters is None:
            counters = self._new_counters(method, source, symbol)
        series, row = counters
        bucket = series.count(call)
        if row is not None:
            row.count(bucket, error, cache_hit)

    def _new_counters(
        self, method: str, source: str | None, symbol: str | None
    ) -> tuple[CallCounter, SymbolCounter | None]:
        """The counters of such calls, looked up directly from the second call on."""
        about = method, source or ""
        series = self._series.setdefault(about, CallCounter())
        if symbol is None:
            row = None
        elif (*about, symbol) in self._symbols or len(self._symbols) < MAX_SYMBOL_ROWS:
            row = self._symbols.setdefault((*about, symbol), SymbolCounter())
        else:
            return series, self._symbols.setdefault((*about, OTHER), SymbolCounter())
        self._counters[method, source, symbol] = series, row
        return series, row

    def see(self, states: Mapping[str, str]) -> None:
        """Count each of the states once."""
        for name, state in states.items():
            seen = self._states.setdefault(name, {})
            seen[state] = seen.get(state, 0) + 1

    def add(self, rows: SlotRows) -> None:
        """Add another slot's counts, of this or of another process."""
        for method, source, calls, hits, misses, stale, retries, answered, seconds, errors, histogram in rows.series:
            to = self._series.get((method, source))
            if to is None:
                to = self._series[method, source] = CallCounter()
            to.calls += calls
            to.hits += hits
            to.misses += misses
            to.stale += stale
            to.retries += retries
            to.rows += answered
            to.seconds += seconds
            for kind, number in errors.items():
                to.errors[kind] = to.errors.get(kind, 0) + number
            _add(to.buckets, histogram)
        for method, source, symbol, calls, failed, hits, misses, histogram in rows.symbols:
            row = self._symbols.get((method, source, symbol))
            if row is None:
                row = self._symbols[method, source, symbol] = SymbolCounter()
            row.calls += calls
            row.errors += failed
            row.hits += hits
            row.misses += misses
            _add(row.buckets, histogram)
        for name, states in rows.states.items():
            seen = self._states.setdefault(name, {})
            for state, times in states.items():
                seen[state] = seen.get(state, 0) + times

    def rows(self, *, max_symbols: int = MAX_MERGED_ROWS) -> SlotRows:
        """The counts as rows. Beyond ``max_symbols`` rows by symbol, those with the fewest calls become one."""
        return SlotRows(
            series=[
                [
                    *key,
                    c.calls,
                    c.hits,
                    c.misses,
                    c.stale,
                    c.retries,
                    c.rows,
                    round(c.seconds, 6),
                    {**c.errors},
                    _sparse(c.buckets),
                ]
                for key, c in self._series.items()
            ],
            symbols=self._bounded(max_symbols),
            states={name: dict(seen) for name, seen in self._states.items()},
        )

    def _bounded(self, most: int) -> list[list[Any]]:
        rows = self._symbols
        if len(rows) > most:
            # Each method and source may need a row for the others beside the rows that are kept.
            kept = sorted((key for key in rows if key[2] != OTHER), key=lambda key: rows[key].calls, reverse=True)
            room = max(0, most - len({key[:2] for key in rows}))
            others = Slot()
            others.add(SlotRows([], [_symbol_row(key, rows[key]) for key in kept[:room]], {}))
            left = [key for key in rows if key not in set(kept[:room])]
            others.add(SlotRows([], [_symbol_row((*key[:2], OTHER), rows[key]) for key in left], {}))
            rows = others._symbols
        return [_symbol_row(key, row) for key, row in rows.items()]


def _symbol_row(key: tuple[str, str, str], row: SymbolCounter) -> list[Any]:
    return [*key, row.calls, row.errors, row.hits, row.misses, _sparse(row.buckets)]


def pack(rows: SlotRows) -> bytes:
    """Rows as bytes: a format number and compressed JSON. About 1 kB for a process's minute."""
    return _FORMAT + zlib.compress(orjson.dumps([*rows]), 6)


def unpack(packed: bytes) -> SlotRows:
    """The rows of ``pack``.

    Raises:
        ValueError: the bytes are not a packed slot, or of another release's format.
    """
    if packed[:1] != _FORMAT:
        raise ValueError(f"metrics in an unknown format {packed[:1]!r}: processes of another release write them")
    try:
        return SlotRows(*orjson.loads(zlib.decompress(packed[1:])))
    except (zlib.error, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError("metrics that are cut short or spoilt") from error


def merge(packed: Iterable[bytes]) -> SlotRows:
    """The sum of many packed slots; one that cannot be read counts nothing."""
    total = Slot()
    for slot in packed:
        try:
            total.add(unpack(slot))
        except ValueError:
            continue
    return total.rows()


def _add(buckets: list[int], histogram: list[int]) -> None:
    if histogram:
        for number, calls in enumerate(histogram[1:], histogram[0]):
            buckets[number] += calls


def _sparse(buckets: list[int]) -> list[int]:
    filled = [number for number, calls in enumerate(buckets) if calls]
    return [filled[0], *buckets[filled[0] : filled[-1] + 1]] if filled else []
