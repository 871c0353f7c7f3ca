"""Live bars: from a Redis Stream through the gate into both stores, at once online and in batches offline.

``feed`` is the way in and ``reader`` the way out of the streams; ``session`` owns some of them and takes their bars
along the hot path (``hot``: one ``series`` a symbol and timeframe, ``newest`` its indicators) into a ``batch``, or sets
them aside for the batch flow (``cold``); ``service`` keeps sessions running. ``websocket``, ``klines`` and ``replay``
bring bars.

The values are those of the batch flow, to the last bit: it is the same gate, the same derivation, the same kernels over
the same stretches. docs/live.md tells what is promised.
"""

from flows.stream.bar import LiveBar
from flows.stream.feed import BackloggedError, Feed
from flows.stream.service import serve, stream
from flows.stream.session import Pace

__all__ = ["LiveBar", "Feed", "BackloggedError", "Pace", "stream", "serve"]
