"""What may be asked over HTTP: the arguments of the client's methods by their own names, bounded, and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

LONGEST_S = 60.0
"""No question takes longer, whatever it asks for."""
MOST_NAMES = 1_000
MOST_STEPS = 10_000_000
"""Bars that a range may have room for: 19 years of minutes."""

Name: TypeAlias = Annotated[str, Field(max_length=100)]
Moment: TypeAlias = Annotated[str, Field(max_length=64, description="ISO-8601; naive means UTC")]
Names: TypeAlias = Annotated[list[Name], Field(max_length=MOST_NAMES)]
Value: TypeAlias = bool | int | float | Annotated[str, Field(max_length=200)] | None


class Question(BaseModel):
    """What all questions have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeframe: Name = "1h"
    timeout_s: Annotated[float, Field(gt=0, le=1e9, description="seconds; never more than 60")] = 10.0

    @property
    def patience_s(self) -> float:
        """How long the answer may take."""
        return min(self.timeout_s, LONGEST_S)


class LatestQuestion(Question):
    """The newest closed bar's features."""

    symbols: Names | Name
    features: Names | Name
    on_unavailable: Annotated[
        Literal["fail", "recompute"],
        Field(description="when the online store is away: an error, or an answer computed from the offline store"),
    ] = "fail"


class OhlcvQuestion(Question):
    """Bars whose ``open_time`` lies between two moments, both included; a date alone as the end is that whole day."""

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
    """Bars of a range and those before it, for a computation elsewhere."""

    symbol: Name
    start_date: Moment
    end_date: Moment
    warm_up: Annotated[int | None, Field(ge=0, le=1_000_000_000, description="null for all history")] = None
