"""The cache's tier in memory: sealed values by key, each for its own time, bounded in number and in bytes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable

from cachetools import TLRUCache

from fsclient.cache.isolation import Sealed


class _Entry:
    __slots__ = ("ends_at", "nbytes", "sealed")

    def __init__(self, key: str, sealed: Sealed, ends_at: float) -> None:
        self.sealed = sealed
        self.ends_at = ends_at
        self.nbytes = sys.getsizeof(key) + sealed.nbytes


class MemoryCache:
    """What ``isolation.seal`` returned, by string keys; the least recently used make room. Thread-safe.

    Attributes:
        removals: calls that removed entries by hand so far.
    """

    def __init__(self, *, max_size: int, max_bytes: int, clock: Callable[[], float]) -> None:
        self._max_size = max_size
        self._max_bytes = max_bytes
        # Reentrant: a signal handler that logs the stats may interrupt its own thread inside the lock.
        self._lock = threading.RLock()
        self._entries: TLRUCache[str, _Entry] = TLRUCache(
            max_bytes, ttu=lambda _key, entry, _now: entry.ends_at, timer=clock, getsizeof=lambda entry: entry.nbytes
        )
        self.removals = 0
        self._hits = self._misses = self._evictions = self._expirations = self._invalidations = 0

    def lookup(self, key: str) -> Sealed | None:
        """The sealed value; None when there is none.

        Raises:
            TypeError: ``key`` is not a string.
        """
        with self._lock:
            try:
                entry = self._entries[key]
            except KeyError:
                _check_key(key)
                self._misses += 1
                return None
            self._hits += 1
            return entry.sealed

    def put(self, key: str, sealed: Sealed, ttl_s: float) -> None:
        """Keep a sealed value for ``ttl_s`` seconds, if it fits at all; what was under the key is gone either way.

        Raises:
            TypeError: ``key`` is not a string.
        """
        _check_key(key)
        with self._lock, self._entries.timer as now:
            self._expire(now)
            if key in self._entries:
                del self._entries[key]
            entry = _Entry(key, sealed, now + ttl_s)
            if entry.nbytes > self._max_bytes:
                self._evictions += 1
                return
            size = len(self._entries)
            while size >= self._max_size:
                self._entries.popitem()
                self._evictions += 1
                size -= 1
            self._entries[key] = entry
            self._evictions += size + 1 - len(self._entries)

    def put_unless_changed(self, key: str, sealed: Sealed, ttl_s: float, removals: int) -> None:
        """As ``put``, unless the key has a value again or something was removed since ``removals`` was read."""
        with self._lock:
            if key not in self._entries and self.removals == removals:
                self.put(key, sealed, ttl_s)

    def remove(self, keys: Iterable[str]) -> int:
        """Forget these keys; how many there were."""
        with self._lock, self._entries.timer as now:
            self._expire(now)
            self.removals += 1
            removed = sum(self._entries.pop(key, None) is not None for key in keys)
            self._invalidations += removed
            return removed

    def remove_prefix(self, prefix: str) -> int:
        """Forget the keys that start with ``prefix``; how many there were."""
        with self._lock:
            return self.remove([key for key in self._entries if key.startswith(prefix)])

    def stats(self) -> dict[str, int]:
        """Counts since it was made, and the entries and bytes that it holds now."""
        with self._lock, self._entries.timer as now:
            self._expire(now)
            return {
                "hits": self._hits,
                "misses": self._misses,
                "evictions": self._evictions,
                "expirations": self._expirations,
                "invalidations": self._invalidations,
                "size": len(self._entries),
                "bytes": int(self._entries.currsize),
            }

    def _expire(self, now: float) -> None:
        self._expirations += len(self._entries.expire(now))


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"cache keys are strings, not {key!r}")
