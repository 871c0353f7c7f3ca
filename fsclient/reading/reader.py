"""The two seams of reading: what answers a client's questions, and what reads an online store for it.

Both are protocols. The rest of the client speaks to these, and one suite of tests each holds every implementation
to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from feature_repo.catalog import Symbol, Timeframe
from fsclient.answers.answers import LatestAnswer, RangeAnswer
from fsclient.answers.values import LatestValues, WindowValues
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import ComputeRequest, RangeRequest
from fsclient.resilience.guard import Guard
from fsclient.resilience.retry import Deadline


class Reader(Protocol):
    """What a client's questions are answered by: a repository's stores, or a service that reads them.

    Each read ends by its deadline, and raises FeatureStoreUnavailable when there is no answer.
    """

    guard: Guard

    async def latest(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """The newest values, as the online store has them."""

    async def recomputed(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """The newest values, without the online store."""

    async def range(self, request: RangeRequest, deadline: Deadline) -> RangeAnswer:
        """Stored bars or indicators."""

    async def computed(self, request: ComputeRequest, deadline: Deadline) -> RangeAnswer:
        """A feature that is computed when it is asked for."""

    async def close(self) -> None:
        """Ends connections and threads without waiting for work that still runs in one."""


class OnlineReader(Protocol):
    """Reads the newest values and windows that one repository has published.

    A symbol or field that was never published is absent from the answer, never an error. An online store that does
    not answer raises an error of ``resilience.guard.OUTAGE``. Any number of calls may be under way at once, on
    several event loops.
    """

    async def latest(self, request: LatestRequest) -> LatestValues:
        """The newest values of every symbol, with the close of the bar that each view holds, and doubts about them."""

    async def window(self, symbol: Symbol, timeframe: Timeframe, columns: Sequence[str]) -> WindowValues | None:
        """The symbol's last bars with these columns; None when nothing was published."""

    async def revision(self, symbol: Symbol, timeframe: Timeframe) -> bytes:
        """What changes with every publish of the symbol and timeframe, and with a doubt about it."""

    async def ping(self) -> None:
        """Returns once the store has answered."""

    async def close(self) -> None:
        """Ends all connections; later reads raise FeatureStoreUnavailable."""
