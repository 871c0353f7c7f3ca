"""Outages: a feed is down when many of its symbols lack bars at once, and never because of one of them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.catalog import SESSIONS, TIMEFRAMES
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.sessions import expected_opens
from flows.inspect.outages import Outage, find_outages, split_gaps

FX, HOUR = SESSIONS["fx"], TIMEFRAMES["1h"]
US = 3_600_000_000
MONDAY = int(datetime(2024, 1, 8, tzinfo=UTC).timestamp() * 1e6)
OPENS = expected_opens(FX, HOUR, MONDAY, MONDAY + 14 * 24 * US)  # a weekend lies in the middle


def gaps_of(missing: dict[str, set[int]]) -> tuple[dict[str, Gaps], dict[str, tuple[int, int]]]:
    """Gaps and spans of symbols that have all bars of ``OPENS`` but these places; the first and last are there."""
    gaps, spans = {}, {}
    for name, places in missing.items():
        opens = np.delete(OPENS, sorted(places - {0, len(OPENS) - 1}))
        gaps[name] = find_gaps(opens, session=FX, timeframe=HOUR)
        spans[name] = int(opens[0]), int(opens[-1]) + US
    return gaps, spans


places = st.sets(st.integers(1, len(OPENS) - 2), max_size=40)
feeds = st.dictionaries(st.sampled_from([f"S{i}" for i in range(7)]), places, min_size=1)


def is_down(missing: dict[str, set[int]], place: int, share: float, least: int) -> bool:
    lacking = sum(place in bars for bars in missing.values())
    return lacking >= least and lacking >= share * len(missing)


@given(feeds, st.sampled_from([0.3, 0.5, 1.0]), st.integers(1, 4))
def test_a_bar_lies_in_an_outage_exactly_when_enough_symbols_lack_it(
    missing: dict[str, set[int]], share: float, least: int
) -> None:
    outages = find_outages(*gaps_of(missing), share=share, least=least)
    for place, open_us in enumerate(OPENS[1:-1].tolist(), 1):
        inside = any(o.start_us <= open_us < o.end_us for o in outages)
        assert inside == is_down(missing, place, share, least)


@given(feeds)
def test_outages_ascend_and_do_not_touch(missing: dict[str, set[int]]) -> None:
    outages = find_outages(*gaps_of(missing))
    assert all(outage.start_us < outage.end_us for outage in outages)
    assert all(outage.end_us < following.start_us for outage, following in pairwise(outages))
    assert all(3 <= outage.symbols <= outage.quoting <= len(missing) for outage in outages)


@given(feeds)
def test_no_missing_bar_is_lost_or_counted_twice(missing: dict[str, set[int]]) -> None:
    gaps, spans = gaps_of(missing)
    outages = find_outages(gaps, spans)
    for name in missing:
        pieces = split_gaps(gaps[name], outages, session=FX, timeframe=HOUR)
        assert sum(piece.missing_bars for piece in pieces) == gaps[name].missing_total == len(missing[name])
        assert all(earlier.end_us <= later.start_us for earlier, later in pairwise(pieces))
        for place in missing[name]:
            (piece,) = (p for p in pieces if p.start_us <= OPENS[place] < p.end_us)
            assert piece.cause == ("feed_down" if is_down(missing, place, 0.5, 3) else "missing")


@given(st.sets(st.sampled_from([f"S{i}" for i in range(6)]), min_size=1, max_size=2), places)
def test_one_or_two_symbols_are_never_a_feed(names: set[str], lacking: set[int]) -> None:
    assert find_outages(*gaps_of(dict.fromkeys(names, lacking))) == ()


def test_a_gap_that_outlasts_the_outage_is_cut() -> None:
    missing = {"A": set(range(10, 20)), "B": {12, 13}, "C": {12, 13, 14}, "D": set()}
    gaps, spans = gaps_of(missing)
    outages = find_outages(gaps, spans)
    assert outages == (Outage(start_us=int(OPENS[12]), end_us=int(OPENS[14]), symbols=3, quoting=4),)
    pieces = split_gaps(gaps["A"], outages, session=FX, timeframe=HOUR)
    assert [(p.missing_bars, p.cause) for p in pieces if p.missing_bars] == [
        (2, "missing"), (2, "feed_down"), (6, "missing"),
    ]  # fmt: skip


def test_a_weekend_is_closed_and_no_outage() -> None:
    gaps, spans = gaps_of({name: set() for name in "ABCD"})
    assert find_outages(gaps, spans) == ()
    pieces = split_gaps(gaps["A"], (), session=FX, timeframe=HOUR)
    assert {piece.cause for piece in pieces} == {"closed"}


def test_a_symbol_that_has_ended_does_not_count() -> None:
    """One of four symbols is no longer quoted: the other three are all there are."""
    gaps, spans = gaps_of({"A": {30, 31}, "B": {30, 31}, "C": {30, 31}, "D": set(), "E": set(), "F": set(), "G": set()})
    assert find_outages(gaps, spans) == ()
    for name in "DEFG":
        spans[name] = spans[name][0], int(OPENS[20]) + US
    (outage,) = find_outages(gaps, spans)
    assert (outage.symbols, outage.quoting) == (3, 3)


def test_what_can_not_be_meant_is_refused() -> None:
    gaps, spans = gaps_of({"A": set()})
    with pytest.raises(ValueError, match="A has gaps but no span"):
        find_outages(gaps, {})
    with pytest.raises(ValueError, match="share must be"):
        find_outages(gaps, spans, share=0)
