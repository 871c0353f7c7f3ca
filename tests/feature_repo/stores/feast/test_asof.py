"""The as-of join against the same question answered row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_repo.stores.feast.asof import match_rows

NEVER = np.iinfo(np.int64).min


class Row(NamedTuple):
    symbol: str
    event: int
    created: int


class Question(NamedTuple):
    symbol: str | None
    moment: int


def answer(question: Question, rows: Sequence[Row], *, by_created: bool, ttl: int | None) -> tuple[int, int] | None:
    """Event and created of the newest revision of the newest bar that counted at the moment, or None."""
    known = [
        (row.event, row.created)
        for row in rows
        if row.symbol == question.symbol
        and row.event <= question.moment
        and (not by_created or row.created <= question.moment)
    ]
    if not known or (ttl is not None and question.moment - max(known)[0] > ttl):
        return None
    return max(known)


def match(questions: Sequence[Question], rows: Sequence[Row], *, by_created: bool, ttl: int | None) -> list[Any]:
    matches = match_rows(
        pd.Series([a.symbol for a in questions], dtype="string"),
        np.array([a.moment for a in questions], dtype=np.int64),
        row_symbols=pa.chunked_array([pa.array([r.symbol for r in rows], pa.string())]),
        event_us=np.array([r.event for r in rows], dtype=np.int64),
        created_us=np.array([r.created for r in rows], dtype=np.int64) if by_created else None,
        ttl_us=ttl,
    )
    assert matches.type == pa.int64()
    return [None if i is None else (rows[i].event, rows[i].created) for i in matches.to_pylist()]


NAMES = ("EUR/USD", "GBP/USD", "\x00")
TICKS = 12  # few, so that all kinds of ties occur
EVERY = [Question(name, moment) for name in (*NAMES, "unknown", None) for moment in (NEVER, *range(TICKS + 1))]
ticks = st.integers(0, TICKS)
any_rows = st.lists(st.builds(Row, st.sampled_from(NAMES), ticks, ticks), max_size=40)
any_ttl = st.one_of(st.none(), st.integers(0, 6))


@settings(max_examples=25, deadline=None)
@given(any_rows, any_ttl)
# A whole history written at one moment.
@example([Row("EUR/USD", event, 10) for event in range(10)], None)
# A late revision of an old bar.
@example([Row("EUR/USD", 1, 1), Row("EUR/USD", 2, 2), Row("EUR/USD", 1, 5)], None)
# Revisions made before the bar closed.
@example([Row("EUR/USD", 9, 1), Row("EUR/USD", 9, 3), Row("EUR/USD", 9, 2)], 0)
def test_revisions_count_from_when_they_were_written(rows: list[Row], ttl: int | None) -> None:
    for questions in (EVERY, EVERY[::3]):  # the engine joins many in another way than few
        expected = [answer(a, rows, by_created=True, ttl=ttl) for a in questions]
        assert match(questions, rows, by_created=True, ttl=ttl) == expected


@settings(max_examples=25, deadline=None)
@given(any_rows, any_ttl)
def test_bars_count_from_their_close(rows: list[Row], ttl: int | None) -> None:
    one_a_bar = list({(row.symbol, row.event): row for row in rows}.values())
    for questions in (EVERY, EVERY[::3]):
        expected = [answer(a, one_a_bar, by_created=False, ttl=ttl) for a in questions]
        assert match(questions, one_a_bar, by_created=False, ttl=ttl) == expected


@pytest.mark.parametrize("by_created", [False, True])
def test_a_bar_is_seen_at_its_close_and_not_a_microsecond_before(by_created: bool) -> None:
    rows = [Row("EUR/USD", 3_600_000_000, 3_600_000_000)]
    questions = [Question("EUR/USD", 3_599_999_999), Question("EUR/USD", 3_600_000_000)]
    assert match(questions, rows, by_created=by_created, ttl=None) == [None, rows[0][1:]]


@pytest.mark.parametrize("by_created", [False, True])
def test_a_large_history_in_any_order(by_created: bool) -> None:
    random = np.random.default_rng(7)
    events = random.permutation(20_000)
    written = events + random.integers(0, 50, len(events)) if by_created else events
    rows = [Row("EUR/USD", int(e), int(c)) for e, c in zip(events, written, strict=True)]
    questions = [Question("EUR/USD", int(m)) for m in random.integers(0, 20_000, 30)]
    expected = [answer(a, rows, by_created=by_created, ttl=None) for a in questions]
    assert match(questions, rows, by_created=by_created, ttl=None) == expected


def test_nothing_stored_and_nothing_asked() -> None:
    assert match([Question("EUR/USD", 1)], [], by_created=True, ttl=None) == [None]
    assert match([], [Row("EUR/USD", 1, 1)], by_created=False, ttl=None) == []
