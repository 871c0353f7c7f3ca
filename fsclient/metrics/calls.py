"""One call of the client as a record, and the counts of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from fsclient.metrics.histogram import BUCKETS, bucket_of


class CallRecord(NamedTuple):
    """One call of the client. Immutable; a named tuple because it is made for every call, at a third of the cost.

    Attributes:
        method: the client's method, such as ``get_latest``.
        symbol: what it was asked about; None for several symbols.
        timeframe: as asked, such as ``1h``.
        source: where the answer came from, as in its provenance; None when there was none.
        duration_s: seconds from call to answer.
        error: the name of the error's class; None when it was answered.
        cache_hit: whether the cache had the answer; None when it was not asked.
        stale: whether the answer may not be what the store would say now.
        attempts: how often a store was asked; 0 for an answer from the cache.
        rows: rows of the answer.
    """

    method: str
    symbol: str | None = None
    timeframe: str | None = None
    source: str | None = None
    duration_s: float = 0.0
    error: str | None = None
    cache_hit: bool | None = None
    stale: bool = False
    attempts: int = 1
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCounts:
    """All calls of one method that were answered from one source; None for those that were not answered.

    Attributes:
        errors: calls by the name of their error.
        retries: attempts after the first.
        seconds: durations added up.
        buckets: calls by duration, see ``histogram``.
    """

    method: str
    source: str | None
    calls: int
    errors: Mapping[str, int]
    cache_hits: int
    cache_misses: int
    stale: int
    retries: int
    rows: int
    seconds: float
    buckets: tuple[int, ...]

    @property
    def is_fallback(self) -> bool:
        """Whether the source stood in for the store."""
        return is_fallback(self.method, self.source)


def is_fallback(method: str, source: str | None) -> bool:
    """Whether such an answer stood in for the store's; recomputing is ``compute_feature``'s ordinary way."""
    return source == "last_good" or (source == "recomputed" and method != "compute_feature")


class CallCounter:
    """Counts the calls of one method and source. Not thread-safe."""

    __slots__ = ("buckets", "calls", "errors", "hits", "misses", "retries", "rows", "seconds", "stale")

    def __init__(self) -> None:
        self.calls = self.hits = self.misses = self.stale = self.retries = self.rows = 0
        self.seconds = 0.0
        self.errors: dict[str, int] = {}
        self.buckets = [0] * BUCKETS

    def count(self, call: CallRecord) -> int:
        """Count one more; the bucket that it is counted in."""
        _, _, _, _, duration_s, error, cache_hit, stale, attempts, rows = call  # faster than attribute by attribute
        bucket = bucket_of(duration_s)
        self.calls += 1
        self.seconds += duration_s
        self.buckets[bucket] += 1
        self.rows += rows
        if cache_hit is not None:
            self.hits += cache_hit
            self.misses += not cache_hit
        if error is not None:
            self.errors[error] = self.errors.get(error, 0) + 1
        if stale:
            self.stale += 1
        if attempts > 1:
            self.retries += attempts - 1
        return bucket

    def copy(self, method: str, source: str | None) -> CallCounts:
        """The counts so far."""
        return CallCounts(
            method=method,
            source=source,
            calls=self.calls,
            errors=dict(self.errors),
            cache_hits=self.hits,
            cache_misses=self.misses,
            stale=self.stale,
            retries=self.retries,
            rows=self.rows,
            seconds=self.seconds,
            buckets=tuple(self.buckets),
        )
