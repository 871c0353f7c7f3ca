"""The cache that answers repeated questions: values in this process's memory and, if asked for, a tier others share.

Without ``redis_url`` no method ever waits for anything, so the plain methods are right everywhere. With it, ``get``
and its like ask Redis too, and wait for at most ``timeout_s``: their twins ``aget`` and its like do the same from an
event loop without blocking it. A hit in memory costs the same in both and asks no server.

The shared tier reaches other processes' later questions, not their memory: what another process has read stays in its
memory until its own time to live ends, wherever it is invalidated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fsclient.cache.isolation import Sealed, seal
from fsclient.cache.memory import MemoryCache

if TYPE_CHECKING:
    from fsclient.cache.shared import SharedCache, SharedHit


class FeatureCache:
    """Values by string keys, each for its own time; the least recently used make room. Thread-safe.

    A value belongs to its caller: what is changed in a frame after it was stored, or in one that was got, changes
    nothing in the cache or in another caller's. ``None`` is a value like others; pass ``get`` another default to
    distinguish it from a miss.

    Args:
        max_size: the most entries.
        default_ttl: seconds that an entry lives when ``set`` names no other.
        redis_url: adds the shared tier: ``redis://``, ``rediss://`` or ``unix://``. Whatever fails there is a miss.
        max_bytes: about the most memory that the entries take; a larger value is not kept.
        timeout_s: the longest a question to the shared tier takes.
        clock: monotonic seconds.

    Attributes:
        is_shared: whether other processes share it.

    Raises:
        ValueError: a limit or time that is not positive, or an invalid URL.
    """

    def __init__(
        self,
        max_size: int = 1000,
        default_ttl: float = 300.0,
        redis_url: str | None = None,
        *,
        max_bytes: int = 512 * 2**20,
        timeout_s: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, limit in (("max_size", max_size), ("max_bytes", max_bytes)):
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, not {limit}")
        self._default_ttl_s = _positive(default_ttl, "default_ttl")
        self._memory = MemoryCache(max_size=max_size, max_bytes=max_bytes, clock=clock)
        self._shared = _connect(redis_url, timeout_s)
        self.is_shared = self._shared is not None
        self._shared_hits = 0

    # --------------------------------------------------------------------------------------------- lookups

    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, the caller's own copy; ``default`` when there is none.

        Raises:
            TypeError: ``key`` is not a string.
        """
        sealed = self._memory.lookup(key)
        if sealed is not None:
            return sealed.fresh()
        if self._shared is None:
            return default
        removals = self._memory.removals
        return self._adopt(key, self._shared.get(key), removals, default)

    async def aget(self, key: str, default: Any = None) -> Any:
        """As ``get``."""
        sealed = self._memory.lookup(key)
        if sealed is not None:
            return sealed.fresh()
        if self._shared is None:
            return default
        removals = self._memory.removals
        return self._adopt(key, await self._shared.aget(key), removals, default)

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Keep a copy of ``value`` under ``key`` for ``ttl`` seconds, by default ``default_ttl``.

        Raises:
            ValueError: ``ttl`` is not positive.
            TypeError: ``key`` is not a string, or ``value`` is something that cannot be copied, such as a connection.
        """
        ttl_s, sealed = self._store(key, value, ttl)
        if self._shared is not None:
            self._shared.set(key, sealed.fresh(), ttl_s)

    async def aset(self, key: str, value: Any, ttl: float | None = None) -> None:
        """As ``set``."""
        ttl_s, sealed = self._store(key, value, ttl)
        if self._shared is not None:
            await self._shared.aset(key, sealed.fresh(), ttl_s)

    # ---------------------------------------------------------------------------------------- invalidation

    # The shared tier goes first: no call can then take an old value from there into memory afterwards.

    def invalidate(self, key: str) -> bool:
        """Forget ``key``; whether memory held it."""
        if self._shared is not None:
            self._shared.invalidate(key)
        return self._memory.remove((key,)) > 0

    async def ainvalidate(self, key: str) -> bool:
        """As ``invalidate``."""
        try:
            if self._shared is not None:
                await self._shared.ainvalidate(key)
        finally:
            removed = self._memory.remove((key,))
        return removed > 0

    def invalidate_prefix(self, prefix: str) -> int:
        """Forget every key that starts with ``prefix``; how many memory held."""
        if self._shared is not None:
            self._shared.invalidate_prefix(prefix)
        return self._memory.remove_prefix(prefix)

    def forget_prefix(self, prefix: str) -> int:
        """Forget every key that starts with ``prefix`` in memory alone; how many it held."""
        return self._memory.remove_prefix(prefix)

    async def ainvalidate_prefix(self, prefix: str) -> int:
        """As ``invalidate_prefix``."""
        try:
            if self._shared is not None:
                await self._shared.ainvalidate_prefix(prefix)
        finally:
            removed = self._memory.remove_prefix(prefix)
        return removed

    def clear(self) -> None:
        """Forget everything, in the shared tier too. The stats go on."""
        self.invalidate_prefix("")

    async def aclear(self) -> None:
        """As ``clear``."""
        await self.ainvalidate_prefix("")

    # ----------------------------------------------------------------------------------------------- state

    def get_stats(self) -> dict[str, int | float]:
        """Counts since the cache was made, and what it holds now.

        Returns:
            ``hits`` (of which ``shared_hits`` came from the shared tier), ``misses``, ``hit_rate`` (0 to 1; 0 before
            the first lookup), ``evictions`` (for lack of room), ``expirations`` (time over; counted when noticed),
            ``invalidations`` (entries removed by hand), ``size`` (entries), ``bytes`` (estimated), and
            ``shared_failures`` (calls to the shared tier that failed or took too long).
        """
        stats = self._memory.stats()
        lookups = stats["hits"] + stats["misses"]
        hits = stats["hits"] + self._shared_hits
        return {
            **stats,
            "hits": hits,
            "misses": lookups - hits,
            "hit_rate": hits / lookups if lookups else 0.0,
            "shared_hits": self._shared_hits,
            "shared_failures": 0 if self._shared is None else self._shared.failures,
        }

    def close(self) -> None:
        """Ends the shared tier's connections; memory goes on. Harmless when called twice."""
        if self._shared is not None:
            self._shared.close()

    def _store(self, key: str, value: Any, ttl: float | None) -> tuple[float, Sealed]:
        ttl_s = self._default_ttl_s if ttl is None else _positive(ttl, "ttl")
        sealed = seal(value)
        self._memory.put(key, sealed, ttl_s)
        return ttl_s, sealed

    def _adopt(self, key: str, hit: SharedHit | None, removals: int, default: Any) -> Any:
        """Take what the shared tier returned into memory, for the rest of its life and no longer."""
        if hit is None:
            return default
        self._shared_hits += 1
        sealed = seal(hit.value)
        self._memory.put_unless_changed(key, sealed, hit.ttl_s, removals)
        return sealed.fresh()


def _positive(seconds: float, name: str) -> float:
    if not seconds > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {seconds}")
    return float(seconds)


def _connect(redis_url: str | None, timeout_s: float) -> SharedCache | None:
    if redis_url is None:
        return None
    from fsclient.cache.shared import SharedCache  # Redis and Arrow are loaded only for a shared tier

    return SharedCache(redis_url, timeout_s=timeout_s)
