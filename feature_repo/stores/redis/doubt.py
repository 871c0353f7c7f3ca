"""The mark of doubt in the online store, on a symbol's views of a timeframe that failed a comparison.

It lies in the symbol's own hash beside the values, so that a lookup reads both in one step and serves marked values
as ``stale``. The mark changes together with a message on the channel of publishes, so that every cache drops its
entries of the symbol and timeframe.
"""

from __future__ import annotations

from typing import Any

from feature_repo.catalog import VIEW_KINDS, view
from feature_repo.stores.redis.codec import doubt_key, entity_key, field_key, revision_key, timestamp_key
from feature_repo.stores.redis.publish import channel

# Setting the same mark again, or removing one that is not set, changes and announces nothing.
_SCRIPT = """
local mark = redis.call('HGET', KEYS[1], ARGV[3])
if ARGV[4] == '' then
  if not mark then return 0 end
  redis.call('HDEL', KEYS[1], ARGV[3])
else
  if mark == ARGV[4] then return 0 end
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
"""


def mark_doubt(client: Any, project: str, symbol: str, timeframe: str, reason: str) -> bool:
    """Marks a symbol's views of a timeframe as in doubt. Returns whether that changed anything.

    Raises:
        ValueError: ``reason`` is empty.
    """
    if not reason:
        raise ValueError(f"{symbol} {timeframe}: a doubt needs a reason")
    return _set(client, project, symbol, timeframe, reason)


def lift_doubt(client: Any, project: str, symbol: str, timeframe: str) -> bool:
    """Removes the mark. Returns whether there was one."""
    return _set(client, project, symbol, timeframe, "")


def forget_revisions(client: Any, project: str, symbol: str, timeframe: str) -> None:
    """Removes the revisions of a symbol and timeframe, so that the next publish overwrites whatever is stored.

    For values that may be wrong at the very revision that they claim. Until then they are served as before, and
    ``whole_views`` no longer lists them.
    """
    client.hdel(entity_key(symbol, project), *(revision_key(view(kind, timeframe).name) for kind in VIEW_KINDS))


def withdraw_views(client: Any, project: str, symbol: str, timeframe: str) -> None:
    """Deletes the views of a symbol and timeframe that no longer has bars; caches are notified."""
    views = [view(kind, timeframe) for kind in VIEW_KINDS]
    fields = [key for spec in views for key in (timestamp_key(spec.name), revision_key(spec.name))]
    fields += [field_key(spec.name, field) for spec in views for field in spec.fields]
    if client.hdel(entity_key(symbol, project), *fields):
        client.publish(channel(project), symbol + "\n" + " ".join(spec.name for spec in views))


def _set(client: Any, project: str, symbol: str, timeframe: str, reason: str) -> bool:
    message = symbol + "\n" + " ".join(view(kind, timeframe).name for kind in VIEW_KINDS)
    arguments = [channel(project), message, doubt_key(timeframe), reason]
    return bool(client.eval(_SCRIPT, 1, entity_key(symbol, project), *arguments))
