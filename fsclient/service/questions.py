"""Questions that may be asked over HTTP: the client's arguments under their own names, bounded, and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

MAX_TIMEOUT_S = 60.0
"""No question takes longer, whatever timeout it asks for."""
MAX_NAMES = 1_000
MAX_STEPS = 10_000_000
"""Bars that a range may span: 19 years of minutes."""

Name: TypeAlias = Annotated[str, Field(max_length=100)]
Moment: TypeAlias = Annotated[str, Field(max_length=64, description="ISO-8601; naive means UTC")]
Names: TypeAlias = Annotated[list[Name], Field(max_length=MAX_NAMES)]
Value: TypeAlias = bool | int | float | Annotated[str, Field(max_length=200)] | None


class Question(BaseModel):
    """The fields that all questions have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeframe: Name = "1h"
    timeout_s: Annotated[float, Field(gt=0, le=1e9, description="seconds; never more than 60")] = 10.0

    @property
    def wait_s(self) -> float:
        """How long the answer may take."""
        return min(self.timeout_s, MAX_TIMEOUT_S)


class LatestQuestion(Question):
    """The newest closed bar's features."""

    symbols: Names | Name
    features: Names | Name
    on_unavailable: Annotated[
        Literal["fail", "recompute"],
        Field(description="when the online store does not answer: an error, or values computed from the offline store"),
    ] = "fail"


class OhlcvQuestion(Question):
    """Bars by ``open_time``, both ends inclusive; a date alone as the end means that whole day."""

    symbol: Name
    start_date: Moment
    end_date: Moment
    as_known_at: Moment | None = None


class IndicatorsQuestion(OhlcvQuestion):
    """Indicators of bars."""

    indicators: Names | Name


class ComputeQuestion(Question):
    """A feature to compute."""

    feature_name: Name
    symbol: Name
    start_date: Moment
    end_date: Moment
    parameters: Annotated[dict[Name, Value], Field(max_length=50)] = {}


class HistoryQuestion(Question):
    """Bars of a range and the bars before it, for a computation by the caller."""

    symbol: Name
    start_date: Moment
    end_date: Moment
    warm_up: Annotated[int | None, Field(ge=0, le=1_000_000_000, description="null for all history")] = None
