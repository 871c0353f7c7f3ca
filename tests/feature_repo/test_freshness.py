"""One word for the age of a view."""

from __future__ import annotations

import pytest

from feature_repo.catalog import TIMEFRAMES
from feature_repo.freshness import MAX_AGE_BARS, freshness_of


def test_every_timeframe_has_a_limit() -> None:
    assert MAX_AGE_BARS.keys() == TIMEFRAMES.keys()


@pytest.mark.parametrize(
    ("timeframe", "age_bars", "word"),
    [("1h", 0, "fresh"), ("1h", 1, "fresh"), ("1h", 2, "late"), ("1h", 3, "stale"), ("1m", 10, "late"),
     ("1m", 11, "stale"), ("1d", None, "stale")],
)  # fmt: skip
def test_the_word_follows_the_limits_of_the_alerts(timeframe: str, age_bars: int | None, word: str) -> None:
    assert freshness_of(timeframe, age_bars) == word
