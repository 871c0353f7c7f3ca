"""The stream of publishes for listening clients: one line of JSON each, and one at least every second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import orjson

from fsclient.cache.invalidator import CacheInvalidator, Pair

BEAT_S = 1.0
_MAX_WAITING = 1_000
"""A listener that is further behind is disconnected, and connects again."""
_ALIVE = b"{}\n"


async def lines(invalidator: CacheInvalidator, may_continue: Callable[[], bool]) -> AsyncIterator[bytes]:
    """``{"changed": [["EUR/USD", "1h"]]}`` after the service's own cache has forgotten it; ``{}`` in between.

    It ends when a publish may have been missed, so that the listener knows to drop everything it has cached.

    Args:
        may_continue: called every second; the stream ends when it returns False.
    """
    waiting: asyncio.Queue[Sequence[Pair] | None] = asyncio.Queue()
    stop = invalidator.watch(waiting.put_nowait)
    try:
        yield _ALIVE
        while invalidator.is_listening and waiting.qsize() <= _MAX_WAITING and may_continue():
            try:
                async with asyncio.timeout(BEAT_S):
                    changed = await waiting.get()
            except TimeoutError:
                yield _ALIVE
                continue
            if changed is None:
                return
            yield orjson.dumps({"changed": changed}) + b"\n"
    finally:
        stop()
