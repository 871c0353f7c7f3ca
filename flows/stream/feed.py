"""The way into the streams: one Redis Stream per shard of symbols, with back-pressure on the producers.

A symbol's bars always go to the same stream, so they keep their order. An entry is deleted once its bar is stored
offline, so a stream's length is its backlog. Producers wait while the backlog is at its limit: nothing is ever dropped,
and Redis's memory stays bounded.
"""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flows.stream.bar import BadEntryError, LiveBar, to_fields, unreadable_fields

SHARDS = 16
"""The number of streams. Part of the protocol: producers and consumers of a project must agree on it."""
_CHUNK = 500
_PAUSE_S = 0.02


class BackloggedError(RuntimeError):
    """A stream is full and nothing empties it; the message says what to check."""


def shard_of(symbol: str) -> int:
    """The shard of a symbol, the same in every process, forever."""
    return zlib.crc32(symbol.encode()) % SHARDS


def stream_key(project: str, shard: int) -> str:
    """The Redis key of a shard; the braces keep all shards on one node of a Cluster, so one read serves them all."""
    return f"fstore:bars:{{{project}}}:{shard}"


class Feed:
    """Puts bars into the streams. Safe to share between threads.

    Args:
        client: a synchronous redis-py client.
        limit: entries a shard may hold before producers wait.
        timeout_s: how long a producer waits at most.
    """

    def __init__(
        self,
        client: Any,
        project: str,
        *,
        limit: int = 10_000,
        timeout_s: float = 120.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self._client, self._project, self._limit = client, project, limit
        self._timeout_s, self._sleep, self._clock = timeout_s, sleep, clock
        self._room: dict[str, int] = {}

    def put(self, bars: Iterable[LiveBar]) -> None:
        """Appends bars, each symbol's in the given order, and waits while a shard is full.

        Raises:
            BackloggedError: a shard stayed full for ``timeout_s``. Bars of other shards may have been accepted; putting
                all of them again does no harm.
        """
        shards: dict[int, list[Mapping[str, str]]] = defaultdict(list)
        for bar in bars:
            shards[shard_of(bar.symbol)].append(to_fields(bar))
        for shard, entries in shards.items():
            self._put(shard, entries)

    def put_unreadable(self, text: str, error: BadEntryError) -> None:
        """Passes on what a source sent instead of a bar, and why; the consumer quarantines it for inspection."""
        self._put(0, [unreadable_fields(text, error)])

    def backlog(self) -> int:
        """The number of entries whose bars are not stored offline yet."""
        with self._client.pipeline(transaction=False) as pipe:
            for shard in range(SHARDS):
                pipe.xlen(stream_key(self._project, shard))
            return sum(pipe.execute())

    def _put(self, shard: int, entries: Sequence[Mapping[str, str]]) -> None:
        key, at, since = stream_key(self._project, shard), 0, self._clock()
        while at < len(entries):
            # The room known from the last call saves asking: a lone bar is one round trip.
            room = self._room.get(key, 0) or self._limit - int(self._client.xlen(key))
            if room > 0:
                part = entries[at : at + min(room, _CHUNK)]
                self._room[key] = max(self._limit - self._add(key, part), 0)
                at, since = at + len(part), self._clock()
            elif self._clock() - since > self._timeout_s:
                raise BackloggedError(
                    f"{key} has been full ({self._limit} bars) for {self._timeout_s:g} s: "
                    "is `fstore stream` running, and what does its log say?"
                )
            else:
                self._sleep(_PAUSE_S)

    def _add(self, key: str, entries: Sequence[Mapping[str, str]]) -> int:
        with self._client.pipeline(transaction=False) as pipe:
            for fields in entries:
                pipe.xadd(key, fields)
            pipe.xlen(key)
            return int(pipe.execute()[-1])
