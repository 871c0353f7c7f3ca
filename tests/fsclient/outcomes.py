"""What a call in a fault comes to: its answer or error, and how soon."""

from __future__ import annotations

import time
from collections.abc import Awaitable

import pandas as pd

from fsclient import FeatureStoreUnavailable
from tests.fsclient.stack import source

LATE_S = 0.05
"""What a call may take beyond its ``timeout_s``."""
NOISE_S = 0.1
"""What a busy machine with two cores may add to a measured time: a thread or a collection that got in between."""


async def outcome(call: Awaitable[pd.DataFrame]) -> tuple[str, float, pd.DataFrame | None]:
    """Where the answer came from, or the error's kind; how long it took; the answer."""
    started = time.perf_counter()
    try:
        frame = await call
        return source(frame), time.perf_counter() - started, frame
    except FeatureStoreUnavailable:
        return "FeatureStoreUnavailable", time.perf_counter() - started, None


def in_time(took_s: float, timeout_s: float) -> bool:
    """Whether a call took no longer than its timeout and what it may be late."""
    return took_s <= timeout_s + LATE_S + NOISE_S
