"""Live bars: from Redis Streams through the gate into both stores, online at once and offline in batches.

``feed`` is the way into the streams and ``reader`` the way out. A ``session`` owns some of them: its ``arrivals`` are
the bars that are ready, ``fast_path`` computes them from the series in memory (``loaded``, under ``leases``), and the
``writer`` stores them. What is out of the ordinary takes the ``slow_path``, which is the batch flow. ``service`` keeps
sessions running. ``websocket``, ``klines`` and ``replay`` bring bars.

The values are those of the batch flow to the last bit: the same gate, the same derivation, the same kernels over the
same stretches. docs/live.md says what is promised.
"""

from flows.stream.bar import LiveBar
from flows.stream.config import StreamConfig
from flows.stream.feed import BackloggedError, Feed
from flows.stream.service import serve, stream

__all__ = ["LiveBar", "Feed", "BackloggedError", "StreamConfig", "stream", "serve"]
