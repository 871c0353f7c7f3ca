"""The complete views of symbols in the online store, with their revisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from feature_repo.catalog import VIEW_KINDS, view
from feature_repo.stores.redis.codec import entity_key, field_key, revision_key, timestamp_key


def whole_views(client: Any, project: str, series: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[bytes]]:
    """The revisions of the views of each symbol and timeframe that is complete, every field included.

    One round trip for all of them, which transfers names of fields and no values. Other fields in the same hash
    (doubts, fences, other timeframes, an indicator that has gone) do not matter.
    """
    timeframes: dict[str, list[str]] = defaultdict(list)
    for symbol, timeframe in series:
        timeframes[symbol].append(timeframe)
    with client.pipeline(transaction=False) as pipe:
        for symbol, names in timeframes.items():
            pipe.hkeys(entity_key(symbol, project))
            pipe.hmget(entity_key(symbol, project), [key for tf in names for key in _revision_keys(tf)])
        replies = iter(pipe.execute() if timeframes else [])
    complete: dict[tuple[str, str], list[bytes]] = {}
    for symbol, names in timeframes.items():
        fields, cells = frozenset(next(replies)), iter(next(replies))
        for timeframe in names:
            revisions = [next(cells) for _ in VIEW_KINDS]
            if None not in revisions and _fields(timeframe) <= fields:
                complete[symbol, timeframe] = revisions
    return complete


@cache
def _revision_keys(timeframe: str) -> tuple[bytes, ...]:
    return tuple(revision_key(view(kind, timeframe).name) for kind in VIEW_KINDS)


@cache
def _fields(timeframe: str) -> frozenset[bytes]:
    views = [view(kind, timeframe) for kind in VIEW_KINDS]
    return frozenset(
        key for spec in views for key in (timestamp_key(spec.name), *(field_key(spec.name, f) for f in spec.fields))
    )
