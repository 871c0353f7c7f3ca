"""What the online store has of a symbol: each view's revision, where the view is whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from feature_repo.catalog import VIEW_KINDS, Timeframe, view
from feature_repo.stores.codec import entity_key, field_key, revision_key, timestamp_key

# The revisions, if every field is there: which is asked of the server, so that no value travels. Fields that are not
# asked for (doubts, fences, other timeframes, an indicator that has gone) do not matter.
_SCRIPT = """
local revisions = tonumber(ARGV[1])
for at = 2 + revisions, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[at]) == 0 then return {} end
end
return redis.call('HMGET', KEYS[1], unpack(ARGV, 2, 1 + revisions))
"""


def whole_views(client: Any, project: str, timeframe: Timeframe, symbols: Iterable[str]) -> dict[str, list[bytes]]:
    """The revisions of a timeframe's views, of each symbol of which the store has all of them, every field included.

    One round trip, however many symbols.
    """
    views = [view(kind, timeframe.name) for kind in VIEW_KINDS]
    revisions = [revision_key(spec.name) for spec in views]
    fields = [
        key for spec in views for key in (timestamp_key(spec.name), *(field_key(spec.name, f) for f in spec.fields))
    ]
    asked = [*symbols]
    with client.pipeline(transaction=False) as pipe:
        for symbol in asked:
            pipe.eval(_SCRIPT, 1, entity_key(symbol, project), len(revisions), *revisions, *fields)
        held = pipe.execute() if asked else []
    return {symbol: found for symbol, found in zip(asked, held, strict=True) if found and None not in found}
