"""The mark of doubt in the online store: a symbol's views of a timeframe that did not prove right.

It lies in the symbol's own hash, beside what it is about, so that a lookup reads both in one step; who reads it serves
the values as ``stale``. The mark changes together with a message on the channel of publishes, so that every cache
drops what it holds of the symbol and timeframe.
"""

from __future__ import annotations

from typing import Any

from feature_repo.catalog import VIEW_KINDS, view
from feature_repo.stores.redis.codec import doubt_key, entity_key, field_key, revision_key, timestamp_key
from feature_repo.stores.redis.publish import channel

# A mark that is there already, or gone already, is no news.
_SCRIPT = """
local held = redis.call('HGET', KEYS[1], ARGV[3])
if ARGV[4] == '' then
  if not held then return 0 end
  redis.call('HDEL', KEYS[1], ARGV[3])
else
  if held == ARGV[4] then return 0 end
  redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
"""


def mark_doubt(client: Any, project: str, symbol: str, timeframe: str, reason: str) -> bool:
    """Marks a symbol's views of a timeframe as in doubt. Returns whether that is news.

    Raises:
        ValueError: there is no reason.
    """
    if not reason:
        raise ValueError(f"{symbol} {timeframe}: a doubt needs a reason")
    return _set(client, project, symbol, timeframe, reason)


def lift_doubt(client: Any, project: str, symbol: str, timeframe: str) -> bool:
    """Takes the mark away. Returns whether there was one."""
    return _set(client, project, symbol, timeframe, "")


def forget_revisions(client: Any, project: str, symbol: str, timeframe: str) -> None:
    """Lets the next publish of a symbol and timeframe write whatever is held: its values may be wrong at the very
    revision that they claim. Until then they are served as before, and count as lost for whoever looks for that.
    """
    client.hdel(entity_key(symbol, project), *(revision_key(view(kind, timeframe).name) for kind in VIEW_KINDS))


def withdraw_views(client: Any, project: str, symbol: str, timeframe: str) -> None:
    """Deletes what is shown of a symbol and timeframe that has no bars any longer; caches hear of it."""
    views = [view(kind, timeframe) for kind in VIEW_KINDS]
    fields = [key for spec in views for key in (timestamp_key(spec.name), revision_key(spec.name))]
    fields += [field_key(spec.name, field) for spec in views for field in spec.fields]
    if client.hdel(entity_key(symbol, project), *fields):
        client.publish(channel(project), symbol + "\n" + " ".join(spec.name for spec in views))


def _set(client: Any, project: str, symbol: str, timeframe: str, reason: str) -> bool:
    message = symbol + "\n" + " ".join(view(kind, timeframe).name for kind in VIEW_KINDS)
    arguments = [channel(project), message, doubt_key(timeframe), reason]
    return bool(client.eval(_SCRIPT, 1, entity_key(symbol, project), *arguments))
