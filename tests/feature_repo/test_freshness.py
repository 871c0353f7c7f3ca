"""The limits of fresh, late and stale, and the word for an age."""

from __future__ import annotations

import pytest

from feature_repo.catalog import TIMEFRAMES
from feature_repo.freshness import LIMITS, freshness_of


def test_every_timeframe_has_limits_in_order() -> None:
    assert LIMITS.keys() == TIMEFRAMES.keys()
    assert all(0 <= limits.fresh < limits.late <= limits.between_runs for limits in LIMITS.values())


@pytest.mark.parametrize(
    ("timeframe", "age_bars", "word"),
    [
        ("1h", 0, "fresh"),
        ("1h", 1, "fresh"),
        ("1h", 2, "late"),
        ("1h", 3, "stale"),
        ("1m", 10, "late"),
        ("1m", 11, "stale"),
        ("1d", None, "stale"),
    ],
)
def test_an_age_has_one_word(timeframe: str, age_bars: int | None, word: str) -> None:
    assert freshness_of(timeframe, age_bars) == word
