"""What answers a client's questions: a repository's stores, or a service that reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from fsclient.answers.answers import LatestAnswer, RangeAnswer
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import ComputeRequest, RangeRequest
from fsclient.resilience.guard import Guard
from fsclient.resilience.retry import Deadline


class Reader(Protocol):
    """Each of its reads ends by the deadline, and raises FeatureStoreUnavailable when there is no answer."""

    guard: Guard

    async def latest(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """The newest values, as the online store has them."""

    def begin_latest(
        self,
        request: LatestRequest,
        deadline: Deadline,
        answered: Callable[[LatestAnswer], None],
        failed: Callable[[Callable[[], Awaitable[LatestAnswer]]], None],
    ) -> bool:
        """Begins ``latest`` without a task, if that is possible; whether it did.

        Args:
            answered: gets the answer.
            failed: gets what still may find one, to be run in a task.
        """

    async def recomputed(self, request: LatestRequest, deadline: Deadline) -> LatestAnswer:
        """The newest values, without the online store."""

    async def range(self, request: RangeRequest, deadline: Deadline) -> RangeAnswer:
        """Stored bars or indicators."""

    async def computed(self, request: ComputeRequest, deadline: Deadline) -> RangeAnswer:
        """A feature that is computed when asked for."""

    def now_us(self) -> int:
        """The moment, microseconds since 1970-01-01 UTC."""

    async def close(self) -> None:
        """Ends connections and threads; what still runs in one is not waited for."""
