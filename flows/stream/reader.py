"""The way out of the streams: a consumer group on the shards, which delivers at least once.

An entry stays pending until its bar is durable offline. The owner of a shard (``service``) takes over what any earlier
owner left pending there, oldest first, before it reads on. So no death of a process loses a bar, and each symbol's bars
keep their order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from flows.stream.feed import stream_key

GROUP = "fstore-stream"
_CLAIM = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a shard.

    Attributes:
        id: Redis's own, ``milliseconds-number`` of the arrival.
    """

    shard: int
    id: bytes
    fields: Mapping[bytes, bytes]

    @property
    def arrived_s(self) -> float:
        """When it arrived by Redis's clock, seconds since 1970-01-01 UTC."""
        return int(self.id.partition(b"-")[0]) / 1e3


class Reader:
    """Reads shards that the caller owns.

    Args:
        consumer: this owner's name; no other owner has it.
    """

    def __init__(self, client: Any, project: str, shards: Sequence[int], *, consumer: str) -> None:
        self._client, self._consumer = client, consumer
        self._keys = {stream_key(project, shard): shard for shard in shards}
        self._of = {shard: key for key, shard in self._keys.items()}

    def begin(self) -> list[Entry]:
        """Takes over everything pending, whichever consumer left it, oldest first."""
        pending: list[Entry] = []
        for key, shard in self._keys.items():
            try:
                self._client.xgroup_create(key, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
            cursor: bytes = b"0-0"
            while True:
                # Only the owner reads a shard, so any other consumer with pending entries there is gone.
                cursor, entries, *_ = self._client.xautoclaim(key, GROUP, self._consumer, 0, cursor, count=_CLAIM)
                pending += [Entry(shard=shard, id=at, fields=fields) for at, fields in entries if fields]
                if cursor == b"0-0":
                    break
            for other in self._client.xinfo_consumers(key, GROUP):
                if other["name"] != self._consumer.encode() and not other["pending"]:
                    self._client.xgroup_delconsumer(key, GROUP, other["name"])
        return pending

    def read(self, *, count: int, block_ms: int | None) -> list[Entry]:
        """Up to ``count`` new entries per shard; waits for the first one at most ``block_ms`` (None: not at all)."""
        streams = dict.fromkeys(self._keys, ">")
        answer = self._client.xreadgroup(GROUP, self._consumer, streams, count=count, block=block_ms) or []
        return [
            Entry(shard=self._keys[key.decode()], id=at, fields=fields)
            for key, entries in answer
            for at, fields in entries
        ]

    def acknowledge(self, entries: Iterable[Entry]) -> None:
        """Removes entries whose bars are durable."""
        ids: dict[int, list[bytes]] = defaultdict(list)
        for entry in entries:
            ids[entry.shard].append(entry.id)
        with self._client.pipeline(transaction=False) as pipe:
            for shard, shard_ids in ids.items():
                pipe.xack(self._of[shard], GROUP, *shard_ids)
                pipe.xdel(self._of[shard], *shard_ids)
            pipe.execute()

    def end(self) -> None:
        """Takes this consumer out of the group, unless entries are still pending."""
        for key in self._keys:
            try:
                consumers = self._client.xinfo_consumers(key, GROUP)
            except ResponseError:  # the stream was removed
                continue
            if any(c["name"] == self._consumer.encode() and not c["pending"] for c in consumers):
                self._client.xgroup_delconsumer(key, GROUP, self._consumer)
