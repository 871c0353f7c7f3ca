"""The outcome of a call during a fault: its answer or error, and how soon it came."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Self

import pandas as pd

from fsclient import FeatureStoreUnavailable
from tests.fsclient.stack import source

LATE_S = 0.05
"""What a call may take beyond its ``timeout_s``."""
NOISE_S = 0.1
"""What the process' other threads may add to a measured time: the proxy and the service are in it too."""
_COUNTS = Path("/proc/thread-self/schedstat")
_TICK_S = 0.005
_HELD_UP_S = 0.02  # a thread that computes lets others have their turn every 5 ms


class Stopwatch:
    """Takes a call's time, without that in which the machine did not let it work.

    A machine that is busy elsewhere may stop a process for half a second, or leave one of its threads waiting for a
    processor. The kernel counts the latter for the thread that calls. For the former, a thread sleeps beside the call:
    what it oversleeps while the process computes nothing, nobody in this process could have used.
    """

    taken_s: float

    def __enter__(self) -> Self:
        self._ended, self._held_up_s = threading.Event(), 0.0
        self._beside = threading.Thread(target=self._sleep, daemon=True)
        self._beside.start()
        self._began_s, self._waited_s = time.perf_counter(), _waited_for_a_processor_s()
        return self

    def __exit__(self, *_: object) -> None:
        took_s, waited_s = time.perf_counter() - self._began_s, _waited_for_a_processor_s() - self._waited_s
        self._ended.set()
        self._beside.join()
        self.taken_s = took_s - max(self._held_up_s, waited_s)

    def _sleep(self) -> None:
        while not self._ended.is_set():
            began_s, computed_s = time.perf_counter(), time.process_time()
            self._ended.wait(_TICK_S)
            over_s = time.perf_counter() - began_s - _TICK_S - (time.process_time() - computed_s)
            self._held_up_s += over_s if over_s > _HELD_UP_S else 0.0


def _waited_for_a_processor_s() -> float:
    """How long this thread has waited for a processor since it began; 0 where the kernel does not report it."""
    return int(_COUNTS.read_text().split()[1]) / 1e9 if _COUNTS.exists() else 0.0


async def outcome(call: Awaitable[pd.DataFrame]) -> tuple[str, float, pd.DataFrame | None]:
    """Where the answer came from, or the error's kind; how long it took; the answer."""
    frame = None
    with Stopwatch() as watch, suppress(FeatureStoreUnavailable):
        frame = await call
    return source(frame) if frame is not None else "FeatureStoreUnavailable", watch.taken_s, frame


def in_time(took_s: float, timeout_s: float) -> bool:
    """Whether a call took no longer than its timeout and what it may be late."""
    return took_s <= timeout_s + LATE_S + NOISE_S
