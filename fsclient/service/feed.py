"""What was published, told to everybody who listens: a line of JSON each, and one at least every second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import orjson

from fsclient.cache.invalidator import CacheInvalidator, Pair

BEAT_S = 1.0
_MAX_WAITING = 1_000
"""A listener who is further behind is let go; it begins anew."""
_ALIVE = b"{}\n"


async def lines(invalidator: CacheInvalidator, may_go_on: Callable[[], bool]) -> AsyncIterator[bytes]:
    """``{"changed": [["EUR/USD", "1h"]]}`` after the service's own cache has forgotten it; ``{}`` in between.

    It ends when a publish may have been missed: who listens then knows that it must forget everything.

    Args:
        may_go_on: asked every second.
    """
    waiting: asyncio.Queue[Sequence[Pair] | None] = asyncio.Queue()
    stop = invalidator.watch(waiting.put_nowait)
    try:
        yield _ALIVE
        while invalidator.is_listening and waiting.qsize() <= _MAX_WAITING and may_go_on():
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
