"""Live bars: from a Redis Stream through the gate into both stores, at once online and in batches offline.

``feed`` is the way in and ``reader`` the way out of the streams; ``session`` owns some of them and takes their bars, in
the order of their ``arrivals``, along the hot path (``hot``: one ``series`` a symbol and timeframe, ``newest`` its
indicators) into a ``batch``, which the ``writer`` stores, or sets them aside for the batch flow (``cold``). ``memory``
has the symbols that it holds. ``service`` keeps sessions running. ``websocket``, ``klines`` and ``replay`` bring bars.

The values are those of the batch flow, to the last bit: it is the same gate, the same derivation, the same kernels over
the same stretches. docs/live.md tells what is promised.
"""

from flows.stream.bar import LiveBar
from flows.stream.config import StreamConfig
from flows.stream.feed import BackloggedError, Feed
from flows.stream.service import serve, stream

__all__ = ["LiveBar", "Feed", "BackloggedError", "StreamConfig", "stream", "serve"]
