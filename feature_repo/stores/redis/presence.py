"""What the online store has of symbols: each view's revision, where the view is whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from feature_repo.catalog import VIEW_KINDS, view
from feature_repo.stores.redis.codec import entity_key, field_key, revision_key, timestamp_key


def whole_views(client: Any, project: str, series: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[bytes]]:
    """The revisions of the views of each symbol and timeframe of which the store has all, every field included.

    One round trip, however many they are, in which names of fields travel and no value. Fields that are none of theirs
    (doubts, fences, other timeframes, an indicator that has gone) do not matter.
    """
    timeframes: dict[str, list[str]] = defaultdict(list)
    for symbol, timeframe in series:
        timeframes[symbol].append(timeframe)
    with client.pipeline(transaction=False) as pipe:
        for symbol, those in timeframes.items():
            pipe.hkeys(entity_key(symbol, project))
            pipe.hmget(entity_key(symbol, project), [key for tf in those for key in _revisions(tf)])
        told = iter(pipe.execute() if timeframes else [])
    found: dict[tuple[str, str], list[bytes]] = {}
    for symbol, those in timeframes.items():
        names, revisions = frozenset(next(told)), iter(next(told))
        for timeframe in those:
            held = [next(revisions) for _ in VIEW_KINDS]
            if None not in held and _fields(timeframe) <= names:
                found[symbol, timeframe] = held
    return found


@cache
def _revisions(timeframe: str) -> tuple[bytes, ...]:
    return tuple(revision_key(view(kind, timeframe).name) for kind in VIEW_KINDS)


@cache
def _fields(timeframe: str) -> frozenset[bytes]:
    views = [view(kind, timeframe) for kind in VIEW_KINDS]
    return frozenset(
        key for spec in views for key in (timestamp_key(spec.name), *(field_key(spec.name, f) for f in spec.fields))
    )
