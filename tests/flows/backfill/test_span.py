"""The range of a backfill: cut on each timeframe's grid, and part of what makes a backfill that one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from feature_repo.catalog import SESSIONS, TIMEFRAMES
from flows.backfill.span import Span, backfill_key, span_of

FRAMES = ["1h", "4h"]
START, END = datetime(2024, 1, 12, tzinfo=UTC), datetime(2024, 1, 16, 23, tzinfo=UTC)


def test_a_span_is_cut_on_the_grid_of_each_timeframe() -> None:
    span = span_of(datetime(2024, 1, 9, 14, 30, tzinfo=UTC), None)
    first = [span.first_open(SESSIONS["fx"], TIMEFRAMES[tf]) for tf in ("1h", "4h", "1d")]
    assert [datetime.fromtimestamp((us or 0) / 1e6, UTC).strftime("%d %H:%M") for us in first] == [
        "09 15:00", "09 18:00", "09 22:00",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="is later than end"):
        span_of(END, START)


def test_a_backfill_is_that_one_by_its_arguments() -> None:
    span = span_of(START, END)
    key = backfill_key(["A", "B"], FRAMES, span)
    assert key == backfill_key(["B", "A"], FRAMES[::-1], span)
    assert len({key, backfill_key(None, FRAMES, span), backfill_key(["A", "B"], ["1h"], span),
                backfill_key(["A", "B"], FRAMES, Span())}) == 4  # fmt: skip
