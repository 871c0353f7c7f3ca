"""The guarded, atomic write of a symbol's views: the only way into the online store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from feature_repo.stores.fence import FencedOutError
from feature_repo.stores.redis.codec import (
    FENCE_KEY,
    encode_timestamp,
    entity_key,
    revision,
    revision_key,
    timestamp_key,
)

CHANNEL_PREFIX = "fstore:published:"

# Each view of one symbol is written when it is newer than the stored one, by bar and then by revision, or when the
# stored one is the same and no longer complete. All views change in this one script, so no reader ever sees an hour's
# close beside another hour's RSI. Caches in every process receive a message with the symbol and its views. A run that
# works under a lease passes its fencing token: once a later token has written the symbol, an earlier one is refused.
_SCRIPT = """
local fence_field, fence = ARGV[3], ARGV[4]
if fence ~= '' then
  local highest = redis.call('HGET', KEYS[1], fence_field)
  if highest and highest > fence then return redis.error_reply('FENCED a later run has written this symbol') end
  if highest ~= fence then redis.call('HSET', KEYS[1], fence_field, fence) end
end
local function is_whole(at, n)
  for field = at + 5, at + 4 + 2 * n, 2 do
    if redis.call('HEXISTS', KEYS[1], ARGV[field]) == 0 then return false end
  end
  return redis.call('HEXISTS', KEYS[1], ARGV[at]) == 1
end
local at, changed, done = 5, false, {}
while at <= #ARGV do
  local ts_field, ts, rev_field, rev, n = ARGV[at], ARGV[at+1], ARGV[at+2], ARGV[at+3], tonumber(ARGV[at+4])
  local stored = redis.call('HGET', KEYS[1], rev_field)
  if not stored or stored < rev or (stored == rev and not is_whole(at, n)) then
    redis.call('HSET', KEYS[1], ts_field, ts, rev_field, rev, unpack(ARGV, at + 5, at + 4 + 2 * n))
    done[#done+1] = 1
    changed = true
  else
    done[#done+1] = 0
  end
  at = at + 5 + 2 * n
end
if changed then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
return done
"""
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # how Redis names a script


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRow:
    """One view's newest values of one symbol, encoded.

    Attributes:
        view: name of the view.
        event_us: close of the newest bar, microseconds since 1970-01-01 UTC.
        created_us: when the newest revision that these values depend on was written, same unit.
        values: hash field -> stored bytes.
    """

    view: str
    event_us: int
    created_us: int
    values: Mapping[bytes, bytes]


def channel(project: str) -> str:
    """The channel on which publishes are announced: a message is the symbol, a newline, and the names of the views."""
    return CHANNEL_PREFIX + project


def publish(
    client: Any, project: str, symbol: str, rows: Sequence[ViewRow], *, fence: int | None = None
) -> tuple[bool, ...]:
    """Writes all ``rows`` of a symbol in one step.

    Args:
        client: a synchronous redis-py client (single server, Sentinel or Cluster).
        fence: the token of the lease under which the caller works; None writes without one, as Feast does.

    Returns:
        For each row whether it was written; False: the store has all of that bar at that revision, or a newer one.

    Raises:
        FencedOutError: a later token has written the symbol.
    """
    message = symbol + "\n" + " ".join(row.view for row in rows)
    args: list[bytes | str | int] = [channel(project), message, FENCE_KEY, "" if fence is None else b"%020d" % fence]
    for row in rows:
        args += [timestamp_key(row.view), encode_timestamp(row.event_us)]
        args += [revision_key(row.view), revision(row.event_us, row.created_us), len(row.values)]
        for field, value in row.values.items():
            args += [field, value]
    key = entity_key(symbol, project)
    try:
        done = _run(client, key, args)
    except ResponseError as error:
        if str(error).startswith("FENCED"):
            raise FencedOutError(f"{symbol}: a later run has published it; this one lost its lease") from None
        raise
    return tuple(bool(written) for written in done)


def _run(client: Any, key: bytes, args: Sequence[bytes | str | int]) -> Any:
    try:
        return client.evalsha(_SHA, 1, key, *args)
    except NoScriptError:
        return client.eval(_SCRIPT, 1, key, *args)
